//! The source `imapidle`: what comes, changes and goes is told, while it listens and of the time it
//! was away.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{ImapServer, login_check};
use dovecast_mail_push::sources::{
    Boxed, Ended, Heard, HeardSink, IdleOptions, ImapIdle, Snapshot,
};
use dovecast_testkit::cut_proxy::CutProxy;
use dovecast_testkit::dovecot::{Dovecot, Installation};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{MAIL, alice, deliver, imap_of, own_login, password, runtime, server};
use crate::case::cases;
use crate::setup::{ARRIVAL, normalise};

cases![
    what_happens_in_a_mailbox_is_told,
    what_happened_while_nobody_listened_is_told,
    a_connection_that_is_cut_loses_nothing,
    a_wrong_password_is_refused,
];

/// Sends what it is told through a channel, and what is known of the mailbox then.
struct Channel(Sender<(Vec<String>, Snapshot)>);

impl HeardSink for Channel {
    fn take<'a>(
        &'a self,
        person: &'a Person,
        heard: &'a [Heard],
        snapshot: &'a Snapshot,
    ) -> Boxed<'a, bool> {
        let events = heard.iter().map(|heard| {
            let event = heard.event(&person.login);
            normalise(&String::from_utf8_lossy(&event))
        });
        let sent = self.0.send((events.collect(), snapshot.clone()));
        Box::pin(std::future::ready(sent.is_ok()))
    }
}

pub(super) struct Listener {
    told: Receiver<(Vec<String>, Snapshot)>,
    task: JoinHandle<Ended>,
    pub(super) snapshot: Snapshot,
}

impl Listener {
    /// Listens; what is known of the mailbox at first is there when it returns.
    pub(super) fn start(
        runtime: &Runtime,
        server: ImapServer,
        known: Option<Snapshot>,
    ) -> Result<Self> {
        let (sender, told) = channel();
        let options = IdleOptions {
            shortest_delay: Duration::from_millis(10),
            longest_delay: Duration::from_millis(200),
            ..IdleOptions::default()
        };
        let idle = ImapIdle::new(server, options, Arc::new(Channel(sender)));
        let is_known = known.is_some();
        let listen = idle.listen(alice()?, own_login(), known.clone());
        let mut listener = Self {
            told,
            task: runtime.spawn(listen),
            snapshot: known.unwrap_or_default(),
        };
        if !is_known {
            let told = listener.rounds(0)?;
            ensure!(told.is_empty(), "what was there before is told: {told:?}");
        }
        Ok(listener)
    }

    /// Events, this number of them, in as many rounds as it takes; at least one round.
    pub(super) fn rounds(&mut self, events: usize) -> Result<Vec<String>> {
        let mut told = Vec::new();
        loop {
            let (more, snapshot) = self
                .told
                .recv_timeout(ARRIVAL)
                .with_context(|| format!("only {told:?} is told, of {events} events"))?;
            told.extend(more);
            self.snapshot = snapshot;
            if told.len() >= events {
                return Ok(told);
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

const NEW: &str = r#"{"user":"alice","mailbox":"INBOX","event":"MessageNew","uidvalidity":V,"uid":1,"from":"=?utf-8?q?B=C3=B6b?= <bob@sender.example>","snippet":"Hello Alice, here I am.","subject":"Hello","unseen":1,"fromAddress":"bob@sender.example","fromDisplayName":"Böb","subjectDecoded":"Hello"}"#;

fn start(on: Installation) -> Result<Dovecot> {
    Dovecot::builder().installation(on).no_plugins().start()
}

fn event(kind: &str, uid: u32, more: &str) -> String {
    format!(
        r#"{{"user":"alice","mailbox":"INBOX","event":"{kind}","uidvalidity":V,"uid":{uid}{more}}}"#
    )
}

fn what_happens_in_a_mailbox_is_told(on: Installation) -> Result<()> {
    let dovecot = start(on)?;
    let runtime = runtime()?;
    let mut listener = Listener::start(&runtime, imap_of(&dovecot)?, None)?;
    deliver(&dovecot)?;
    let told = listener.rounds(1)?;
    ensure!(told == [NEW], "{told:?}");
    let mut imap = dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Seen)")?;
    let told = listener.rounds(1)?;
    ensure!(
        told == [event("FlagsSet", 1, r#","flags":["\\Seen"],"unseen":0"#)],
        "{told:?}"
    );
    imap.append("INBOX", "\\Seen", None, MAIL)?;
    let told = listener.rounds(1)?;
    ensure!(
        told[0].contains(r#""event":"MessageAppend","uidvalidity":V,"uid":2,"#),
        "{told:?}"
    );
    imap.ok("STORE 1 -FLAGS (\\Seen)")?;
    let told = listener.rounds(1)?;
    ensure!(
        told == [event("FlagsClear", 1, r#","flags":["\\Seen"],"unseen":1"#)],
        "{told:?}"
    );
    imap.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")?;
    imap.ok("EXPUNGE")?;
    // Who asks when it is gone already does not hear of the flag, or of both at once.
    let deleted = |unseen: u32| {
        let more = format!(r#","flags":["\\Deleted"],"unseen":{unseen}"#);
        event("FlagsSet", 1, &more)
    };
    let mut told = listener.rounds(1)?;
    let mut expected = [deleted(0), event("MessageExpunge", 1, r#","unseen":0"#)];
    if told == [deleted(1)] {
        expected[0] = deleted(1);
        told.extend(listener.rounds(1)?);
    }
    ensure!(told == expected || told == expected[1..], "{told:?}");
    imap.logout()?;
    Ok(())
}

fn what_happened_while_nobody_listened_is_told(on: Installation) -> Result<()> {
    let dovecot = start(on)?;
    let runtime = runtime()?;
    for _ in 0..4 {
        deliver(&dovecot)?;
    }
    let known = Listener::start(&runtime, imap_of(&dovecot)?, None)?
        .snapshot
        .clone();
    ensure!((known.known(), known.unseen()) == (4, Some(4)), "{known:?}");
    let mut imap = dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 2 +FLAGS (\\Seen)")?;
    imap.ok("STORE 3 +FLAGS (\\Deleted)")?;
    imap.ok("EXPUNGE")?;
    imap.logout()?;
    deliver(&dovecot)?;
    deliver(&dovecot)?;
    // With QRESYNC; and by comparing, where no modification sequence is known.
    let mut without_modseq = known.clone();
    without_modseq.modseq = 0;
    for known in [known, without_modseq] {
        let mut listener = Listener::start(&runtime, imap_of(&dovecot)?, Some(known))?;
        let mut told = listener.rounds(4)?;
        let news = told.split_off(2);
        told.sort();
        let expected = [
            event("FlagsSet", 2, r#","flags":["\\Seen"],"unseen":4"#),
            event("MessageExpunge", 3, r#","unseen":4"#),
        ];
        ensure!(told == expected, "{told:?}");
        let news: Vec<bool> = news
            .iter()
            .zip(["5", "6"])
            .map(|(new, uid)| {
                new.contains(&format!(
                    r#""event":"MessageNew","uidvalidity":V,"uid":{uid},"#
                )) && new.contains(r#""unseen":4"#)
            })
            .collect();
        ensure!(news == [true, true], "{news:?}");
        ensure!(listener.snapshot.known() == 5, "{:?}", listener.snapshot);
    }
    Ok(())
}

fn a_connection_that_is_cut_loses_nothing(on: Installation) -> Result<()> {
    let dovecot = start(on)?;
    let runtime = runtime()?;
    let proxy = CutProxy::start((dovecot.address(), dovecot.imap_port()))?;
    let mut listener = Listener::start(&runtime, server(&proxy.address().to_string())?, None)?;
    for number in 1..=3_u32 {
        proxy.cut();
        proxy.reset();
        deliver(&dovecot)?;
        proxy.heal();
        let told = listener.rounds(1)?;
        let expected = format!(r#""event":"MessageNew","uidvalidity":V,"uid":{number},"#);
        ensure!(told.len() == 1 && told[0].contains(&expected), "{told:?}");
        // Dovecot ends every session, and takes new ones.
        let kicked = dovecot.doveadm(&["kick", "alice"])?;
        ensure!(kicked.status.success(), "{kicked:?}");
    }
    Ok(())
}

fn a_wrong_password_is_refused(on: Installation) -> Result<()> {
    let dovecot = start(on)?;
    let runtime = runtime()?;
    let server = imap_of(&dovecot)?;
    runtime.block_on(login_check(&server, &own_login()))?;
    let checked = runtime.block_on(login_check(&server, &password("wrong")));
    let error = checked.err().context("a wrong password is taken")?;
    ensure!(error.is_refused_login(), "{error:?}");
    Ok(())
}
