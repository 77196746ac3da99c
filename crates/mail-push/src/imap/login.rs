//! Logins: with a password, a token of OAuth 2 (RFC 7628), or as a master user for somebody else.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::client::{Part, SHORT_WAIT, in_time};
use super::reply::{Capabilities, Code, Done, Status};
use super::{Client, ImapError, ImapServer};

/// Codes of a refused login that say nothing about the secret (RFC 5530, RFC 9208).
const NOT_NOW: [&str; 7] = [
    "UNAVAILABLE",
    "SERVERBUG",
    "LIMIT",
    "INUSE",
    "OVERQUOTA",
    "CONTACTADMIN",
    "PRIVACYREQUIRED",
];
/// Words of servers that say the same without a code.
const WORDS_OF_NOT_NOW: [&str; 6] = [
    "too many",
    "try again later",
    "temporar",
    "unavailable",
    "internal error",
    "maximum number",
];

/// What somebody proves who they are with; shown to nobody and erased from memory.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

/// Who logs in, and how.
#[derive(Clone, Debug)]
pub enum Login {
    /// The person with their password.
    Password {
        /// The person's login.
        login: Arc<str>,
        /// Their password.
        password: Secret,
    },
    /// The person with a token of OAuth 2.
    Token {
        /// The person's login.
        login: Arc<str>,
        /// Their token.
        token: Secret,
    },
    /// A master user in the person's place.
    Master {
        /// The person's login.
        login: Arc<str>,
        /// Name of the master user.
        master: Arc<str>,
        /// Password of the master user.
        password: Secret,
    },
}

impl Secret {
    /// Keeps a secret.
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The secret itself, for whoever sends or seals it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.reveal() == other.reveal()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// Whether this server takes a login, as a session of the REST API asks it. The error tells a login
/// that was refused from a server that is away: [`ImapError::is_refused_login`].
pub async fn login_check(server: &ImapServer, login: &Login) -> Result<(), ImapError> {
    let mut client = Client::connect(server).await?;
    client.login(login).await?;
    client.logout().await;
    Ok(())
}

impl Client {
    /// Logs in; the capabilities are those of the person then.
    pub async fn login(&mut self, login: &Login) -> Result<(), ImapError> {
        let done = in_time(SHORT_WAIT, self.authenticate(login)).await?;
        match judged(done)? {
            Some(Code::Capability(offered)) => self.offered = offered,
            _ => self.ask_capabilities().await?,
        }
        Ok(())
    }

    async fn authenticate(&mut self, login: &Login) -> Result<Done, ImapError> {
        let offered = self.offered;
        match login {
            Login::Password { login, password } if !offered.offer(Capabilities::PLAIN) => {
                self.login_command(login, password).await
            }
            Login::Password { login, password } => {
                let response = plain("", login, password);
                self.sasl("PLAIN", response).await
            }
            Login::Master {
                login,
                master,
                password,
            } if offered.offer(Capabilities::PLAIN) => {
                self.sasl("PLAIN", plain(login, master, password)).await
            }
            Login::Master { .. } => Err(ImapError::Lacks("AUTH=PLAIN")),
            Login::Token { login, token } if offered.offer(Capabilities::OAUTHBEARER) => {
                self.sasl("OAUTHBEARER", bearer(login, token)).await
            }
            Login::Token { login, token } if offered.offer(Capabilities::XOAUTH2) => {
                self.sasl("XOAUTH2", xoauth2(login, token)).await
            }
            Login::Token { .. } => Err(ImapError::Lacks("AUTH=OAUTHBEARER or AUTH=XOAUTH2")),
        }
    }

    async fn login_command(&mut self, login: &str, password: &Secret) -> Result<Done, ImapError> {
        if self.offered.offer(Capabilities::LOGIN_DISABLED) {
            return Err(ImapError::Lacks("a login with a password here"));
        }
        let command = [
            Part::Text("LOGIN "),
            Part::String(login.as_bytes()),
            Part::Text(" "),
            Part::String(password.reveal().as_bytes()),
        ];
        self.run(&command, SHORT_WAIT, drop).await
    }

    /// AUTHENTICATE with one response; a second challenge tells of an error (RFC 7628 section
    /// 3.2.3), and is answered so that the server may end.
    async fn sasl(
        &mut self,
        mechanism: &str,
        response: Zeroizing<Vec<u8>>,
    ) -> Result<Done, ImapError> {
        let tag = if self.offered.offer(Capabilities::SASL_IR) {
            let response = Zeroizing::new(base64(&response));
            let command = [
                Part::Text("AUTHENTICATE "),
                Part::Text(mechanism),
                Part::Text(" "),
                Part::Text(&response),
            ];
            self.begin_command(&command).await?
        } else {
            let command = [Part::Text("AUTHENTICATE "), Part::Text(mechanism)];
            let tag = self.begin_command(&command).await?;
            self.wait_to_continue(tag).await?;
            self.send_base64(&response).await?;
            tag
        };
        self.sasl_end(tag, mechanism).await
    }

    async fn sasl_end(&mut self, tag: u32, mechanism: &str) -> Result<Done, ImapError> {
        use super::reply::Reply;
        let mut challenges = 0;
        loop {
            match self.reply().await? {
                Reply::Done(done) if done.tag == tag => return Ok(done),
                Reply::Continue(_) if challenges == 0 => {
                    challenges += 1;
                    let answer: &[u8] = match mechanism {
                        "OAUTHBEARER" => b"\x01",
                        _ => b"",
                    };
                    self.send_base64(answer).await?;
                }
                Reply::Data(data) => super::client::end_of_session(&data)?,
                Reply::Done(_) | Reply::Continue(_) => {
                    let text = "it does not end the login".to_owned();
                    return Err(ImapError::Protocol(text));
                }
            }
        }
    }

    /// Says goodbye. Nothing hangs on the answer: the connection is closed in any case.
    pub async fn logout(mut self) {
        if let Err(error) = self.plain("LOGOUT").await {
            tracing::trace!(%error, "the IMAP server has closed the connection");
        }
    }
}

/// Whether a login is refused for now, whatever the secret is. What names the secret by its code
/// is about the secret.
fn is_not_now(code: Option<&Code>, text: &str) -> bool {
    const OF_THE_SECRET: [&str; 3] = ["AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED"];
    if let Some(Code::Other(code)) = code {
        if OF_THE_SECRET.contains(&&**code) {
            return false;
        }
        if NOT_NOW.contains(&&**code) {
            return true;
        }
    }
    let text = text.to_ascii_lowercase();
    let is_of_the_secret = ["incorrect", "invalid", "wrong", "bad "];
    if is_of_the_secret.iter().any(|word| text.contains(word)) {
        return false;
    }
    WORDS_OF_NOT_NOW.iter().any(|words| text.contains(words))
}

/// What became of a login. BAD is a fault of the client or the server, and no word on the secret.
fn judged(done: Done) -> Result<Option<Code>, ImapError> {
    match (done.status, &done.code) {
        (Status::Ok, _) => Ok(done.code),
        (Status::No, code) if is_not_now(code.as_ref(), &done.text) => {
            Err(ImapError::Unavailable(done.text))
        }
        (Status::No, _) => Err(ImapError::Refused(done.text)),
        _ => Err(ImapError::Command {
            command: "the login",
            text: done.text,
        }),
    }
}

/// RFC 4616: for whom, who, password.
fn plain(for_whom: &str, login: &str, password: &Secret) -> Zeroizing<Vec<u8>> {
    let parts = [for_whom, login, password.reveal()];
    Zeroizing::new(parts.join("\0").into_bytes())
}

/// RFC 7628 section 3.1; `,` and `=` of a name are escaped (RFC 5801 section 4).
fn bearer(login: &str, token: &Secret) -> Zeroizing<Vec<u8>> {
    let login = login.replace('=', "=3D").replace(',', "=2C");
    let token = token.reveal();
    Zeroizing::new(format!("n,a={login},\x01auth=Bearer {token}\x01\x01").into_bytes())
}

/// The form of Google and Microsoft.
fn xoauth2(login: &str, token: &Secret) -> Zeroizing<Vec<u8>> {
    let token = token.reveal();
    Zeroizing::new(format!("user={login}\x01auth=Bearer {token}\x01\x01").into_bytes())
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}
