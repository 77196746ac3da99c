//! The sections below `[mail_push]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use dovecast_mail_push::listener::SourceKind;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::secret::{self, Secret};
use super::servers::{DoveadmUrl, ImapServer};
use crate::config::elsewhere::{self, Absent, Elsewhere};
use crate::config::http::networks;
use crate::config::limits::Bounded;
use crate::config::ox::user;
use crate::config::paths;

/// Who checks logins of persons.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "the source of logins reads it")]
pub(crate) struct Auth {
    pub(crate) imap: Option<ImapServer>,
    pub(crate) imap_insecure: bool,
    #[serde(deserialize_with = "paths::optional")]
    pub(crate) imap_ca_file: Option<PathBuf>,
    pub(crate) lower_case_logins: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            imap: None,
            imap_insecure: false,
            imap_ca_file: None,
            // As Dovecot's `auth_username_format` does by default.
            lower_case_logins: true,
        }
    }
}

/// Where passwords are kept with which mailboxes are heard without sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CredStorage {
    pub(crate) enabled: bool,
    pub(crate) passcrypt: Option<Secret>,
    #[serde(deserialize_with = "secret::place")]
    pub(crate) passcrypt_file: Option<Secret>,
    pub(crate) rdb: bool,
}

/// Which sources are tried, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sources {
    #[serde(deserialize_with = "order")]
    pub(crate) order: Vec<SourceKind>,
}

/// The source of datagrams.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "the source reads it")]
pub(crate) struct MailNotify {
    #[serde(deserialize_with = "address")]
    pub(crate) listen: Option<SocketAddr>,
    #[serde(deserialize_with = "networks")]
    pub(crate) allow: Vec<IpNet>,
    pub(crate) use_full_email_address: bool,
    pub(crate) delay_millis: Bounded<0, 600_000>,
}

/// The source that holds a connection for each mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "the source reads it")]
pub(crate) struct ImapIdle {
    pub(crate) server: Option<ImapServer>,
    pub(crate) imap_insecure: bool,
    #[serde(deserialize_with = "paths::optional")]
    pub(crate) imap_ca_file: Option<PathBuf>,
    pub(crate) supports_permanent_listeners: bool,
}

/// The source that has Dovecot's own driver tell us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "the source reads it")]
pub(crate) struct DovecotSource {
    pub(crate) imap: Option<ImapServer>,
    pub(crate) imap_insecure: bool,
    #[serde(deserialize_with = "paths::optional")]
    pub(crate) imap_ca_file: Option<PathBuf>,
    pub(crate) doveadm_url: Option<DoveadmUrl>,
    #[serde(deserialize_with = "secret::place")]
    pub(crate) doveadm_api_key_file: Option<Secret>,
}

/// Who may ask `pushusers` over HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    #[serde(deserialize_with = "user")]
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    /// Where the password stands instead.
    #[serde(deserialize_with = "secret::place")]
    pub(crate) password_file: Option<Secret>,
}

/// How browsers are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "the transport reads it")]
pub(crate) struct WebPush {
    pub(crate) subject: Option<String>,
    pub(crate) navigate: Option<String>,
    #[serde(deserialize_with = "elsewhere::place")]
    pub(crate) key_file: Option<Elsewhere>,
}

/// How devices of FCM are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "the transport reads it")]
pub(crate) struct Fcm {
    #[serde(deserialize_with = "elsewhere::place")]
    pub(crate) service_account_file: Option<Elsewhere>,
    pub(crate) endpoint: Option<String>,
    pub(crate) token_endpoint: Option<String>,
}

/// How devices of APNs are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "the transport reads it")]
pub(crate) struct Apns {
    #[serde(deserialize_with = "elsewhere::place")]
    pub(crate) key_file: Option<Elsewhere>,
    pub(crate) key_id: Option<String>,
    pub(crate) team_id: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) endpoint: Option<String>,
    #[serde(deserialize_with = "paths::optional")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            order: SourceKind::ALL.to_vec(),
        }
    }
}

impl Default for MailNotify {
    fn default() -> Self {
        Self {
            listen: None,
            allow: Vec::new(),
            use_full_email_address: false,
            delay_millis: Bounded::new(5000),
        }
    }
}

impl CredStorage {
    /// The passphrase that passwords are sealed with; `None`: the configuration has none.
    pub(crate) fn passphrase(&self, absent: Absent) -> anyhow::Result<Option<String>> {
        let secret = self.passcrypt.as_ref().or(self.passcrypt_file.as_ref());
        let Some(secret) = secret.filter(|_| self.enabled) else {
            return Ok(None);
        };
        let place = "`passcrypt` in [mail_push.credstorage]";
        let passphrase = secret.read_or(absent, "x").context(place)?;
        anyhow::ensure!(!passphrase.trim().is_empty(), "{place} is empty");
        Ok(Some(passphrase))
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        match (self.enabled, &self.passcrypt, &self.passcrypt_file) {
            (_, Some(_), Some(_)) => {
                Err("`passcrypt` and `passcrypt_file` in [mail_push.credstorage] are both there")
            }
            (true, None, None) => {
                Err("`enabled` in [mail_push.credstorage] needs `passcrypt` or `passcrypt_file`")
            }
            _ => Ok(()),
        }
    }
}

impl ImapIdle {
    /// Whether anything is said of the source: without it is not there, and nothing is missing.
    pub(super) fn is_used(&self) -> bool {
        *self != Self::default()
    }
}

impl DovecotSource {
    pub(super) fn is_used(&self) -> bool {
        *self != Self::default()
    }

    pub(super) fn has_server(&self) -> bool {
        let has_doveadm = self.doveadm_url.is_some() && self.doveadm_api_key_file.is_some();
        self.imap.is_some() || has_doveadm
    }
}

impl Admin {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.password.is_some() && self.password_file.is_some() {
            return Err("`password` and `password_file` in [mail_push.admin] are both there");
        }
        let has_password = self.password.is_some() || self.password_file.is_some();
        if self.user.is_some() == has_password {
            return Ok(());
        }
        Err("`user` and `password` or `password_file` in [mail_push.admin] go together")
    }
}

impl WebPush {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let is_contact = |text: &str| text.starts_with("mailto:") || text.starts_with("https://");
        match self.subject.as_deref() {
            Some(subject) if !is_contact(subject) => Err(
                "`subject` in [mail_push.webpush] does not begin with `mailto:` or `https://`: services write to it when something is wrong",
            ),
            _ => Ok(()),
        }
    }
}

impl Apns {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let parts = [
            self.key_file.is_some(),
            self.key_id.is_some(),
            self.team_id.is_some(),
            self.topic.is_some(),
        ];
        if parts.iter().all(|part| *part) || parts.iter().all(|part| !part) {
            return Ok(());
        }
        Err("[mail_push.apns] needs `key_file`, `key_id`, `team_id` and `topic`, all of them")
    }
}

fn order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SourceKind>, D::Error> {
    let names: Vec<String> = Vec::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(de::Error::custom(
            "an empty list, expected at least one source",
        ));
    }
    let mut order = Vec::new();
    for name in &names {
        let kind = SourceKind::from_name(name).ok_or_else(|| {
            let expected = "expected events, dovecot, imapidle or mailnotify";
            de::Error::custom(format!("`{name}` is no source, {expected}"))
        })?;
        if order.contains(&kind) {
            return Err(de::Error::custom(format!("`{name}` is there twice")));
        }
        order.push(kind);
    }
    Ok(order)
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|_| {
        de::Error::custom(format!(
            "`{text}` is not an address to listen on, expected one such as `127.0.0.1:23420`"
        ))
    })
}
