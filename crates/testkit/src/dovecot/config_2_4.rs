//! The configuration as Dovecot 2.4 wants it; what it stands for is as in `config_2_3`.
//!
//! Values are quoted, and `%{` in them is escaped, so that plugins see them as the test wrote them.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use super::builder::MailFormat;
use super::layout::Layout;
use super::settings::{CLIENT_LIMIT, PROCESS_LIMIT, SPECIAL_USE_MAILBOXES, Settings, yes_no};
use super::{IMAP_PORT, LMTP_PORT, MAIL_UID, PASSWORD};

/// The text of `dovecot.conf`.
pub(super) fn dovecot_conf(
    settings: &Settings,
    layout: &Layout,
    address: Ipv4Addr,
) -> Result<String> {
    ensure!(
        settings.plugin_section.is_empty(),
        "Dovecot 2.4 has no plugin section for the setting `{}`: use `driver`, `kafka`, `field` or `config`",
        settings.plugin_section[0].key
    );
    let mut text = general(settings, layout, address)?;
    text += &mail(settings)?;
    text += &users_databases(settings, layout)?;
    text += &services(settings);
    text += &plugins(settings);
    text += &drivers(settings)?;
    text += &kafka(settings)?;
    text += &settings.appended;
    Ok(text)
}

fn general(settings: &Settings, layout: &Layout, address: Ipv4Addr) -> Result<String> {
    let mut text = format!(
        "\
dovecot_config_version = 2.4.1
dovecot_storage_version = 2.4.1
base_dir = {run}
state_dir = {state}
log_path = {log}
info_log_path = {log}
debug_log_path = {debug_log}
protocols = imap lmtp
listen = {address}
ssl = no
auth_allow_cleartext = yes
auth_mechanisms = plain login
postmaster_address = postmaster@testkit.example
import_environment {{
",
        run = layout.run().display(),
        state = layout.state().display(),
        log = layout.log().display(),
        debug_log = layout.debug_log().display(),
    );
    let set = settings.environment.iter().map(|(name, _)| name);
    // One that is not set would be imported as an empty one.
    let imported = settings.imported.iter();
    for name in set.chain(imported.filter(|name| std::env::var_os(name).is_some())) {
        // Expanded only by what sets the environment: a value expanded as that of a setting is cut
        // at its first blank.
        text += &assignment(1, name, &format!("%{{env:{name}}}"))?;
    }
    Ok(text + "}\n")
}

fn mail(settings: &Settings) -> Result<String> {
    let (driver, path, list_index) = match settings.mail_format {
        MailFormat::Maildir => ("maildir", "~/Maildir", false),
        MailFormat::Sdbox => ("sdbox", "~/sdbox", true),
    };
    let mut text = format!(
        "
mail_driver = {driver}
mail_path = {path}
mailbox_list_index = {list_index}
mail_attribute {{
  dict file {{
    path = %{{home}}/dovecot-attributes
  }}
}}
first_valid_uid = 1
mail_uid = {MAIL_UID}
mail_gid = {MAIL_UID}
mail_max_userip_connections = 10000
imap_metadata = yes
{delimiter}{attachments}\
namespace inbox {{
  inbox = yes
  separator = /
",
        list_index = yes_no(settings.mailbox_list_index.unwrap_or(list_index)),
        delimiter = assignment(0, "recipient_delimiter", &settings.recipient_delimiter)?,
        // Since 2.4.2 it has a default, which makes keywords.
        attachments = if settings.default_attachment_keywords {
            ""
        } else {
            "mail_attachment_detection_options =\n"
        },
    );
    if settings.special_use_mailboxes {
        for name in SPECIAL_USE_MAILBOXES {
            let _ = write!(
                text,
                "  mailbox {name} {{\n    special_use = \\{name}\n    auto = create\n  }}\n"
            );
        }
    }
    Ok(text + "}\n")
}

fn users_databases(settings: &Settings, layout: &Layout) -> Result<String> {
    let mut text = format!(
        "
auth_username_chars =
auth_username_format = {username_format}
auth_failure_delay = 0
passdb static {{
  password = {PASSWORD}
}}
userdb static {{
  # The users with fields of their own get them in addition.
  result_success = continue-ok
  fields {{
    uid = {MAIL_UID}
    gid = {MAIL_UID}
    home = {homes}/%{{user}}
",
        username_format = if settings.lowercase_user_names {
            "%{user | lower}"
        } else {
            "%{user}"
        },
        homes = layout.homes().display(),
    );
    for (name, value) in &settings.fields {
        text += &assignment(2, name, value)?;
    }
    let _ = write!(
        text,
        "  }}\n}}\nuserdb passwd-file {{\n  passwd_file_path = {}\n}}\n",
        layout.users().display()
    );
    Ok(text)
}

fn services(settings: &Settings) -> String {
    let vsz_limit = settings
        .vsz_limit
        .as_ref()
        .map(|limit| format!("default_vsz_limit = {limit}\n"))
        .unwrap_or_default();
    format!(
        "
default_process_limit = {PROCESS_LIMIT}
default_client_limit = {CLIENT_LIMIT}
lmtp_user_concurrency_limit = {PROCESS_LIMIT}
{vsz_limit}\
service imap-login {{
  # One process takes all logins, a thousand at once included.
  restart_request_count = unlimited
  process_limit = 1
  inet_listener imap {{
    port = {IMAP_PORT}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service imap {{
  process_limit = {PROCESS_LIMIT}
}}
service lmtp {{
  process_limit = {PROCESS_LIMIT}
  inet_listener lmtp {{
    port = {LMTP_PORT}
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
"
    )
}

fn plugins(settings: &Settings) -> String {
    let mut text = "\nmail_plugins {\n".to_owned();
    for name in settings.mail_plugins() {
        let _ = writeln!(text, "  {name} = yes");
    }
    text += "}\n";
    if settings.lmtp_sieve {
        for protocol in ["lmtp", "lda"] {
            let _ = write!(
                text,
                "protocol {protocol} {{\n  mail_plugins {{\n    sieve = yes\n  }}\n}}\n"
            );
        }
        text += "sieve_script personal {\n  driver = file\n  path = ~/.dovecot.sieve\n}\n";
    }
    text
}

/// A block for each driver, in the order in which the test named them; the names of the blocks mean
/// nothing.
fn drivers(settings: &Settings) -> Result<String> {
    let mut text = String::new();
    for (i, driver) in settings.drivers.iter().enumerate() {
        let (name, options) = driver.split_once(':').unwrap_or((driver, ""));
        let _ = write!(text, "push_notification d{} {{\n  driver = {name}\n", i + 1);
        if name != "kafka" || settings.config_module.is_some() {
            for option in options.split_whitespace() {
                let (option, value) = option.split_once('=').unwrap_or((option, ""));
                text += &assignment(1, &format!("{name}_{option}"), value)?;
            }
        }
        text += "}\n";
    }
    Ok(text)
}

/// The general settings of the driver kafka, unless Dovecot has not been told of them.
fn kafka(settings: &Settings) -> Result<String> {
    let (mut text, mut properties) = (String::new(), String::new());
    if settings.config_module.is_none() {
        return Ok(text);
    }
    for (name, value) in &settings.kafka {
        if let Some(property) = name.strip_prefix("settings.") {
            properties += &assignment(1, property, value)?;
        } else {
            let name = name.strip_prefix("kafka_").unwrap_or(name);
            text += &assignment(0, &format!("push_notification_kafka_{name}"), value)?;
        }
    }
    if !properties.is_empty() {
        let _ = write!(
            text,
            "push_notification_kafka_settings {{\n{properties}}}\n"
        );
    }
    Ok(text)
}

/// A line `name = "value"` that stands for just this value.
fn assignment(depth: usize, name: &str, value: &str) -> Result<String> {
    ensure!(
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "=#{}\"'".contains(c)),
        "`{name}` cannot be the name of a setting"
    );
    let value = quoted(value).with_context(|| format!("setting `{name}`"))?;
    Ok(format!(
        "{:indent$}{name} = {value}\n",
        "",
        indent = depth * 2
    ))
}

/// A quoted value, which keeps `#`, `$`, `<`, quotes and outer blanks from meaning anything, an
/// empty one included.
fn quoted(value: &str) -> Result<String> {
    ensure!(
        !value.contains(['\n', '\r', '\0']),
        "value `{value}` has more than one line"
    );
    let value = value.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("\"{}\"", literal(&value)))
}

/// Only `%{` begins a variable.
fn literal(value: &str) -> String {
    value.replace("%{", "%%{")
}

/// The text of the passwd-file: `user:password:uid:gid:gecos:home:shell:fields`.
pub(super) fn users(settings: &Settings, layout: &Layout) -> Result<String> {
    let mut text = String::new();
    for user in &settings.users {
        user.check()?;
        let home = layout.home(&user.name);
        let _ = write!(
            text,
            "{}::{}:{MAIL_UID}::{}::",
            user.key(),
            user.uid,
            home.display()
        );
        let fields: Vec<String> = user
            .fields
            .iter()
            .map(|(field, value)| format!("userdb_{field}={}", literal(value)))
            .collect();
        text += &fields.join(" ");
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(drivers: &[&str], kafka: &[(&str, &str)], module: bool) -> Settings {
        Settings {
            drivers: drivers.iter().map(|driver| (*driver).to_owned()).collect(),
            kafka: kafka
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            config_module: module.then(|| "/settings.so".into()),
            ..Settings::default()
        }
    }

    const DRIVERS: [&str; 2] = ["kafka:topic=a%{user} metadata=x=y feature=", "dlog"];
    const KAFKA: [(&str, &str); 3] = [
        ("settings.sasl.password", r#"a"\ %{user} 100%% #"#),
        ("kafka_brokers", ""),
        ("transport", "relay:/x"),
    ];

    #[test]
    fn drivers_become_blocks_and_kafka_settings_become_global_ones() {
        let settings = settings(&DRIVERS, &KAFKA, true);
        let expected = r#"push_notification d1 {
  driver = kafka
  kafka_topic = "a%%{user}"
  kafka_metadata = "x=y"
  kafka_feature = ""
}
push_notification d2 {
  driver = dlog
}
"#;
        assert_eq!(drivers(&settings).expect("blocks"), expected);
        let expected = r#"push_notification_kafka_brokers = ""
push_notification_kafka_transport = "relay:/x"
push_notification_kafka_settings {
  sasl.password = "a\"\\ %%{user} 100%% #"
}
"#;
        assert_eq!(kafka(&settings).expect("settings"), expected);
    }

    #[test]
    fn without_the_settings_module_no_setting_of_kafka_is_written() {
        let settings = settings(&DRIVERS[..1], &KAFKA, false);
        let expected = "push_notification d1 {\n  driver = kafka\n}\n";
        assert_eq!(drivers(&settings).expect("blocks"), expected);
        assert_eq!(kafka(&settings).expect("nothing"), "");
    }

    #[test]
    fn what_no_line_can_hold_is_refused() {
        assert!(assignment(0, "a", "b\nc").is_err());
        assert!(assignment(0, "a b", "c").is_err());
    }
}
