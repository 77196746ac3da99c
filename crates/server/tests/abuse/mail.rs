//! Mail of this host: an honest user whose new mails an Open-Xchange end-point and a webhook are
//! told of, and beside it an IMAP user without a shell, who makes events through Dovecot's plugin
//! of everything that IMAP lets a user write. Nobody else is ever spoken for.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use dovecast_relay::client::{Client, News};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::Scene;
use crate::honest::{Arrivals, Honest, Voice, receiver};
use crate::local::{client, finish, record};

/// The honest mail user, and the account of that user.
const ANN: &str = "ann@example.org";
/// The IMAP user who means harm, and somebody whose name that user writes into METADATA.
const MALLORY: &str = "mallory@example.org";
const VICTIM: &str = "ceo@victim.example";
/// What switches the driver `ox` on for a user; each user writes it.
const METADATA: &str = "/private/vendor/vendor.dovecot/http-notify";
/// UIDs of the IMAP user's mails are these and larger ones, those of the honest one are smaller.
const FIRST_UID: u64 = 1_000_000_000;
/// Numbers that each process of the honest user has.
const MAILS_OF_PROCESS: u64 = 1_000_000;
/// Mailboxes that are made, and flags that are set, for each mail.
const MAILBOXES: u64 = 100;
const FLAGS: u64 = 100;
/// Characters of a long header, in each mail of so many.
const LONG: usize = 180_000;
const LONG_EVERY: u64 = 10;

/// Who is told of mail, and what was told.
pub(crate) struct Told {
    /// Gets the new mails of all users.
    pub(crate) ox: HookEndpoint,
    /// Gets the events of the honest user.
    webhook: HookEndpoint,
    /// Gets the events of somebody who has no mail at all.
    victim: HookEndpoint,
    arrivals: Vec<Arrivals>,
    wrong: Wrong,
    /// Processes of the honest user so far.
    processes: AtomicU64,
    /// Mails of the IMAP user that the end-point was told of.
    hostile: Arc<AtomicU64>,
}

/// The first thing that was told to or of somebody whom it is none of.
#[derive(Clone, Default)]
struct Wrong(Arc<Mutex<Option<String>>>);

impl Wrong {
    fn note(&self, what: &str, body: &str) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shown: String = body.chars().take(500).collect();
        first.get_or_insert_with(|| format!("{what}: {shown}"));
    }
}

impl Told {
    /// The receivers, before there is a server.
    pub(crate) fn new() -> Result<Self> {
        let (wrong, hostile) = (Wrong::default(), Arc::new(AtomicU64::new(0)));
        let arrivals = vec![Arrivals::default(), Arrivals::default()];
        let ox = {
            let (wrong, hostile, arrivals) = (wrong.clone(), hostile.clone(), arrivals[0].clone());
            receiver(move |body| match told_of(body, "imap-uid") {
                Some((user, uid)) if user == ANN && uid < FIRST_UID => arrivals.note(uid - 1),
                Some((user, uid)) if user == MALLORY && uid >= FIRST_UID => {
                    hostile.fetch_add(1, Ordering::Relaxed);
                }
                _ => wrong.note("the end-point of ox", body),
            })?
        };
        let webhook = {
            let (wrong, arrivals) = (wrong.clone(), arrivals[1].clone());
            receiver(move |body| {
                let event = serde_json::from_str::<Value>(body).unwrap_or_default();
                match told_of(&event["message"].to_string(), "uid") {
                    Some((user, uid)) if user == ANN && uid < FIRST_UID => arrivals.note(uid - 1),
                    _ => wrong.note("the honest user's webhook", body),
                }
            })?
        };
        let victim = {
            let wrong = wrong.clone();
            receiver(move |body| wrong.note("the webhook of somebody without mail", body))?
        };
        Ok(Self {
            ox,
            webhook,
            victim,
            arrivals,
            wrong,
            processes: AtomicU64::new(0),
            hostile,
        })
    }

    /// The block of the configuration that has the end-point told.
    pub(crate) fn block(&self) -> String {
        let url = self.ox.url();
        format!("[push_notification.ox]\nox_url = '{url}'")
    }

    /// Endpoints of the honest user, and of the one who is spoken for.
    pub(crate) fn subscribe(&self, scene: &Scene<'_>) -> Result<()> {
        for (account, sink) in [(ANN, &self.webhook), (VICTIM, &self.victim)] {
            let token = scene.server.account_token(account)?;
            scene
                .server
                .endpoint(&token, ("mail", &sink.url()), "true")?;
        }
        Ok(())
    }

    /// The honest user, with a mail process that is new and numbers of its own.
    pub(crate) fn honest<'s>(&self, scene: &'s Scene<'s>) -> Honest<'s, MailProcess> {
        let first = self.processes.fetch_add(1, Ordering::Relaxed) * MAILS_OF_PROCESS;
        let process = MailProcess(client(scene, "lmtp"));
        Honest::new(scene, process, self.arrivals.clone(), first)
    }

    /// Whether everybody was told what is meant for him, and the IMAP user was heard at all.
    pub(crate) fn is_right(&self) -> Result<()> {
        let is_heard = || (self.hostile.load(Ordering::Relaxed) > 0).then_some(());
        poll_until(PATIENCE, is_heard).context("no mail of the IMAP user was told of")?;
        let wrong = self.wrong.0.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(wrong.is_none(), "{wrong:?}");
        Ok(())
    }
}

/// User and UID in a body.
fn told_of(body: &str, uid: &str) -> Option<(String, u64)> {
    let body: Value = serde_json::from_str(body).ok()?;
    Some((body["user"].as_str()?.to_owned(), body[uid].as_u64()?))
}

/// What the plugin says of a mail, with `detail=full` and METADATA.
fn new_mail(user: &str, uid: u64, metadata: &str, header: &str) -> String {
    json!({
        "user": user, "mailbox": "INBOX", "event": "MessageNew", "uidvalidity": 9, "uid": uid,
        "from": header, "snippet": header, "subject": header,
        "timestamp": "2026-11-20T12:34:56.000Z", "unseen": 1, "metadata": {METADATA: metadata}})
    .to_string()
}

/// The honest user, and a mail that this user never gets.
pub(crate) fn forged() -> (&'static str, String) {
    let mail = new_mail(ANN, FIRST_UID, &format!("user={ANN}"), "forged");
    (ANN, mail)
}

/// The mail process of the honest user.
pub(crate) struct MailProcess(Client);

impl Voice for MailProcess {
    fn send(&mut self, number: u64) -> Result<()> {
        let mail = new_mail(ANN, number + 1, &format!("user={ANN}"), "Lunch on Friday?");
        self.0.push(&record(ANN, &mail));
        self.0.flush();
        self.serve()
    }

    fn serve(&mut self) -> Result<()> {
        self.0.serve();
        let news = self.0.take_news();
        let is_loss = |news: &News| matches!(news, News::Lost { .. });
        ensure!(!news.iter().any(is_loss), "{news:?}");
        Ok(())
    }
}

/// What the IMAP user writes into METADATA so that others are spoken for.
fn metadata(number: u64) -> String {
    let others = [
        format!("user={VICTIM}"),
        format!("user={ANN}"),
        format!("user={MALLORY}\tuser={VICTIM}"),
        format!("user={ANN}\u{1}t\u{1}n\u{1}0\",\"user\":\"{VICTIM}"),
        format!("user=\u{2028}{VICTIM}\r\nHost: {VICTIM}"),
        format!("user={}", "x".repeat(30_000)),
        "user=".to_owned(),
    ];
    let place = usize::try_from(number).unwrap_or_default() % others.len();
    others[place].clone()
}

/// A command of the IMAP user: very many events, some of which belong to transactions that never
/// end, and a mail to oneself.
fn command(client: &mut Client, number: u64) -> Result<()> {
    let mut name = String::new();
    for mailbox in 0..MAILBOXES {
        name.clear();
        write!(name, "{number}/{mailbox}/\u{1f4ec}{}", "\"\\ü".repeat(60))?;
        let event = json!({
            "user": MALLORY, "mailbox": name, "event": "MailboxCreate", "uidvalidity": 0});
        client.push(&record(MALLORY, &event.to_string()));
    }
    let keywords: Vec<_> = (0..50)
        .map(|keyword| format!("$k{number}-{keyword}"))
        .collect();
    let txn = Uuid::now_v7();
    for seq in 0..FLAGS {
        let event = json!({
            "user": MALLORY, "mailbox": "INBOX", "event": "FlagsSet", "uidvalidity": 9,
            "uid": FIRST_UID, "flags": ["\\Seen"], "keywords": keywords})
        .to_string();
        let mut unfinished = record(MALLORY, &event);
        unfinished.txn = txn;
        unfinished.txn_seq = u32::try_from(seq).context("a large number")?;
        unfinished.txn_last = false;
        client.push(&unfinished);
    }
    let header = if number.is_multiple_of(LONG_EVERY) {
        "\u{0}=?utf-8?b?\r\n \"".repeat(LONG / 16)
    } else {
        format!("\"user\":\"{VICTIM}\"")
    };
    let mail = new_mail(MALLORY, FIRST_UID + number, &metadata(number), &header);
    client.push(&record(MALLORY, &mail));
    client.flush();
    Ok(())
}

/// Gives one command after the other, each in a process of its own.
pub(crate) fn write_everything(scene: &Scene<'_>) {
    let mut number = 0;
    scene.again(|| {
        let mut client = client(scene, "imap");
        command(&mut client, number)?;
        finish(client);
        number += 1;
        Ok(())
    });
}
