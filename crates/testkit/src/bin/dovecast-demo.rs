//! The demo: a Dovecot with the plugin and a Kafka broker in a temporary directory, a mail that is delivered, read, flagged
//! and deleted, and each event shown as it arrives in the topic.
//!
//! With `DEMO=keep` everything keeps running until Ctrl-C, and every further event is shown.

use std::io::{IsTerminal, Write, stdout};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_event::{EventKind, ParsedEvent, parse};
use dovecast_testkit::dovecot::{Dovecot, PASSWORD};
use dovecast_testkit::imap::ImapClient;
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::plugin::{Build, shared_object};
use dovecast_testkit::topic::{Record, TopicReader};

const TOPIC: &str = "dovecot";
const USER: &str = "alice@example.com";

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
    screen.note("building the plugin (the first time this takes some minutes) ...")?;
    let plugin = shared_object(Build::Dev)?;
    screen.note("starting a Kafka broker and a Dovecot in a temporary directory ...")?;
    let broker = MockBroker::start(1)?;
    broker.create_topic(TOPIC, 3)?;
    let mut dovecot = Dovecot::builder()
        .plugin(plugin)
        .driver(&format!("kafka:topic={TOPIC}"))
        .kafka("kafka_brokers", &broker.bootstrap_servers())
        .start()?;
    let settings = [("bootstrap.servers".to_owned(), broker.bootstrap_servers())];
    let mut reader = TopicReader::new(&settings, TOPIC)?;

    screen.act("LMTP", &format!("a mail for {USER} is delivered"))?;
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@example.org", &[USER], MAIL)?;
    lmtp.quit()?;
    screen.events(&mut reader, 2)?;

    let mut imap = dovecot.login(USER)?;
    imap.ok("SELECT INBOX")?;
    for (command, events) in ACTS {
        use_mail(&screen, &mut imap, command)?;
        screen.events(&mut reader, events)?;
    }
    imap.logout()?;

    if std::env::var("DEMO").is_ok_and(|value| value == "keep") {
        how_to_connect(&dovecot, &broker)?;
        screen.follow(&mut reader, &interrupted)?;
    }
    dovecot.stop()?;
    screen.note("done: Dovecot and broker are stopped, the temporary directory is removed")
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
        let text = self.paint("2", text);
        line(&text)
    }

    fn act(&self, protocol: &str, text: &str) -> Result<()> {
        let text = format!("\n{} {}", self.paint("1", protocol), self.paint("1", text));
        line(&text)
    }

    /// Shows the next `count` events as they arrive.
    fn events(&self, reader: &mut TopicReader, count: usize) -> Result<()> {
        let started = Instant::now();
        for _ in 0..count {
            let record = reader
                .next(Duration::from_secs(30))?
                .context("no event has arrived within 30 s")?;
            self.record(&record, Some(started.elapsed()))?;
        }
        Ok(())
    }

    fn record(&self, record: &Record, after: Option<Duration>) -> Result<()> {
        let event = parse(&record.value)?;
        let kind = self.paint(colour(event.kind), &format!("{:<18}", event.kind.name()));
        let after = after.map_or_else(String::new, |after| format!("{:>4} ms", after.as_millis()));
        let uid = event
            .uid
            .map_or_else(String::new, |uid| format!("uid {uid}"));
        let shown = format!(
            "{after:>8}  {kind} {:<10} {uid:<6} {}",
            event.mailbox,
            summary(&event)
        );
        line(&shown)?;
        let json = self.paint("2", &String::from_utf8_lossy(&record.value));
        line(&format!("{:>8}  {json}", ""))
    }

    /// Shows events until Ctrl-C.
    fn follow(&self, reader: &mut TopicReader, interrupted: &Receiver<()>) -> Result<()> {
        while interrupted.try_recv().is_err() {
            if let Some(record) = reader.next(Duration::from_millis(500))? {
                self.record(&record, None)?;
            }
        }
        line("")
    }
}

fn how_to_connect(dovecot: &Dovecot, broker: &MockBroker) -> Result<()> {
    let address = dovecot.address();
    line(&format!(
        "\neverything keeps running; every further event is shown here, Ctrl-C ends it\n\
         \n  IMAP    {address}:{}  user {USER} (or any other), password {PASSWORD}\
         \n  LMTP    {address}:{}\
         \n  Kafka   {}  topic {TOPIC}   (kcat -b {2} -t {TOPIC} -C)\
         \n  config  {}\
         \n  log     {}\n",
        dovecot.imap_port(),
        dovecot.lmtp_port(),
        broker.bootstrap_servers(),
        dovecot.config_path().display(),
        dovecot.dir().join("dovecot.log").display(),
    ))
}

fn line(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("cannot write to the terminal")
}

const fn colour(kind: EventKind) -> &'static str {
    match kind {
        EventKind::MessageNew | EventKind::MessageAppend => "1;32",
        EventKind::FlagsSet | EventKind::FlagsClear => "1;33",
        EventKind::MessageRead => "1;36",
        EventKind::MessageTrash | EventKind::MessageExpunge => "1;31",
        _ => "1;35",
    }
}

/// What is worth seeing at a glance.
fn summary(event: &ParsedEvent) -> String {
    let texts = [
        ("from", &event.from),
        ("subject", &event.subject),
        ("was", &event.old_mailbox),
    ];
    let mut parts: Vec<String> = texts
        .iter()
        .filter_map(|(name, text)| text.as_ref().map(|text| format!("{name} {text:?}")))
        .collect();
    parts.extend(event.flags.iter().flatten().cloned());
    parts.extend(event.keywords.iter().flatten().cloned());
    parts.join("  ")
}
