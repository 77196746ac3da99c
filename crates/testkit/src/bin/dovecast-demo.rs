//! The demo: a Dovecot with the plugin, and `dovecast serve` with its embedded log, in a temporary
//! directory; a mail that is delivered, read, flagged and deleted, and each event as `dovecast
//! tail` shows it.
//!
//! With `DEMO=keep` everything keeps running until Ctrl-C, and every further event is shown.

use std::io::{IsTerminal, Write, stdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_testkit::dovecot::{Dovecot, MAIL_UID, PASSWORD};
use dovecast_testkit::imap::ImapClient;
use dovecast_testkit::plugin::{Build, shared_object};
use dovecast_testkit::server::{Server, Tail};

const TOPIC: &str = "dovecot";
const USER: &str = "alice@example.com";
/// How long an event may take.
const ARRIVAL: Duration = Duration::from_secs(30);

const MAIL: &[u8] = b"From: Bob Sender <bob@example.org>\r\n\
    To: alice@example.com\r\n\
    Subject: Lunch on Friday?\r\n\
    Date: Fri, 20 Nov 2026 12:34:56 +0100\r\n\
    Message-ID: <lunch@example.org>\r\n\
    \r\n\
    Shall we meet at noon? The usual place.\r\n";

/// What happens to the mail: the IMAP command, and how many events it makes.
const ACTS: [(&str, usize); 7] = [
    ("FETCH 1 BODY[TEXT]", 2),
    ("STORE 1 +FLAGS (\\Flagged $label1)", 1),
    ("CREATE Lunch", 1),
    ("COPY 1 Lunch", 1),
    ("STORE 1 +FLAGS (\\Deleted)", 2),
    ("EXPUNGE", 1),
    ("RENAME Lunch Friday", 1),
];

fn main() -> Result<()> {
    let interrupted = interrupts()?;
    let screen = Screen {
        colour: stdout().is_terminal(),
    };
    screen.note("building the plugin and dovecast (the first time this takes some minutes) ...")?;
    let plugin = shared_object(Build::Dev)?;
    let dovecot = Dovecot::builder()
        .plugin(plugin)
        .relay()
        .driver(&format!("kafka:topic={TOPIC}"));
    screen.note("starting `dovecast serve` and a Dovecot in a temporary directory ...")?;
    let mut dovecot = dovecot.start()?;
    let relay = dovecot.relay_dir();
    let mut server = Server::builder()
        .relay(relay.join("relay.sock"), relay.join("spill"))
        .config(&format!("allow = [\"root\", \"{MAIL_UID}\"]"))
        .start()?;
    // The topic is not there yet: it is read from its beginning.
    let tail = server.tail(&["--topic", TOPIC, "--from", "beginning"])?;

    screen.act("LMTP", &format!("a mail for {USER} is delivered"))?;
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &[USER], MAIL)?;
    lmtp.quit()?;
    screen.events(&tail, 2)?;

    let mut imap = dovecot.login(USER)?;
    imap.ok("SELECT INBOX")?;
    for (command, events) in ACTS {
        use_mail(&screen, &mut imap, command)?;
        screen.events(&tail, events)?;
    }
    imap.logout()?;

    screen.note("\nthe last of them as it is in the log:")?;
    let records = server.records(TOPIC)?;
    line(records.last().context("the log is empty")?)?;

    if std::env::var("DEMO").is_ok_and(|value| value == "keep") {
        how_to_connect(&dovecot, &server)?;
        screen.follow(&tail, &interrupted)?;
    }
    drop(tail);
    dovecot.stop()?;
    server.stop()?;
    screen.note("done: Dovecot and dovecast are stopped, the temporary directory is removed")
}

/// Ctrl-C arrives here, so that everything is cleaned up.
fn interrupts() -> Result<Receiver<()>> {
    let (sender, receiver) = channel();
    ctrlc::set_handler(move || {
        let _ = sender.send(());
    })
    .context("cannot watch for Ctrl-C")?;
    Ok(receiver)
}

fn use_mail(screen: &Screen, imap: &mut ImapClient, command: &str) -> Result<()> {
    screen.act("IMAP", command)?;
    imap.ok(command)?;
    Ok(())
}

/// The terminal.
struct Screen {
    colour: bool,
}

impl Screen {
    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    fn note(&self, text: &str) -> Result<()> {
        line(&self.paint("2", text))
    }

    fn act(&self, protocol: &str, text: &str) -> Result<()> {
        let text = format!("\n{} {}", self.paint("1", protocol), self.paint("1", text));
        line(&text)
    }

    /// Shows the next `count` events as they arrive.
    fn events(&self, tail: &Tail, count: usize) -> Result<()> {
        let started = Instant::now();
        for _ in 0..count {
            let event = tail.next(ARRIVAL)?;
            let event =
                event.with_context(|| format!("no event has arrived within {ARRIVAL:?}"))?;
            let after = format!("{:>4} ms", started.elapsed().as_millis());
            line(&format!("{}  {event}", self.paint("2", &after)))?;
        }
        Ok(())
    }

    /// Shows events until Ctrl-C.
    fn follow(&self, tail: &Tail, interrupted: &Receiver<()>) -> Result<()> {
        while interrupted.try_recv().is_err() {
            match tail.next(Duration::from_millis(500)) {
                Ok(Some(event)) => line(&format!("{:>7}  {event}", ""))?,
                Ok(None) => {}
                // A terminal's Ctrl-C ends both at once.
                Err(_) if interrupted.recv_timeout(Duration::from_secs(1)).is_ok() => break,
                Err(error) => return Err(error),
            }
        }
        self.note("")
    }
}

fn how_to_connect(dovecot: &Dovecot, server: &Server) -> Result<()> {
    let address = dovecot.address();
    line(&format!(
        "\neverything keeps running; every further event is shown here, Ctrl-C ends it\n\
         \n  IMAP     {address}:{}  user {USER} (or any other), password {PASSWORD}\
         \n  LMTP     {address}:{}\
         \n  HTTP     http://{}   (/api/hooks; the admin token is in server.out beside the config)\
         \n  log      {}   ({:?})\
         \n  config   {}\
         \n  Dovecot  {}\n",
        dovecot.imap_port(),
        dovecot.lmtp_port(),
        server.address()?,
        server.data_dir().display(),
        server.command(["tail", "--format", "json"]),
        server.config_file().display(),
        dovecot.dir().join("dovecot.log").display(),
    ))
}

fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("cannot write to the terminal")
}
