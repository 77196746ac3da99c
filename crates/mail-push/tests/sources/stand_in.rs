//! A stand-in for an IMAP server with IDLE and nothing else: one mailbox, which all logins share
//! and find by any name but `Nowhere`.

mod mailbox;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_mail_push::imap::ImapServer;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use mailbox::View;
pub(crate) use mailbox::{Head, Mailbox};

/// What the server is like.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) capabilities: &'static str,
    /// What a login is answered; `OK` takes it.
    pub(crate) login: &'static str,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            capabilities: "IMAP4rev1 IDLE AUTH=PLAIN SASL-IR",
            login: "OK welcome",
        }
    }
}

pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    pub(crate) shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

pub(crate) struct Shared {
    behaviour: Mutex<Behaviour>,
    mailbox: watch::Sender<Mailbox>,
    /// Number of times that all connections were cut.
    cuts: watch::Sender<usize>,
    pub(crate) idling: AtomicUsize,
    /// How often IDLE was begun.
    pub(crate) idles: AtomicUsize,
    /// What was said at logins, without the tag.
    pub(crate) logins: Mutex<Vec<String>>,
}

impl StandIn {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(behaviour),
            mailbox: watch::Sender::new(Mailbox::default()),
            cuts: watch::Sender::new(0),
            idling: AtomicUsize::new(0),
            idles: AtomicUsize::new(0),
            logins: Mutex::default(),
        });
        let of_listener = Arc::clone(&shared);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut cuts = of_listener.cuts.subscribe();
                let shared = Arc::clone(&of_listener);
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serve(stream, &shared) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            shared,
            listening,
        }
    }

    /// Without TLS.
    pub(crate) fn server(&self) -> ImapServer {
        ImapServer::parse(&format!("imap://{}", self.address), true, &no_tls()).expect("a server")
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Mailbox)) {
        self.shared.mailbox.send_modify(change);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until so many connections are in IDLE.
    pub(crate) async fn idling(&self, number: usize) {
        while self.shared.idling.load(Ordering::Acquire) < number {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

/// Trusts nobody.
pub(crate) fn no_tls() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions of TLS");
    let config = config.with_root_certificates(RootCertStore::empty());
    Arc::new(config.with_no_client_auth())
}

/// A place in the count of connections in IDLE.
struct Idling<'a>(&'a AtomicUsize);

impl Drop for Idling<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Session<'a> {
    shared: &'a Shared,
    lines: BufReader<OwnedReadHalf>,
    out: OwnedWriteHalf,
    changes: watch::Receiver<Mailbox>,
    view: View,
}

async fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let (read, out) = stream.into_split();
    let mut session = Session {
        shared,
        lines: BufReader::with_capacity(512, read),
        out,
        changes: shared.mailbox.subscribe(),
        view: View::default(),
    };
    session.say("* OK stand-in\r\n").await?;
    while let Some(line) = session.line().await? {
        let (tag, command) = line.split_once(' ').expect("a tag");
        session.carry_out(tag, command).await?;
    }
    Ok(())
}

impl Session<'_> {
    async fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.out.write_all(text.as_bytes()).await
    }

    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).await?;
        Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }

    async fn carry_out(&mut self, tag: &str, command: &str) -> std::io::Result<()> {
        let behaviour = self.shared.behaviour.lock().unwrap().clone();
        let word = command.split(' ').next().expect("a word");
        let mut end = "OK done".to_owned();
        match word {
            "CAPABILITY" => {
                let line = format!("* CAPABILITY {}\r\n", behaviour.capabilities);
                self.say(&line).await?;
            }
            "LOGIN" | "AUTHENTICATE" => {
                let said = self.login(command, &behaviour).await?;
                self.shared.logins.lock().unwrap().push(said);
                behaviour.login.clone_into(&mut end);
            }
            "EXAMINE" if command.contains("Nowhere") => {
                "NO [NONEXISTENT] no such mailbox".clone_into(&mut end);
            }
            "EXAMINE" => {
                let mailbox = self.changes.borrow_and_update().clone();
                let said = self.view.select(&mailbox);
                self.say(&said).await?;
            }
            "UID" => {
                let (said, how) = self.view.fetch(command);
                self.say(&said).await?;
                how.clone_into(&mut end);
            }
            "NOOP" => self.tell_changes().await?,
            "IDLE" => self.idle().await?,
            "LOGOUT" => self.say("* BYE\r\n").await?,
            _ => "BAD unknown".clone_into(&mut end),
        }
        self.say(&format!("{tag} {end}\r\n")).await
    }

    async fn login(&mut self, command: &str, behaviour: &Behaviour) -> std::io::Result<String> {
        if command.starts_with("LOGIN") {
            return self.with_literals(command).await;
        }
        let mut words = command.splitn(3, ' ').skip(1);
        let mechanism = words.next().expect("a mechanism").to_owned();
        let response = if let Some(initial) = words.next() {
            initial.to_owned()
        } else {
            self.say("+ \r\n").await?;
            self.line().await?.expect("a response")
        };
        let mut said = STANDARD.decode(response).expect("base64");
        if mechanism != "PLAIN" && !behaviour.login.starts_with("OK") {
            self.say("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n").await?;
            let last = self.line().await?.expect("an answer");
            said.extend(STANDARD.decode(last).expect("base64"));
        }
        Ok(format!(
            "{mechanism} {}",
            String::from_utf8_lossy(&said).escape_default()
        ))
    }

    /// A command with what its literals hold.
    async fn with_literals(&mut self, command: &str) -> std::io::Result<String> {
        let mut whole = command.to_owned();
        while whole.ends_with('}') {
            self.say("+ go on\r\n").await?;
            whole.push_str(&self.line().await?.expect("a literal"));
        }
        Ok(whole)
    }

    async fn idle(&mut self) -> std::io::Result<()> {
        // As Dovecot does.
        self.tell_changes().await?;
        self.say("+ idling\r\n").await?;
        self.shared.idles.fetch_add(1, Ordering::AcqRel);
        self.shared.idling.fetch_add(1, Ordering::AcqRel);
        let shared = self.shared;
        let _idling = Idling(&shared.idling);
        loop {
            self.tell_changes().await?;
            let mut line = String::new();
            tokio::select! {
                _ = self.changes.changed() => {}
                read = self.lines.read_line(&mut line) => {
                    read?;
                    return Ok(());
                }
            }
        }
    }

    async fn tell_changes(&mut self) -> std::io::Result<()> {
        let mailbox = self.changes.borrow_and_update().clone();
        let said = self.view.changes(&mailbox);
        self.say(&said).await
    }
}
