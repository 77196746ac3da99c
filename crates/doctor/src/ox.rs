//! Dovecot's own driver `ox`, beside ours or in its place: whose name its mails have.

use crate::Finding;
use crate::configuration::Section;

/// A driver instance: where its URL goes, and whether the user's name is taken from METADATA.
struct Instance<'c> {
    url: &'c str,
    is_named_by_user: bool,
}

/// Does an IMAP user say who he is?
pub(crate) fn names(configuration: &Section, findings: &mut Vec<Finding>) {
    let instances = of_2_4(configuration).chain(of_2_3(configuration));
    for instance in instances.filter(|instance| instance.is_named_by_user) {
        if says_whose_mail_it_is(instance.url) {
            continue;
        }
        findings.push(Finding::problem(
            "the driver `ox` has `user_from_metadata`: every IMAP user writes the name that his mails get, and may take another's. \
             Leave it out, or put `?of=%u` at the end of the URL (2.4: `?of=%{user}`, in a userdb field `push_notification/NAME/ox_url`), so that dovecast takes names of the same domain only, \
             and those that `users` of [ox] lists",
        ));
    }
}

fn of_2_4(configuration: &Section) -> impl Iterator<Item = Instance<'_>> {
    let is_ox = |(name, block): &(&str, &Section)| block.get("driver").unwrap_or(name) == "ox";
    let blocks = configuration.named("push_notification").filter(is_ox);
    blocks.map(|(name, block)| {
        // A URL with a variable is none to Dovecot 2.4: where it has one, a userdb says it.
        let field = format!("push_notification/{name}/ox_url");
        let of_user = configuration
            .named("userdb")
            .find_map(|(_, userdb)| userdb.section("fields")?.get(&field));
        let url = of_user.or_else(|| block.get("ox_url"));
        Instance {
            url: url.unwrap_or_default(),
            is_named_by_user: block.get("ox_user_from_metadata") == Some("yes"),
        }
    })
}

fn of_2_3(configuration: &Section) -> impl Iterator<Item = Instance<'_>> {
    let plugin = configuration.section("plugin");
    let settings = plugin.into_iter().flat_map(|plugin| &plugin.settings);
    let drivers = settings.filter(|(name, _)| name.starts_with("push_notification_driver"));
    drivers.filter_map(|(_, value)| {
        let options = value.strip_prefix("ox:")?.split(' ');
        let url = options
            .clone()
            .find_map(|option| option.strip_prefix("url="));
        let name = |option: &str| option.split('=').next() == Some("user_from_metadata");
        Some(Instance {
            url: url.unwrap_or_default(),
            is_named_by_user: options.clone().any(name),
        })
    })
}

/// Whether Dovecot puts the user, and nothing else, into the parameter of the URL that dovecast
/// looks at, which is the first of its name.
fn says_whose_mail_it_is(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let value = query.split('&').find_map(|pair| pair.strip_prefix("of="));
    let value = value.map(|value| value.replace(' ', ""));
    // Of either version; names are often folded.
    let user = ["%u", "%Lu", "%{user}", "%{user|lower}"];
    value.is_some_and(|value| user.contains(&value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_names_himself_is_a_problem_unless_the_url_says_whose_mail_it_is() {
        let driver = |options: &str| {
            format!(
                "plugin {{\n  push_notification_driver = kafka\n  push_notification_driver2 = {options}\n}}\n"
            )
        };
        let block = |lines: &str| format!("push_notification mails {{\n  driver = ox\n{lines}}}\n");
        let with_userdb = |field: &str| {
            let named = "  ox_url = http://x/\n  ox_user_from_metadata = yes\n";
            let fields = format!("userdb static {{\n  fields {{\n    {field}\n  }}\n}}\n");
            block(named) + &fields
        };
        for (configuration, problems) in [
            (driver("ox:url=http://a:b@x/"), 0),
            (driver("ox:url=http://a:b@x/ user_from_metadata"), 1),
            (
                driver("ox:user_from_metadata= cache_lifetime=1m url=http://x/?of=joe"),
                1,
            ),
            (driver("ox:url=http://x/?of=%u user_from_metadata"), 0),
            (driver("ox:url=http://x/?a=b&of=%Lu user_from_metadata"), 0),
            (driver("ox:url=http://x/?of=%user user_from_metadata"), 1),
            (driver("ox:url=http://x/?of=%u user_from_metadata"), 0),
            (
                driver("ox:url=http://x/?of=joe&of=%u user_from_metadata"),
                1,
            ),
            (
                driver("ox:url=http://x/?of=%u&of=joe user_from_metadata"),
                0,
            ),
            (driver("dlog"), 0),
            (block("  ox_url = http://x/\n"), 0),
            (
                block("  ox_url = http://x/\n  ox_user_from_metadata = no\n"),
                0,
            ),
            (
                block("  ox_url = http://x/\n  ox_user_from_metadata = yes\n"),
                1,
            ),
            (
                with_userdb("push_notification/mails/ox_url = http://x/?of=%{user}"),
                0,
            ),
            (
                with_userdb("push_notification/mails/ox_url = http://x/?of=%{user | lower}"),
                0,
            ),
            (
                with_userdb("push_notification/mails/ox_url = http://x/?of=%{userdb:name}"),
                1,
            ),
            (
                with_userdb("push_notification/others/ox_url = http://x/?of=%{user}"),
                1,
            ),
        ] {
            let mut findings = Vec::new();
            names(&Section::parse(&configuration), &mut findings);
            assert_eq!(findings.len(), problems, "{configuration}");
        }
    }
}
