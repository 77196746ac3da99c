//! Logins of persons, checked at the IMAP server of `[mail_push.auth]`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use dovecast_drivers::tls;
use dovecast_mail_push::imap::{ImapServer, Login, Secret, login_check};
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::{LogIn, LogInAnswer, LogInSecret};
use rustls::ClientConfig;

use crate::config::mail_push::{self, Auth};

/// Logs in at an IMAP server, and out again.
pub(super) struct ImapLogIn(ImapServer);

impl ImapLogIn {
    /// What the configuration says; `None`: it names no server.
    pub(super) fn configured(auth: &Auth) -> Result<Option<Arc<dyn LogIn>>> {
        let Some(server) = &auth.imap else {
            return Ok(None);
        };
        let ca_file = auth.imap_ca_file.as_deref();
        let server = imap_server(server, auth.imap_insecure, ca_file, "[mail_push.auth]")?;
        Ok(Some(Arc::new(Self(server))))
    }
}

/// An IMAP server that a section of the configuration names.
pub(super) fn imap_server(
    server: &mail_push::ImapServer,
    is_insecure: bool,
    ca_file: Option<&Path>,
    section: &'static str,
) -> Result<ImapServer> {
    let trusted = trusted(ca_file, section)?;
    let server = ImapServer::parse(&server.to_string(), is_insecure, &trusted);
    server.with_context(|| format!("the IMAP server of {section}"))
}

/// Whom servers are trusted by: authorities of a file, or the system's.
pub(super) fn trusted(ca_file: Option<&Path>, section: &'static str) -> Result<Arc<ClientConfig>> {
    let trusted = match ca_file {
        None => tls::system(),
        Some(file) => {
            let pem = fs::read_to_string(file)
                .with_context(|| format!("cannot read `{}`", file.display()))?;
            tls::of_chain(&pem)
        }
    };
    trusted.with_context(|| format!("{section}: the authorities cannot be used"))
}

impl LogIn for ImapLogIn {
    fn check<'a>(&'a self, login: &'a str, secret: &'a LogInSecret) -> Sending<'a, LogInAnswer> {
        Box::pin(async move {
            let login = match secret {
                LogInSecret::Password(text) => Login::Password {
                    login: login.into(),
                    password: Secret::new(text.to_string()),
                },
                LogInSecret::OauthToken(text) => Login::Token {
                    login: login.into(),
                    token: Secret::new(text.to_string()),
                },
            };
            match login_check(&self.0, &login).await {
                Ok(()) => LogInAnswer::Accepted,
                Err(error) if error.is_refused_login() => LogInAnswer::Refused,
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    LogInAnswer::Unavailable(format!("{error:#}"))
                }
            }
        })
    }
}
