//! Secrets in a configuration that every user of the host can read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::{fmt, fs};

use toml::{Table, Value};

/// The right of everybody to read a file.
const READ_BY_OTHERS: u32 = 0o004;
/// What names of settings that hold a secret have in them: those of this configuration, those of
/// librdkafka, and what settings of scripts are called. A new setting of the type `Secret` that is
/// none of these fails the test below.
const OF_SECRETS: [&str; 8] = [
    "password",
    "passcrypt",
    "passphrase",
    "secret",
    "api_key",
    "apikey",
    "ssl.key.pem",
    "private.key.pem",
];
/// Behind the name of a setting that holds a secret, where another word behind it means another
/// thing, as in `token_endpoint`.
const ENDS_OF_SECRETS: [&str; 1] = ["token"];
/// Behind the name of a setting that says where the secret is, or whose it is.
const ELSEWHERE: [&str; 3] = ["_file", ".location", "_source"];

/// A secret that others can read, by the name of its setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exposed {
    file: String,
    setting: String,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, setting } = self;
        write!(
            f,
            "every user of this host can read `{file}`, and the secret `{setting}` is in it: `chmod o= {file}`, and give the file the group of the server"
        )
    }
}

/// The first secret in a file that others can read.
pub(super) fn find(file: &Path, text: &str) -> Option<Exposed> {
    let mode = fs::metadata(file).ok()?.permissions().mode();
    if mode & READ_BY_OTHERS == 0 {
        return None;
    }
    let setting = secret_of(&toml::from_str(text).ok()?)?;
    Some(Exposed {
        file: file.display().to_string(),
        setting,
    })
}

fn secret_of(table: &Table) -> Option<String> {
    let mut settings = table.iter();
    settings.find_map(|(name, value)| secret_in(name, value))
}

fn secret_in(name: &str, value: &Value) -> Option<String> {
    let found = |text: &str| is_secret(name, text).then(|| name.to_owned());
    match value {
        Value::Table(inner) => secret_of(inner),
        Value::Array(values) => values.iter().find_map(|value| secret_in(name, value)),
        Value::String(text) => found(text),
        // Properties of librdkafka and settings of scripts may be numbers.
        Value::Integer(number) => found(&number.to_string()),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => None,
    }
}

fn is_secret(name: &str, text: &str) -> bool {
    let name = &*name.to_ascii_lowercase();
    let is_named = OF_SECRETS.iter().any(|part| name.contains(part))
        || ENDS_OF_SECRETS.iter().any(|end| name.ends_with(end));
    let is_here = !ELSEWHERE.iter().any(|end| name.ends_with(end));
    let has_url = || match name {
        // As Dovecot 2.3 writes options: `ox:url=URL ...`.
        "driver" | "push_notification_driver" => {
            let mut options = text.split_whitespace();
            options.any(|option| {
                option
                    .split_once("url=")
                    .is_some_and(|(_, url)| has_password(url))
            })
        }
        _ => (name == "url" || name.ends_with("_url")) && has_password(text),
    };
    !text.is_empty() && ((is_named && is_here) || has_url())
}

/// Whether a URL has a password in it.
fn has_password(text: &str) -> bool {
    let parsed = url::Url::parse(text).ok();
    parsed.is_some_and(|url| {
        let mut query = url.query_pairs();
        url.password().is_some() || query.any(|(key, _)| key == "password")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_whose_type_is_a_secret_is_one() {
        let sources = [
            include_str!("mail_push.rs"),
            include_str!("mail_push/sections.rs"),
        ];
        let lines = sources.iter().flat_map(|source| source.lines());
        let names = lines.filter_map(|line| {
            let field = line.trim().strip_suffix(": Option<Secret>,")?;
            field.strip_prefix("pub(crate) ")
        });
        // What names a place of a secret is of that type, too.
        let (places, secrets): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with("_file"));
        assert!(
            secrets.len() >= 3 && places.len() >= 4,
            "{secrets:?} {places:?}"
        );
        for name in secrets {
            assert!(is_secret(name, "geheim"), "{name}");
        }
        for name in places {
            assert!(!is_secret(name, "/etc/p"), "{name}");
        }
    }

    #[test]
    fn a_secret_that_others_can_read_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("dovecast.toml");
        let check = |text: &str, mode: u32, expected: Option<&str>| {
            fs::write(&file, text).expect("write");
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
            let found = find(&file, text).map(|exposed| exposed.setting);
            assert_eq!(found.as_deref(), expected, "{mode:o} {text}");
        };
        let ox = "[ox]\nuser = 'a'\npassword = 'geheim'";
        check(ox, 0o644, Some("password"));
        check(ox, 0o640, None);
        check("data_dir = '/a'", 0o644, None);
        for (text, expected) in [
            ("[store]\nurl = 'postgres://a:geheim@h/d'", Some("url")),
            (
                "[store]\nurl = 'postgres://h/d?password=geheim'",
                Some("url"),
            ),
            ("[store]\nurl = 'postgres://a@h/d'", None),
            (
                "[kafka.properties]\n'sasl.password' = 'geheim'",
                Some("sasl.password"),
            ),
            ("[kafka.properties]\n'sasl.password_file' = '/etc/p'", None),
            (
                "[kafka_clusters.a.properties]\n'ssl.key.pem' = 'geheim'",
                Some("ssl.key.pem"),
            ),
            ("[kafka.properties]\n'ssl.key.location' = '/etc/p'", None),
            ("[secrets]\nkeys = 'file:/etc/p'", None),
            (
                "[mail_push.credstorage]\npasscrypt = 'geheim'",
                Some("passcrypt"),
            ),
            (
                "[mail_push.credstorage]\npasscrypt_file = 'credential:p'",
                None,
            ),
            (
                "[mail_push]\nmaster_password = 'geheim'",
                Some("master_password"),
            ),
            ("[mail_push]\npassword_source = 'session'", None),
            ("[mail_push.fcm]\ntoken_endpoint = 'https://h/'", None),
            ("[quota]\ntoken_messages_per_second = 1", None),
            (
                "[kafka.properties]\n'sasl.password' = 7",
                Some("sasl.password"),
            ),
            (
                "[kafka.properties]\n'sasl.oauthbearer.assertion.private.key.passphrase' = 'geheim'",
                Some("sasl.oauthbearer.assertion.private.key.passphrase"),
            ),
            (
                "[push_notification.a.lua_settings]\nChat_Token = 'geheim'",
                Some("Chat_Token"),
            ),
            ("[[a]]\nb = 1\n[[a]]\npassword = 'geheim'", Some("password")),
            ("a = [[{ url = 'http://a:geheim@h/' }]]", Some("url")),
            ("[a]\n'api_key' = ['geheim']", Some("api_key")),
            (
                "[push_notification.a]\ndriver = 'ox'\nox_url = 'http://a:geheim@h/'",
                Some("ox_url"),
            ),
            (
                "[push_notification.a]\ndriver = 'ox:url=http://a:geheim@h/ max_retries=1'",
                Some("driver"),
            ),
            (
                "[push_notification.a]\ndriver = 'ox'\nox_url = 'http://h/'\nox_url_file = '/p'",
                None,
            ),
        ] {
            check(text, 0o604, expected);
        }
        let said = find(&file, ox).expect("a finding").to_string();
        assert!(
            !said.contains("geheim") && said.contains("`password`"),
            "{said}"
        );
    }
}
