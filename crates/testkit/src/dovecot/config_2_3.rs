//! The configuration as Dovecot 2.3 wants it.
//!
//! Every login name exists with the password `pass`; a passwd-file is asked first for the users who
//! have fields of their own. Limits are high enough for a thousand IMAP sessions at once.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};

use super::builder::MailFormat;
use super::layout::Layout;
use super::settings::{
    CLIENT_LIMIT, PROCESS_LIMIT, PluginSetting, SPECIAL_USE_MAILBOXES, Settings, yes_no,
};
use super::{IMAP_PORT, LMTP_PORT, MAIL_UID, PASSWORD};

/// What Dovecot 2.3 lets through by default.
const IMPORTED: &str = "TZ CORE_OUTOFMEM CORE_ERROR LISTEN_PID LISTEN_FDS NOTIFY_SOCKET";

/// The text of `dovecot.conf`.
pub(super) fn dovecot_conf(
    settings: &Settings,
    layout: &Layout,
    address: Ipv4Addr,
) -> Result<String> {
    let mut text = general(settings, layout, address);
    text += &mail(settings, layout);
    text += &users_databases(settings, layout);
    text += &services(settings);
    text += &plugins(settings)?;
    text += &settings.appended;
    Ok(text)
}

fn general(settings: &Settings, layout: &Layout, address: Ipv4Addr) -> String {
    let mut imported = IMPORTED.to_owned();
    for name in settings
        .environment
        .iter()
        .map(|(name, _)| name)
        .chain(&settings.imported)
    {
        imported.push(' ');
        imported.push_str(name);
    }
    format!(
        "\
base_dir = {run}
state_dir = {state}
log_path = {log}
info_log_path = {log}
debug_log_path = {debug_log}
protocols = imap lmtp
listen = {address}
ssl = no
disable_plaintext_auth = no
import_environment = {imported}
postmaster_address = postmaster@testkit.example
",
        run = layout.run().display(),
        state = layout.state().display(),
        log = layout.log().display(),
        debug_log = layout.debug_log().display(),
    )
}

fn mail(settings: &Settings, layout: &Layout) -> String {
    let (location, list_index) = match settings.mail_format {
        MailFormat::Maildir => ("maildir:~/Maildir", false),
        MailFormat::Sdbox => ("sdbox:~/sdbox", true),
    };
    let mut text = format!(
        "
mail_plugin_dir = {modules}
mail_location = {location}
mailbox_list_index = {list_index}
mail_attribute_dict = file:%h/dovecot-attributes
first_valid_uid = 1
mail_uid = {MAIL_UID}
mail_gid = {MAIL_UID}
mail_max_userip_connections = 10000
recipient_delimiter = {delimiter}
protocol imap {{
  imap_metadata = yes
}}
namespace inbox {{
  inbox = yes
  separator = /
  prefix =
",
        modules = layout.modules().display(),
        list_index = yes_no(settings.mailbox_list_index.unwrap_or(list_index)),
        delimiter = settings.recipient_delimiter,
    );
    if settings.special_use_mailboxes {
        for name in SPECIAL_USE_MAILBOXES {
            let _ = write!(
                text,
                "  mailbox {name} {{\n    special_use = \\{name}\n    auto = create\n  }}\n"
            );
        }
    }
    text + "}\n"
}

fn users_databases(settings: &Settings, layout: &Layout) -> String {
    format!(
        "
auth_username_chars =
auth_username_format = {username_format}
auth_failure_delay = 0
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {users}
}}
userdb {{
  driver = static
  args = uid={MAIL_UID} gid={MAIL_UID} home={homes}/%u
}}
",
        username_format = if settings.lowercase_user_names {
            "%Lu"
        } else {
            "%u"
        },
        users = layout.users().display(),
        homes = layout.homes().display(),
    )
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
  service_count = 0
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

fn plugins(settings: &Settings) -> Result<String> {
    let mut text = format!("\nmail_plugins = {}\n", settings.mail_plugins().join(" "));
    if settings.lmtp_sieve {
        for protocol in ["lmtp", "lda"] {
            let _ = write!(
                text,
                "protocol {protocol} {{\n  mail_plugins = $mail_plugins sieve\n}}\n"
            );
        }
    }
    text += "plugin {\n";
    if settings.lmtp_sieve {
        text += "  sieve = file:~/.dovecot.sieve\n";
    }
    for setting in plugin_settings(settings) {
        let key = &setting.key;
        let value = quoted(&setting).with_context(|| format!("plugin setting `{key}`"))?;
        ensure!(
            !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "=#{}\"".contains(c)),
            "`{key}` cannot be the name of a plugin setting"
        );
        let _ = writeln!(text, "  {key} = {value}");
    }
    Ok(text + "}\n")
}

/// All lines of the plugin section: those that the test wrote itself, and those for what it said
/// without a version.
fn plugin_settings(settings: &Settings) -> Vec<PluginSetting> {
    let literal = |key: String, value: &str| PluginSetting {
        key,
        value: value.to_owned(),
        expands_variables: false,
    };
    let mut lines = settings.plugin_section.clone();
    for (i, driver) in settings.drivers.iter().enumerate() {
        let number = if i == 0 {
            String::new()
        } else {
            (i + 1).to_string()
        };
        lines.push(literal(format!("push_notification_driver{number}"), driver));
    }
    for (name, value) in &settings.kafka {
        lines.push(literal(format!("kafka.notification.{name}"), value));
    }
    for (name, value) in &settings.fields {
        lines.push(literal(name.clone(), value));
    }
    lines
}

/// A quoted value, which keeps `#`, `$`, `<`, quotes and outer blanks from meaning anything.
fn quoted(setting: &PluginSetting) -> Result<String> {
    let value = &setting.value;
    ensure!(
        !value.contains(['\n', '\r', '\0']),
        "value `{value}` has more than one line"
    );
    let value = value.replace('\\', r"\\").replace('"', "\\\"");
    Ok(if setting.expands_variables {
        format!("\"{value}\"")
    } else {
        format!("\"{}\"", value.replace('%', "%%"))
    })
}

/// The text of the passwd-file: `user:password:uid:gid:gecos:home:shell:fields`.
pub(super) fn users(settings: &Settings, layout: &Layout) -> Result<String> {
    let mut text = String::new();
    for user in &settings.users {
        user.check()?;
        let (name_key, home) = (user.key(), layout.home(&user.name));
        let _ = write!(
            text,
            "{name_key}::{}:{MAIL_UID}::{}::",
            user.uid,
            home.display()
        );
        let mut separator = "";
        for (field, value) in &user.fields {
            // %variables are expanded twice: by auth, then with the plugin settings of the user.
            let _ = write!(
                text,
                "{separator}userdb_{field}={}",
                value.replace('%', "%%%%")
            );
            separator = " ";
        }
        text.push('\n');
    }
    Ok(text)
}
