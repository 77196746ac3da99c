//! What goes wrong between us and an IMAP server, divided by what a caller can do about it.

use std::io;
use std::time::Duration;

/// Why something could not be had of an IMAP server.
#[derive(Debug, thiserror::Error)]
pub enum ImapError {
    /// The server does not take this login with this secret: trying again changes nothing.
    #[error("the IMAP server refuses the login: {0}")]
    Refused(String),
    /// The server cannot be reached, or the connection was cut.
    #[error("no connection to the IMAP server")]
    Away(#[source] io::Error),
    /// The server has not answered in time.
    #[error("the IMAP server has not answered within {0:?}")]
    Late(Duration),
    /// The server has said goodbye, or that it cannot log anyone in now.
    #[error("the IMAP server is not available: {0}")]
    Unavailable(String),
    /// The server's certificate is not trusted, or TLS failed otherwise.
    #[error("no TLS with the IMAP server")]
    Tls(#[source] io::Error),
    /// What the server says is no IMAP, or larger than is read.
    #[error("the IMAP server's answer cannot be read: {0}")]
    Protocol(String),
    /// The server lacks what is needed.
    #[error("the IMAP server does not offer {0}")]
    Lacks(&'static str),
    /// The server has refused a command.
    #[error("the IMAP server refuses {command}: {text}")]
    Command {
        /// Name of the command.
        command: &'static str,
        /// The server's words.
        text: String,
    },
}

impl ImapError {
    /// Whether the login was refused; all others are faults of the server or of the way to it, and
    /// say nothing about the secret.
    pub const fn is_refused_login(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
