//! As which users of the system mail processes run, as far as the configuration says it.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use crate::configuration::Section;
use crate::installation::Installation;
use crate::{Finding, MailUser};

/// What Dovecot takes for the lowest user id of mail processes where the configuration says
/// nothing.
const FIRST_VALID_UID: u32 = 500;
/// The user id that means nobody.
const NOBODY: u32 = 65_534;

/// Users of mail processes. A name that the host does not know is a finding.
pub(crate) fn mail_users(
    installation: &Installation,
    configuration: &Section,
    findings: &mut Vec<Finding>,
) -> Vec<MailUser> {
    let mut users = BTreeMap::new();
    for (user, source) in named(configuration) {
        match installation.user_id(&user) {
            Some(uid) => {
                users.entry(uid).or_insert(source);
            }
            None => findings.push(Finding::problem(format!(
                "{source} is `{user}`, and this host has no such user: no mail process can run as it"
            ))),
        }
    }
    if userdbs(configuration).any(|(name, userdb)| driver(name, userdb) == Some("passwd")) {
        for uid in of_system(installation, configuration) {
            users
                .entry(uid)
                .or_insert_with(|| "the userdb `passwd`".to_owned());
        }
    }
    let users = users.into_iter();
    users
        .map(|(uid, source)| MailUser { uid, source })
        .collect()
}

/// Says of which mail users the configuration does not tell as whom their processes run: it may be
/// in a database, or differ from user to user.
pub(crate) fn unknown(configuration: &Section) -> Option<Finding> {
    let has_mail_uid = configuration
        .get("mail_uid")
        .is_some_and(|uid| !uid.is_empty());
    let mut userdbs = userdbs(configuration).peekable();
    let is_unknown = match userdbs.peek() {
        None => !has_mail_uid,
        Some(_) => userdbs.any(|(name, userdb)| match uid(name, userdb) {
            Some(uid) => uid.contains('%'),
            None => driver(name, userdb) != Some("passwd") && !has_mail_uid,
        }),
    };
    is_unknown.then(|| {
        Finding::warning(
            "cannot tell as whom mail processes run: `mail_uid` is not set, or the userdb says it for each user. \
             Whether they get to the files, sockets and directories of the plugin, and whether `allow` of [relay] has them, was not checked; \
             `doveadm user NAME` shows the `uid`",
        )
    })
}

/// Says what only root can find out: whether others get to a path.
pub(crate) fn unasked(users: &[MailUser]) -> Option<Finding> {
    // In a namespace, or without /proc, nothing is claimed.
    let own = std::fs::metadata("/proc/self").ok()?.uid();
    let is_foreign = own != 0 && users.iter().any(|user| user.uid != own);
    is_foreign.then(|| {
        Finding::warning(
            "whether mail processes get to the files, sockets and directories of the plugin was not checked: run it as root",
        )
    })
}

/// Users that the configuration names, and where.
fn named(configuration: &Section) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut is_open = true;
    for (name, userdb) in userdbs(configuration) {
        let uid = uid(name, userdb);
        if let Some(uid) = uid.filter(|uid| !uid.contains('%')) {
            found.push((uid.to_owned(), "`uid` of the userdb".to_owned()));
        }
        // These say it for each user.
        is_open &= uid.is_none() && driver(name, userdb) != Some("passwd");
    }
    let mail_uid = configuration.get("mail_uid").filter(|uid| !uid.is_empty());
    if let Some(uid) = mail_uid.filter(|_| is_open) {
        found.push((uid.to_owned(), "`mail_uid`".to_owned()));
    }
    found
}

fn userdbs(configuration: &Section) -> impl Iterator<Item = (&str, &Section)> {
    let of_2_3 = configuration
        .sections
        .iter()
        .filter(|section| section.name == "userdb");
    of_2_3
        .map(|userdb| ("", userdb))
        .chain(configuration.named("userdb"))
}

/// The user id that a userdb has for all of its users; there may be a variable in it.
fn uid<'s>(name: &'s str, userdb: &'s Section) -> Option<&'s str> {
    let is_static = driver(name, userdb) == Some("static");
    let fields = ["override_fields", "args", "default_fields"];
    let mut lists = fields.iter().filter(|list| **list != "args" || is_static);
    let of_2_3 = lists.find_map(|list| uid_of(userdb.get(list)?));
    let of_2_4 = || userdb.section("fields")?.get("uid");
    of_2_3.or_else(of_2_4)
}

fn driver<'s>(name: &'s str, userdb: &'s Section) -> Option<&'s str> {
    userdb
        .get("driver")
        .or(Some(name).filter(|name| !name.is_empty()))
}

fn uid_of(fields: &str) -> Option<&str> {
    fields
        .split(' ')
        .find_map(|field| field.strip_prefix("uid="))
}

/// User ids of the system's own users that Dovecot takes for mail users.
fn of_system(installation: &Installation, configuration: &Section) -> Vec<u32> {
    let number = |name: &str, default| {
        let set = configuration.get(name).and_then(|uid| uid.parse().ok());
        set.unwrap_or(default)
    };
    let first = number("first_valid_uid", FIRST_VALID_UID);
    let last = match number("last_valid_uid", 0) {
        0 => u32::MAX,
        last => last,
    };
    let passwd = std::fs::read_to_string(installation.path("/etc/passwd")).unwrap_or_default();
    let uids = passwd
        .lines()
        .filter_map(|line| line.split(':').nth(2)?.parse().ok());
    uids.filter(|uid| (first..=last).contains(uid) && *uid != NOBODY)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_mail_processes_is_the_userdbs_or_else_mail_uid() {
        let static_2_3 = "userdb {\n driver = static\n args = uid=5000 gid=5000 home=/x/%u\n}\n";
        let static_2_4 = "userdb static {\n fields {\n  uid = 5000\n }\n}\n";
        for (configuration, expected) in [
            ("mail_uid = vmail\n".to_owned(), "vmail `mail_uid`"),
            (static_2_3.to_owned(), "5000 `uid` of the userdb"),
            (
                format!("mail_uid = vmail\n{static_2_3}"),
                "5000 `uid` of the userdb",
            ),
            (
                format!("mail_uid = vmail\n{static_2_4}"),
                "5000 `uid` of the userdb",
            ),
            (
                "userdb {\n driver = ldap\n override_fields = home=/x uid=7\n}\n".to_owned(),
                "7 `uid` of the userdb",
            ),
            (
                "mail_uid = 7\nuserdb {\n driver = sql\n args = /etc/uid=8\n}\n".to_owned(),
                "7 `mail_uid`",
            ),
            (
                "mail_uid = 7\nuserdb {\n driver = passwd\n}\n".to_owned(),
                "",
            ),
            ("mail_uid = 7\nuserdb passwd {\n}\n".to_owned(), ""),
            (
                "userdb static {\n fields {\n  uid = %{user}\n }\n}\n".to_owned(),
                "",
            ),
            (String::new(), ""),
        ] {
            let found = named(&Section::parse(&configuration));
            let found: Vec<String> = found
                .iter()
                .map(|(user, source)| format!("{user} {source}"))
                .collect();
            assert_eq!(found.join(", "), expected, "{configuration}");
        }
    }

    #[test]
    fn what_the_configuration_does_not_say_of_mail_users_is_said() {
        for (configuration, is_unknown) in [
            ("mail_uid = vmail\n", false),
            ("mail_uid = vmail\nuserdb {\n driver = sql\n}\n", false),
            ("userdb {\n driver = passwd\n}\n", false),
            ("userdb passwd {\n}\n", false),
            (
                "userdb {\n driver = ldap\n override_fields = uid=7\n}\n",
                false,
            ),
            ("userdb static {\n fields {\n  uid = 5000\n }\n}\n", false),
            ("", true),
            ("userdb {\n driver = sql\n}\n", true),
            (
                "userdb {\n driver = passwd-file\n args = /etc/users\n}\n",
                true,
            ),
            ("userdb ldap {\n}\n", true),
            (
                "mail_uid = vmail\nuserdb static {\n fields {\n  uid = %{user}\n }\n}\n",
                true,
            ),
            ("userdb passwd {\n}\nuserdb sql {\n}\n", true),
        ] {
            let found = unknown(&Section::parse(configuration));
            assert_eq!(found.is_some(), is_unknown, "{configuration}");
        }
    }
}
