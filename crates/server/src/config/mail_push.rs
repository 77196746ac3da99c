//! `[mail_push]`: who is told of new mail on their devices, how mailboxes are heard, and how the
//! services of devices are reached. No password is ever shown.

mod secret;
mod sections;
mod servers;

use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_drivers::guard::Guard;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::push::{
    ATTEMPT_TIMEOUT, ApnsOptions, FcmOptions, PushOptions, PushServices, ServiceKey, WebPushOptions,
};
use dovecast_mail_push::listener::{AllowedClients, SourceKind};
use dovecast_operations::push::PushLimits;
use serde::{Deserialize, Deserializer, de};

use super::Config;
use super::elsewhere::{Absent, Elsewhere};
use super::limits::Bounded;
use crate::push::{Origin, Patience, StreamLimits};
pub(crate) use secret::Secret;
pub(crate) use sections::{
    Admin, Apns, Auth, CredStorage, DovecotSource, Fcm, ImapIdle, MailNotify, Sources, WebPush,
};
pub(crate) use servers::ImapServer;

/// What the paths of mail push begin with.
pub(crate) const PREFIX: &str = "/api/push/v1";

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(dead_code, reason = "sources read theirs when a listener begins")]
pub(crate) struct MailPushSection {
    pub(crate) allow_permanent_push: bool,
    #[serde(deserialize_with = "clients")]
    pub(crate) allowed_clients: AllowedClients,
    #[serde(deserialize_with = "password_source")]
    pub(crate) password_source: PasswordSource,
    pub(crate) master_user: Option<String>,
    pub(crate) master_password: Option<Secret>,
    /// A place of it, as `url_file` of the store is one.
    #[serde(deserialize_with = "secret::place")]
    pub(crate) master_password_file: Option<Secret>,
    pub(crate) session_hours: Bounded<1, 8760>,
    pub(crate) login_tries_per_minute: Bounded<1, 10_000>,
    pub(crate) address_tries_per_minute: Bounded<1, 100_000>,
    pub(crate) tests_per_minute: Bounded<1, 100_000>,
    /// Origins whose pages may ask as the user whom a trusted proxy names, besides the host's own.
    pub(crate) allowed_origins: Vec<Origin>,
    pub(crate) max_subscriptions: Bounded<1, 1000>,
    pub(crate) max_streams: Bounded<1, 1000>,
    pub(crate) max_streams_total: Bounded<1, 1_000_000>,
    pub(crate) pushes_per_minute: Bounded<1, 10_000>,
    pub(crate) resync_minutes: Bounded<1, 1440>,
    pub(crate) ping_seconds: Bounded<1, 3600>,
    pub(crate) auth: Auth,
    pub(crate) credstorage: CredStorage,
    pub(crate) sources: Sources,
    pub(crate) mailnotify: MailNotify,
    pub(crate) imapidle: ImapIdle,
    pub(crate) dovecot: DovecotSource,
    pub(crate) admin: Admin,
    pub(crate) webpush: WebPush,
    pub(crate) fcm: Fcm,
    pub(crate) apns: Apns,
}

/// Where passwords of mailboxes are from.
pub(crate) use dovecast_mail_push::listener::PasswordSource;

impl Default for MailPushSection {
    fn default() -> Self {
        Self {
            allow_permanent_push: true,
            allowed_clients: AllowedClients::new(["USM-EAS*", "open-xchange-mobile-api-facade*"]),
            password_source: PasswordSource::Session,
            master_user: None,
            master_password: None,
            master_password_file: None,
            session_hours: Bounded::new(24),
            login_tries_per_minute: Bounded::new(10),
            address_tries_per_minute: Bounded::new(30),
            tests_per_minute: Bounded::new(20),
            allowed_origins: Vec::new(),
            max_subscriptions: Bounded::new(50),
            max_streams: Bounded::new(20),
            max_streams_total: Bounded::new(20_000),
            pushes_per_minute: Bounded::new(30),
            resync_minutes: Bounded::new(15),
            ping_seconds: Bounded::new(25),
            auth: Auth::default(),
            credstorage: CredStorage::default(),
            sources: Sources::default(),
            mailnotify: MailNotify::default(),
            imapidle: ImapIdle::default(),
            dovecot: DovecotSource::default(),
            admin: Admin::default(),
            webpush: WebPush::default(),
            fcm: Fcm::default(),
            apns: Apns::default(),
        }
    }
}

impl MailPushSection {
    /// Refuses what does not go together.
    fn check(&self) -> Result<(), &'static str> {
        let has_password = self.master_password.is_some() || self.master_password_file.is_some();
        if self.master_password.is_some() && self.master_password_file.is_some() {
            return Err(
                "`master_password` and `master_password_file` in [mail_push] are both there",
            );
        }
        if self.password_source == PasswordSource::Global
            && !(self.master_user.is_some() && has_password)
        {
            return Err(
                "`password_source = \"global\"` in [mail_push] needs `master_user` and `master_password` or `master_password_file`",
            );
        }
        if self.master_user.is_some() != has_password {
            return Err(
                "`master_user` in [mail_push] is nothing without `master_password` or `master_password_file`, nor they without it",
            );
        }
        if self.dovecot.doveadm_url.is_some() != self.dovecot.doveadm_api_key_file.is_some() {
            return Err(
                "`doveadm_url` and `doveadm_api_key_file` in [mail_push.dovecot] are nothing without each other",
            );
        }
        let has_server = self.dovecot.has_server();
        for (source, is_there, what) in [
            (
                SourceKind::ImapIdle,
                self.imapidle.server.is_some() || !self.imapidle.is_used(),
                "[mail_push.imapidle] needs `server`",
            ),
            (
                SourceKind::Dovecot,
                has_server || !self.dovecot.is_used(),
                "[mail_push.dovecot] needs `imap`, or `doveadm_url` with `doveadm_api_key_file`",
            ),
        ] {
            if self.sources.order.contains(&source) && !is_there {
                return Err(what);
            }
        }
        self.credstorage.check()?;
        self.admin.check()?;
        self.apns.check()?;
        self.webpush.check()
    }

    /// Bounds of streams.
    pub(crate) fn stream_limits(&self) -> StreamLimits {
        StreamLimits {
            per_person: self.max_streams.get_usize(),
            total: self.max_streams_total.get_usize(),
            ping: Duration::from_secs(self.ping_seconds.get()),
            patience: Patience::default(),
        }
    }

    /// Bounds of the acts.
    pub(crate) fn limits(&self) -> PushLimits {
        PushLimits {
            session_hours: self.session_hours.get(),
            login_tries_per_minute: self.login_tries_per_minute.get(),
            address_tries_per_minute: self.address_tries_per_minute.get(),
            tests_per_minute: self.tests_per_minute.get(),
            max_subscriptions: self.max_subscriptions.get(),
        }
    }
}

impl Config {
    /// How the services of devices are reached; what stands elsewhere is read.
    pub(crate) fn push_options(&self, sockets: &Sockets) -> Result<PushOptions> {
        self.push_options_with(sockets, Absent::Refused)
    }

    fn push_options_with(&self, sockets: &Sockets, absent: Absent) -> Result<PushOptions> {
        let MailPushSection {
            webpush, fcm, apns, ..
        } = &self.mail_push;
        let beside = || ServiceKey::File(self.data_dir.join("vapid.key"));
        let vapid = webpush.key_file.as_ref();
        let vapid = vapid.map(|place| key(place, absent, "`key_file` of [mail_push.webpush]"));
        let fcm = match &fcm.service_account_file {
            None => None,
            Some(place) => Some(FcmOptions {
                service_account: key(place, absent, "`service_account_file` of [mail_push.fcm]")?,
                endpoint: fcm.endpoint.clone(),
                token_endpoint: fcm.token_endpoint.clone(),
            }),
        };
        let parts = (&apns.key_file, &apns.key_id, &apns.team_id, &apns.topic);
        let apns = match parts {
            (Some(place), Some(key_id), Some(team_id), Some(topic)) => Some(ApnsOptions {
                endpoint: apns.endpoint.clone(),
                ca_file: apns.ca_file.clone(),
                key: key(place, absent, "`key_file` of [mail_push.apns]")?,
                key_id: key_id.clone(),
                team_id: team_id.clone(),
                topic: topic.clone(),
            }),
            _ => None,
        };
        Ok(PushOptions {
            guard: Guard::new(&self.dispatch.allowed_networks),
            sockets: sockets.clone(),
            timeout: ATTEMPT_TIMEOUT,
            webpush: WebPushOptions {
                key: vapid.transpose()?.unwrap_or_else(beside),
                subject: webpush.subject.clone(),
                navigate: webpush.navigate.clone(),
            },
            fcm,
            apns,
        })
    }

    /// Refuses what the start of mail push would refuse, as far as it shows without keys and other
    /// files.
    pub(super) fn check_mail_push(&self, sockets: &Sockets) -> Result<()> {
        let options = self.push_options_with(sockets, Absent::Replaced)?;
        PushServices::check(&options).context("mail push cannot be used ([mail_push])")?;
        self.mail_push.credstorage.passphrase(Absent::Replaced)?;
        Ok(())
    }
}

/// The key of a service. A file is read by who makes the service: it may be made there.
fn key(place: &Elsewhere, absent: Absent, setting: &str) -> Result<ServiceKey> {
    match place {
        Elsewhere::File(path) => Ok(ServiceKey::File(path.clone())),
        Elsewhere::Environment(_) | Elsewhere::Credential(_) => {
            let text = place.read_or(absent, "");
            let text = text.with_context(|| setting.to_owned())?;
            Ok(ServiceKey::text(place, text))
        }
    }
}

/// The section, checked as a whole.
pub(super) fn checked<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<MailPushSection, D::Error> {
    let section = MailPushSection::deserialize(deserializer)?;
    section.check().map_err(de::Error::custom)?;
    Ok(section)
}

/// A list; texts with commas in them, as Open-Xchange writes them, are several.
fn clients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AllowedClients, D::Error> {
    let patterns: Vec<String> = Vec::deserialize(deserializer)?;
    let parts = patterns.iter().flat_map(|text| text.split(','));
    Ok(AllowedClients::new(parts))
}

fn password_source<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PasswordSource, D::Error> {
    let text = String::deserialize(deserializer)?;
    match &*text {
        "session" => Ok(PasswordSource::Session),
        "global" => Ok(PasswordSource::Global),
        _ => Err(de::Error::custom(format!(
            "`{text}` is no source of passwords, expected \"session\" or \"global\""
        ))),
    }
}

#[cfg(test)]
mod tests;
