//! The operator's mail server, and who the mails are from.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use lettre::address::Envelope;
use lettre::message::Mailbox;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::message::Letter;

/// Most connections to the server at a time.
const MAX_CONNECTIONS: usize = 10;
/// What our Message-IDs begin with.
const PREFIX: &str = "dovecast.";
/// Bytes of a mark of authenticity, and of the name of a delivery, in a Message-ID.
const MARK_BYTES: usize = 12;

/// How the connection is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MailTls {
    /// TLS from the first byte (port 465).
    Implicit,
    /// STARTTLS, which the server must have (port 587).
    #[default]
    Starttls,
    /// None (port 25): for a server on the same host.
    None,
}

/// The operator's mail server.
#[derive(Clone)]
pub struct MailOptions {
    /// Name or address.
    pub server: String,
    /// `None`: the usual one.
    pub port: Option<u16>,
    /// How the connection is protected.
    pub tls: MailTls,
    /// PEM; replaces nothing: the system's authorities are trusted, too.
    pub ca: Option<Vec<u8>>,
    /// User and password.
    pub login: Option<(String, String)>,
    /// Sender: an address, or a name and an address.
    pub from: String,
    /// Address that bounces go to (`MAIL FROM`); `None`: that of the sender, empty: there are none.
    pub envelope_from: Option<String>,
    /// Domains whose addresses may be written to; `*`: all. Empty: none.
    pub recipients: Vec<String>,
    /// Value of `List-Id`.
    pub list_id: Option<String>,
    /// For one mail.
    pub timeout: Duration,
    /// Makes Message-IDs that nobody else can make.
    pub key: [u8; 32],
}

/// Why there is no mail server. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailError {
    /// No address.
    #[error("`from` in [mail] is no address: `{0}`")]
    From(String),
    /// No address for bounces.
    #[error("`envelope_from` in [mail] is no address: `{0}`")]
    EnvelopeFrom(String),
    /// Another thing that is no certificate.
    #[error("`ca_file` in [mail] cannot be used: {0}")]
    Ca(String),
    /// TLS cannot be had.
    #[error("the mail server cannot be reached with TLS: {0}")]
    Tls(String),
    /// A `List-Id` that cannot stand in a header.
    #[error("`list_id` in [mail] cannot be used: `{0}`")]
    ListId(String),
}

/// Whether the server takes a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// With what it says.
    Yes(String),
    /// Not now.
    Later(String),
    /// Not now: the server has said nothing.
    Away(String),
    /// Never.
    Never(String),
}

pub(super) struct Server {
    authority: String,
    from: Mailbox,
    envelope_from: Option<Address>,
    recipients: Vec<String>,
    list_id: Option<String>,
    /// A connection for each mail: what an attempt that was given up has left on one would be
    /// taken for the answer to the next.
    places: Semaphore,
    transport: AsyncSmtpTransport<Tokio1Executor>,
    timeout: Duration,
    key: [u8; 32],
}

impl Server {
    pub(super) fn new(options: &MailOptions) -> Result<Self, MailError> {
        let from = options.from.parse();
        let from: Mailbox = from.map_err(|_| MailError::From(options.from.clone()))?;
        let envelope_from = match options.envelope_from.as_deref() {
            None => Some(from.email.clone()),
            Some("") => None,
            Some(text) => {
                let address = text.parse();
                Some(address.map_err(|_| MailError::EnvelopeFrom(text.to_owned()))?)
            }
        };
        let bad = |text: &String| text.chars().any(char::is_control) || !text.is_ascii();
        if let Some(list_id) = options.list_id.as_ref().filter(|text| bad(text)) {
            return Err(MailError::ListId(list_id.clone()));
        }
        let (tls, usual_port) = match options.tls {
            MailTls::Implicit => (Tls::Wrapper(parameters(options)?), 465),
            MailTls::Starttls => (Tls::Required(parameters(options)?), 587),
            MailTls::None => (Tls::None, 25),
        };
        let port = options.port.unwrap_or(usual_port);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&options.server)
            .port(port)
            .tls(tls)
            .timeout(Some(options.timeout));
        if let Some((user, password)) = options.login.clone() {
            builder = builder.credentials(Credentials::new(user, password));
        }
        Ok(Self {
            authority: format!("{}:{port}", options.server),
            from,
            envelope_from,
            recipients: options.recipients.clone(),
            places: Semaphore::new(MAX_CONNECTIONS),
            list_id: options.list_id.clone(),
            transport: builder.build(),
            timeout: options.timeout,
            key: options.key,
        })
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Whether a mailbox is one that bounces come to; a user may be named without the domain.
    pub(super) fn gets_bounces(&self, user: &str) -> bool {
        let sender = Some(&self.from.email);
        let mut addresses = self.envelope_from.iter().chain(sender);
        addresses.any(|address| {
            let whole: &str = address.as_ref();
            let is_bare = !user.contains('@') && address.user().eq_ignore_ascii_case(user);
            is_bare || whole.eq_ignore_ascii_case(user)
        })
    }

    /// Whether the sender of a mail is the one of ours; `from` is its header or its address.
    pub(super) fn is_sender(&self, from: &str) -> bool {
        let ours: &str = self.from.email.as_ref();
        from.split(',').any(|one| {
            let address = match one.rsplit_once('<') {
                Some((_, address)) => address.split('>').next().unwrap_or_default(),
                // `address (name)`
                None => one.split('(').next().unwrap_or_default(),
            };
            address.trim().eq_ignore_ascii_case(ours)
        })
    }

    /// From whom and to whom a mail goes, whatever its head says.
    pub(super) fn envelope(&self, to: &Mailbox) -> Result<Envelope, lettre::error::Error> {
        Envelope::new(self.envelope_from.clone(), vec![to.email.clone()])
    }

    /// Whether the operator lets accounts write to an address.
    pub(super) fn may_tell(&self, to: &Mailbox) -> bool {
        let domain = to.email.domain();
        let is_of = |one: &String| *one == "*" || one.eq_ignore_ascii_case(domain);
        self.recipients.iter().any(is_of)
    }

    pub(super) fn list_id(&self) -> Option<&str> {
        self.list_id.as_deref()
    }

    /// The Message-ID of the mail by which a recipient is told of a delivery.
    pub(super) fn message_id(&self, delivery: &str, to: &Mailbox) -> String {
        let of = Sha256::digest(format!("{delivery}\0{}", to.email));
        let name = hex(&of[..MARK_BYTES]);
        let mark = self.mark(&name);
        format!("<{PREFIX}{name}.{mark}@{}>", self.from.email.domain())
    }

    /// Whether a mail of this Message-ID was sent with our key.
    pub(super) fn is_message_id(&self, id: &str) -> bool {
        let id = id.trim().trim_start_matches('<');
        let parts = id.strip_prefix(PREFIX).and_then(|rest| {
            let (local, _) = rest.split_once('@')?;
            local.split_once('.')
        });
        parts.is_some_and(|(name, mark)| self.mark(name) == mark)
    }

    fn mark(&self, name: &str) -> String {
        // Any key is one.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.key) else {
            return String::new();
        };
        mac.update(name.as_bytes());
        hex(&mac.finalize().into_bytes()[..MARK_BYTES])
    }

    /// Hands a mail over.
    pub(super) async fn send(&self, letter: &Letter<'_>, delivery: &str) -> Taken {
        let message = match letter.message(self, delivery) {
            Ok(message) => message,
            Err(error) => return Taken::Never(format!("no mail can be made of it: {error}")),
        };
        let Ok(_place) = self.places.acquire().await else {
            return Taken::Away("the mail server is not spoken to any more".to_owned());
        };
        let envelope = message.envelope();
        let mut addresses = envelope.to().iter().chain(envelope.from());
        let is_ascii = addresses.all(|one| AsRef::<str>::as_ref(one).is_ascii());
        let sending = self.transport.send(message);
        match tokio::time::timeout(self.timeout, sending).await {
            Ok(Ok(response)) => {
                let said: Vec<_> = response.message().collect();
                let said = format!("{} {}", response.code(), said.join(" "));
                if said.starts_with('2') {
                    Taken::Yes(said)
                } else {
                    Taken::Later(said)
                }
            }
            Ok(Err(error)) => judged(&error, is_ascii),
            Err(_) => {
                let seconds = self.timeout.as_secs();
                Taken::Away(format!(
                    "the mail server has not answered within {seconds} s"
                ))
            }
        }
    }
}

/// What an error means. That the server does not take our login is the operator's business.
/// `is_ascii`: whether the addresses can be said to any server.
fn judged(error: &SmtpError, is_ascii: bool) -> Taken {
    let code = error.status().map(u16::from);
    let told = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    match code {
        Some(530 | 534 | 535 | 538) => Taken::Later("the mail server refuses the login".to_owned()),
        Some(500..=599) => Taken::Never(told),
        Some(_) => Taken::Later(told),
        // The server has none, which such an address wants.
        None if !is_ascii && told.contains("SMTPUTF8") => Taken::Never(told),
        None => Taken::Away(told),
    }
}

fn parameters(options: &MailOptions) -> Result<TlsParameters, MailError> {
    let mut builder = TlsParameters::builder(options.server.clone());
    if let Some(pem) = &options.ca {
        let ca = Certificate::from_pem(pem).map_err(|error| MailError::Ca(error.to_string()))?;
        builder = builder.add_root_certificate(ca);
    }
    builder
        .build_rustls()
        .map_err(|error| MailError::Tls(error.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    let digits = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(key: u8) -> Server {
        let options = MailOptions {
            server: "127.0.0.1".to_owned(),
            port: None,
            tls: MailTls::None,
            ca: None,
            login: None,
            from: "dovecast <noreply@example.org>".to_owned(),
            envelope_from: None,
            recipients: Vec::new(),
            list_id: None,
            timeout: Duration::from_secs(1),
            key: [key; 32],
        };
        Server::new(&options).expect("a server")
    }

    #[test]
    fn our_message_ids_are_the_same_each_time_and_nobody_else_makes_them() {
        let to = "ann@example.org".parse().expect("an address");
        let id = server(1).message_id("msg_1", &to);
        assert_eq!(id, server(1).message_id("msg_1", &to));
        assert!(id.ends_with("@example.org>"), "{id}");
        assert!(server(1).is_message_id(&id));
        for other in [
            &*server(2).message_id("msg_1", &to),
            "<dovecast.@example.org>",
            "<dovecast.a.b@example.org>",
            "<a@example.org>",
            "",
        ] {
            assert!(!server(1).is_message_id(other), "{other}");
        }
    }
}
