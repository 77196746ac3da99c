//! What a test has said about the Dovecot it wants: what an installation writes its configuration
//! from.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::MAIL_UID;
use super::builder::MailFormat;

/// A user with userdb fields or a user id of their own. Everybody else exists, too, without.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) fields: Vec<(String, String)>,
}

impl User {
    /// A user with the id of all who have none of their own.
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uid: MAIL_UID,
            fields: Vec::new(),
        }
    }

    /// Refuses what cannot stand in a passwd-file, whatever the version.
    pub(super) fn check(&self) -> Result<()> {
        let name = &self.name;
        ensure!(
            !name.is_empty() && !name.starts_with('#') && !name.contains([':', '\t', '\n', '\r']),
            "user `{name}` cannot stand in a passwd-file"
        );
        for (field, value) in &self.fields {
            ensure!(
                !field.contains('=')
                    && ![field, value]
                        .iter()
                        .any(|part| part.contains(char::is_whitespace)),
                "userdb field `{field}` of `{name}` cannot stand in a passwd-file with the value `{value}`"
            );
        }
        Ok(())
    }

    /// The name as a passwd-file is asked for it (auth_request_str_escape in Dovecot's source).
    pub(super) fn key(&self) -> String {
        self.name
            .replace('\\', r"\\")
            .replace('"', "\\\"")
            .replace('\'', r"\'")
    }
}

/// A line of the plugin's settings.
#[derive(Clone, Debug)]
pub(super) struct PluginSetting {
    pub(super) key: String,
    pub(super) value: String,
    /// Whether `%` in the value starts one of Dovecot's variables.
    pub(super) expands_variables: bool,
}

/// Everything an installation writes its configuration from.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, as in Dovecot's own configuration"
)]
pub(super) struct Settings {
    /// Whether events leave by the transport `relay`.
    pub(super) relay: bool,
    pub(super) framework: bool,
    pub(super) plugin: Option<PathBuf>,
    /// What tells Dovecot 2.4 the settings of the plugin.
    pub(super) config_module: Option<PathBuf>,
    pub(super) extra_mail_plugins: Vec<String>,
    /// Lines of the section `plugin`, which Dovecot 2.4 does not have.
    pub(super) plugin_section: Vec<PluginSetting>,
    /// Drivers as `push_notification_driver` has them in Dovecot 2.3: `NAME:OPTION=VALUE
    /// OPTION=VALUE`.
    pub(super) drivers: Vec<String>,
    /// General settings of the driver kafka.
    pub(super) kafka: Vec<(String, String)>,
    /// What a plugin sees as a setting or a userdb field of every user.
    pub(super) fields: Vec<(String, String)>,
    /// Files of this machine that Dovecot's processes read.
    pub(super) files: Vec<PathBuf>,
    pub(super) users: Vec<User>,
    pub(super) mail_format: MailFormat,
    pub(super) mailbox_list_index: Option<bool>,
    pub(super) vsz_limit: Option<String>,
    pub(super) lmtp_sieve: bool,
    pub(super) default_attachment_keywords: bool,
    pub(super) special_use_mailboxes: bool,
    pub(super) recipient_delimiter: String,
    pub(super) lowercase_user_names: bool,
    /// Variables set for Dovecot's processes.
    pub(super) environment: Vec<(String, String)>,
    /// Variables of this process that Dovecot's processes get as well.
    pub(super) imported: Vec<String>,
    /// Verbatim text at the end of the configuration.
    pub(super) appended: String,
}

impl Settings {
    /// The mail plugins in the order in which they are named.
    pub(super) fn mail_plugins(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        if self.framework {
            names.extend(["notify", "push_notification"]);
        }
        if self.plugin.is_some() {
            names.push("push_notification_kafka");
        }
        names.extend(self.extra_mail_plugins.iter().map(String::as_str));
        names
    }
}

/// Concurrent processes of one service: room for a thousand IMAP sessions.
pub(super) const PROCESS_LIMIT: u32 = 2500;
/// Connections to one process of a service that all others talk to (auth, anvil, stats, login).
pub(super) const CLIENT_LIMIT: u32 = 10000;
/// Mailboxes with a special use that are created by themselves if the test wants it.
pub(super) const SPECIAL_USE_MAILBOXES: [&str; 4] = ["Drafts", "Junk", "Sent", "Trash"];

pub(super) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
