//! As which users of the system mail processes run, as far as the configuration says it.

use std::collections::BTreeMap;

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

/// Users that the configuration names, and where.
fn named(configuration: &Section) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut is_open = true;
    for (name, userdb) in userdbs(configuration) {
        let driver = driver(name, userdb);
        let fields = ["override_fields", "args", "default_fields"];
        let mut lists = fields
            .iter()
            .filter(|list| **list != "args" || driver == Some("static"));
        let of_2_3 = lists.find_map(|list| uid_of(userdb.get(list)?));
        let of_2_4 = userdb
            .section("fields")
            .and_then(|fields| fields.get("uid"));
        if let Some(uid) = of_2_3.or(of_2_4).filter(|uid| !uid.contains('%')) {
            found.push((uid.to_owned(), "`uid` of the userdb".to_owned()));
        }
        // These say it for each user.
        is_open &= of_2_3.is_none() && of_2_4.is_none() && driver != Some("passwd");
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
}
