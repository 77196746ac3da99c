//! The port to what says whether a person is who they say: an IMAP server, by a login.

use std::fmt;

use zeroize::Zeroizing;

use crate::push::Sending;

/// What a person shows for a session. [`fmt::Debug`] shows nothing of it.
#[derive(Clone)]
pub enum LogInSecret {
    /// A password.
    Password(Zeroizing<String>),
    /// An OAuth token, for XOAUTH2.
    OauthToken(Zeroizing<String>),
}

/// What the mail server has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogInAnswer {
    /// The person is who they say.
    Accepted,
    /// Login and secret do not go together.
    Refused,
    /// The mail server cannot be asked now; the text says why, for the log.
    Unavailable(String),
}

/// Checks logins.
pub trait LogIn: Send + Sync + 'static {
    /// Whether login and secret go together. Ends within a bounded time.
    fn check<'a>(&'a self, login: &'a str, secret: &'a LogInSecret) -> Sending<'a, LogInAnswer>;
}

impl fmt::Debug for LogInSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Password(_) => "Password(...)",
            Self::OauthToken(_) => "OauthToken(...)",
        })
    }
}
