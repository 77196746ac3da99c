//! The sources that the configuration names, and what they say of persons.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dovecast_log::LineLimit;
use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{Login, Secret};
use dovecast_mail_push::listener::{SourceKind, SourceOffer};
use dovecast_mail_push::sources::{Doveadm, HttpNotify, IdleOptions, ImapIdle, NotifyWay};
use dovecast_operations::push::{ListenerRules, Vault};
use dovecast_store::StoreError;

use super::keeping::Reason;
use super::sink::Sink;
use crate::config::Config;
use crate::config::mail_push::{DovecotSource, MailPushSection};
use crate::push::log_in::{imap_server, trusted};
use crate::serve::descriptors;

/// About a store that gives or takes nothing about passwords.
static STORE_LINES: LineLimit = LineLimit::a_minute(1);
/// About passwords that cannot be opened.
static UNOPENED_LINES: LineLimit = LineLimit::a_minute(1);

/// What is there to hear mailboxes with.
pub(super) struct Sources {
    /// Listens, and looks into mailboxes of which datagrams tell.
    pub(super) idle: Option<Arc<ImapIdle>>,
    pub(super) dovecot: Option<Arc<HttpNotify>>,
    /// Master user and password, where mailboxes are opened as such.
    pub(super) master: Option<(Arc<str>, Secret)>,
    /// How often METADATA is compared.
    pub(super) resync: Duration,
}

impl Sources {
    pub(super) fn configured(config: &Config, sink: &Arc<Sink>) -> anyhow::Result<Self> {
        let section = &config.mail_push;
        let has = |kind| section.sources.order.contains(&kind);
        let is_looked = has(SourceKind::ImapIdle) || has(SourceKind::MailNotify);
        let idle = match section.imapidle.server.as_ref().filter(|_| is_looked) {
            None => None,
            Some(server) => {
                let idle = &section.imapidle;
                let server = imap_server(
                    server,
                    idle.imap_insecure,
                    idle.imap_ca_file.as_deref(),
                    "[mail_push.imapidle]",
                )?;
                let sink = Arc::clone(sink) as Arc<_>;
                let options = IdleOptions {
                    most_open: descriptors::for_listeners(config),
                    ..IdleOptions::default()
                };
                Some(ImapIdle::new(server, options, sink))
            }
        };
        // Also where the source is not in `order` any more: what it has set is taken away.
        let dovecot = match way(&section.dovecot) {
            None => None,
            Some(way) => Some(HttpNotify::new(way?)),
        };
        let minutes = section.resync_minutes.get();
        Ok(Self {
            idle,
            dovecot,
            master: master(section)?,
            resync: Duration::from_secs(60 * minutes),
        })
    }
}

impl Sources {
    /// Whether a listener of this source logs in.
    pub(super) fn needs_login(&self, source: SourceKind) -> bool {
        match source {
            SourceKind::Events => false,
            SourceKind::Dovecot => self.dovecot.as_ref().is_some_and(|one| one.needs_login()),
            SourceKind::ImapIdle | SourceKind::MailNotify => self.idle.is_some(),
        }
    }

    /// With what a mailbox is opened: as the master user, or with the person's own password;
    /// `None`: there is no password.
    pub(super) async fn login(
        &self,
        vault: &Vault,
        person: &Person,
    ) -> Result<Option<Login>, Reason> {
        if let Some((master, password)) = &self.master {
            return Ok(Some(Login::Master {
                login: Arc::clone(&person.login),
                master: Arc::clone(master),
                password: password.clone(),
            }));
        }
        match vault.open(person).await {
            Ok(credentials) => Ok(credentials.map(|one| Login::Password {
                login: one.login.as_str().into(),
                password: Secret::new(one.password.clone()),
            })),
            Err(error) => {
                let is_sealed_otherwise = matches!(error, StoreError::Secrets(_));
                let error = dovecast_mail_push::causes(&error);
                if is_sealed_otherwise {
                    if UNOPENED_LINES.take() {
                        tracing::error!(
                            %person,
                            error,
                            "a password cannot be opened: the person has to log in again"
                        );
                    }
                    return Err(Reason::Unopened);
                }
                if STORE_LINES.take() {
                    tracing::warn!(
                        %person,
                        error,
                        "the store cannot be asked for a password; this is retried"
                    );
                }
                Err(Reason::Store)
            }
        }
    }

    /// The mail server has refused a person's password: it is tried no more; `false`: that cannot
    /// be stored now.
    pub(super) async fn refused(&self, vault: &Vault, person: &Person, name: &str) -> bool {
        match vault.refuse(person, name).await {
            Ok(()) => {
                tracing::warn!(
                    %person,
                    "the mail server refuses the password of a person: it is not used again; the mailbox is heard after the next login"
                );
                true
            }
            Err(error) => {
                if STORE_LINES.take() {
                    let error = dovecast_mail_push::causes(&error);
                    tracing::error!(
                        %person,
                        error,
                        "it cannot be stored that a password was refused; this is retried"
                    );
                }
                false
            }
        }
    }
}

/// How METADATA is reached; doveadm, which needs no login, if it is there.
fn way(section: &DovecotSource) -> Option<anyhow::Result<NotifyWay>> {
    let ca_file = section.imap_ca_file.as_deref();
    let by_doveadm = section.doveadm_url.as_ref();
    if let Some((url, key)) = by_doveadm.zip(section.doveadm_api_key_file.as_ref()) {
        return Some(doveadm(url.0.as_str(), key, ca_file));
    }
    let server = section.imap.as_ref()?;
    let place = "[mail_push.dovecot]";
    let server = imap_server(server, section.imap_insecure, ca_file, place);
    Some(server.map(NotifyWay::Imap))
}

fn doveadm(
    url: &str,
    key: &crate::config::mail_push::Secret,
    ca_file: Option<&Path>,
) -> anyhow::Result<NotifyWay> {
    let tls = trusted(ca_file, "[mail_push.dovecot]")?;
    let key = key
        .read()
        .context("`doveadm_api_key_file` in [mail_push.dovecot]")?;
    let doveadm = Doveadm::new(url, &key, &tls);
    let doveadm = doveadm.context("`doveadm_url` in [mail_push.dovecot]")?;
    Ok(NotifyWay::Doveadm(doveadm))
}

fn master(section: &MailPushSection) -> anyhow::Result<Option<(Arc<str>, Secret)>> {
    use crate::config::mail_push::PasswordSource;
    let secret = section
        .master_password
        .as_ref()
        .or(section.master_password_file.as_ref());
    let parts = section.master_user.as_deref().zip(secret);
    match (section.password_source, parts) {
        (PasswordSource::Global, Some((user, secret))) => {
            let password = secret.read();
            let password = password.context("`master_password_file` in [mail_push]")?;
            Ok(Some((user.into(), Secret::new(password.trim().to_owned()))))
        }
        _ => Ok(None),
    }
}

/// What the configuration says of listeners.
pub(in crate::push) fn rules(config: &Config) -> ListenerRules {
    let section = &config.mail_push;
    let offer = |kind: &SourceKind| offer(*kind, section);
    ListenerRules {
        is_allowed: section.allow_permanent_push,
        clients: section.allowed_clients.clone(),
        sources: section.sources.order.iter().map(offer).collect(),
        passwords: section.password_source,
        keeps_credentials: section.credstorage.enabled,
    }
}

/// What a source says of any person.
pub(super) fn offer(kind: SourceKind, section: &MailPushSection) -> SourceOffer {
    let has_doveadm = section.dovecot.doveadm_url.is_some();
    let (is_configured, is_permanent, needs_credentials) = match kind {
        SourceKind::Events => (true, true, false),
        SourceKind::Dovecot => (
            section.dovecot.imap.is_some() || has_doveadm,
            true,
            !has_doveadm,
        ),
        SourceKind::ImapIdle => {
            let idle = &section.imapidle;
            (
                idle.server.is_some(),
                idle.supports_permanent_listeners,
                true,
            )
        }
        SourceKind::MailNotify => (section.mailnotify.listen.is_some(), true, false),
    };
    SourceOffer {
        kind,
        objection: (!is_configured).then(|| "is not configured".to_owned()),
        is_permanent,
        needs_credentials,
    }
}
