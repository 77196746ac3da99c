//! Sessions: a person logs in at the mail server, and has a token for a while.

use std::borrow::Cow;
use std::fmt;
use std::time::Instant;

use dovecast_mail_push::{LogInAnswer, LogInSecret, Person};
use dovecast_store::MailboxCredentials;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{MailPush, PushCaller};
use crate::refusal::{Fault, Faults};
use crate::{Refusal, Result};

/// Longest password or OAuth token, in bytes.
const MAX_SECRET_BYTES: usize = 8192;

/// What a person shows for a session.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    login: String,
    secret: LogInSecret,
}

/// A session at the one moment at which its token is known.
#[derive(Clone)]
pub struct BegunSession {
    /// The token.
    pub secret: String,
    /// When it is good no more, in milliseconds since 1970.
    pub expires_ms: i64,
    /// Who has it.
    pub person: Person,
}

impl fmt::Debug for BegunSession {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "BegunSession({})", self.person)
    }
}

impl SessionRequest {
    /// Reads the body of a request. No fault shows a value.
    pub fn read(body: &Value) -> Result<Self> {
        let mut faults = Faults::default();
        let mut refuse = |pointer: &str, detail: &str| faults.push(Fault::at(pointer, detail));
        let Some(fields) = body.as_object() else {
            refuse("", "is not an object");
            return Err(Refusal::Invalid(faults));
        };
        for name in fields.keys() {
            if !["login", "password", "oauth_token"].contains(&&**name) {
                let pointer = format!("/{}", crate::refusal::escaped(&shortened(name)));
                refuse(&pointer, "is not a field of a session");
            }
        }
        let mut text = |name: &str| -> Option<String> {
            let pointer = format!("/{name}");
            let text = fields.get(name)?.as_str();
            match text {
                None => refuse(&pointer, "is not a string"),
                Some("") => refuse(&pointer, "is empty"),
                Some(text) if text.len() > MAX_SECRET_BYTES => {
                    refuse(&pointer, "is longer than 8192 bytes");
                }
                // IMAP quotes no line ends, and SASL divides by NUL.
                Some(text) if text.contains(['\0', '\r', '\n']) => {
                    refuse(&pointer, "has a NUL or a line break");
                }
                Some(_) => {}
            }
            text.map(ToOwned::to_owned)
        };
        let (login, password, token) = (text("login"), text("password"), text("oauth_token"));
        let has = |name: &str| fields.contains_key(name);
        if !has("login") {
            refuse("/login", "is missing");
        }
        match (has("password"), has("oauth_token")) {
            (false, false) => refuse(
                "/password",
                "is missing: either `password` or `oauth_token` is required",
            ),
            (true, true) => refuse("/oauth_token", "cannot be given together with `password`"),
            _ => {}
        }
        let password = password.map(|text| LogInSecret::Password(Zeroizing::new(text)));
        let token = token.map(|text| LogInSecret::OauthToken(Zeroizing::new(text)));
        match (login, password.or(token)) {
            (Some(login), Some(secret)) if faults.is_empty() => Ok(Self { login, secret }),
            _ => Err(Refusal::Invalid(faults)),
        }
    }
}

/// A name of a field that is cut where it is long.
fn shortened(name: &str) -> String {
    name.chars().take(100).collect()
}

impl MailPush {
    /// Begins a session of whoever logs in at the mail server. `address`: from where, as far as
    /// tries are counted by it.
    pub async fn begin_session(
        &self,
        request: SessionRequest,
        address: &str,
    ) -> Result<BegunSession> {
        let server = self.parts.log_in.as_ref().ok_or(Refusal::Unavailable(
            "No mail server is configured that checks logins ([mail_push.auth] imap)".into(),
        ))?;
        let now = Instant::now();
        let too_much = |after| Refusal::TooMuch {
            reason: "Too many tries to log in: try again later".to_owned(),
            after,
        };
        self.by_address.take(address, now).map_err(too_much)?;
        // A login counts by any of its spellings.
        let counted = request.login.to_lowercase();
        self.by_login.take(&counted, now).map_err(too_much)?;
        let login = self.taken(&request.login);
        let person = Person::of_login(&login, &self.parts.account);
        let wrong = Refusal::BadToken("Login and password are not right");
        let Ok(person) = person else {
            return Err(wrong);
        };
        match server.check(&login, &request.secret).await {
            LogInAnswer::Accepted => {}
            LogInAnswer::Refused => {
                tracing::info!(
                    address,
                    "a login for mail push was refused by the mail server"
                );
                return Err(wrong);
            }
            LogInAnswer::Unavailable(reason) => {
                tracing::warn!(reason, "the mail server cannot check a login for mail push");
                return Err(Refusal::Unavailable(
                    "The mail server that checks logins cannot be asked at the moment".into(),
                ));
            }
        }
        let person = self.caller(person).await?.person().clone();
        let hours = i64::try_from(self.parts.limits.session_hours).unwrap_or(i64::MAX);
        let lives_ms = hours.saturating_mul(3_600_000);
        let made = self.store.create_session(&person, lives_ms).await?;
        // A new password mends what the old one has broken. The session is there first: without
        // one, and without a subscription, passwords are forgotten.
        if let LogInSecret::Password(password) = &request.secret {
            let credentials = MailboxCredentials {
                login: login.into_owned(),
                password: password.to_string(),
            };
            self.vault.keep(&person, &credentials).await;
        }
        tracing::info!(%person, "a session of mail push was begun");
        Ok(BegunSession {
            secret: made.secret,
            expires_ms: made.expires_ms,
            person,
        })
    }

    /// A login as it is taken: the mail server is asked for what becomes the person, so that nobody
    /// who logs in by a name of other letters is taken for somebody else. ASCII, as Dovecot's
    /// `auth_username_format` does it.
    fn taken<'a>(&self, login: &'a str) -> Cow<'a, str> {
        if self.parts.lowers_logins && login.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(login.to_ascii_lowercase())
        } else {
            Cow::Borrowed(login)
        }
    }

    /// Ends the session that a token is of. A token of another kind has none.
    pub async fn end_session(&self, _: &PushCaller, token: &str) -> Result<()> {
        if !self.store.delete_session(token).await? {
            return Err(Refusal::forbidden(
                "This token does not belong to a session",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_a_login_with_one_secret_and_no_fault_shows_it() {
        for body in [
            json!({ "login": "joe", "password": "geheim" }),
            json!({ "login": "joe", "oauth_token": "geheim" }),
        ] {
            let request = SessionRequest::read(&body).expect("a request");
            assert!(!format!("{request:?}").contains("geheim"));
        }
        for (body, expected) in [
            (json!([]), "`` is not an object"),
            (json!({ "password": "geheim" }), "`/login` is missing"),
            (
                json!({ "login": "joe" }),
                "`/password` is missing: either `password` or `oauth_token` is required",
            ),
            (
                json!({ "login": "joe", "password": "geheim", "oauth_token": "geheim" }),
                "`/oauth_token` cannot be given together with `password`",
            ),
            (
                json!({ "login": "joe", "password": "" }),
                "`/password` is empty",
            ),
            (
                json!({ "login": "joe", "password": ["geheim"] }),
                "`/password` is not a string",
            ),
            (
                json!({ "login": "jo\r\ne", "password": "geheim" }),
                "`/login` has a NUL or a line break",
            ),
            (
                json!({ "login": "joe", "password": "geheim".repeat(5000) }),
                "`/password` is longer than 8192 bytes",
            ),
            (
                json!({ "login": "joe", "password": "geheim", "pass/word": 1 }),
                "`/pass~1word` is not a field of a session",
            ),
        ] {
            let refused = SessionRequest::read(&body)
                .expect_err("refused")
                .to_string();
            assert_eq!(refused, expected);
        }
    }
}
