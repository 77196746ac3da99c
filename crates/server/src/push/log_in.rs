//! Logins of persons, checked at the IMAP server of `[mail_push.auth]`.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use dovecast_drivers::tls;
use dovecast_mail_push::imap::{ImapServer, Login, Secret, login_check};
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::{LogIn, LogInAnswer, LogInSecret};

use crate::config::mail_push::Auth;

/// Logs in at an IMAP server, and out again.
pub(super) struct ImapLogIn(ImapServer);

impl ImapLogIn {
    /// What the configuration says; `None`: it names no server.
    pub(super) fn configured(auth: &Auth) -> Result<Option<Arc<dyn LogIn>>> {
        let Some(server) = &auth.imap else {
            return Ok(None);
        };
        let trusted = match &auth.imap_ca_file {
            None => tls::system(),
            Some(file) => {
                let pem = fs::read_to_string(file)
                    .with_context(|| format!("cannot read `{}`", file.display()))?;
                tls::of_chain(&pem)
            }
        };
        let trusted = trusted.context("[mail_push.auth]: the authorities cannot be used")?;
        let server = ImapServer::parse(&server.to_string(), auth.imap_insecure, &trusted);
        let server = server.context("`imap` in [mail_push.auth]")?;
        Ok(Some(Arc::new(Self(server))))
    }
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
