//! A user's story: mail after mail is flagged, and what arrives is compared with what was done, in
//! order.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dovecast_event::parse;
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::imap::ImapClient;
use dovecast_testkit::process;
use dovecast_testkit::topic::{Record, TopicReader};

use crate::setup::ARRIVAL;

/// The option of a driver instance that hears what a [`Story`] does and not how its mailbox was
/// filled.
pub(crate) const FLAG_EVENTS: &str = "events=FlagsSet,FlagsClear";

/// A mail short enough to have many of it.
pub(crate) const MAIL: &[u8] =
    b"From: Bob <bob@sender.example>\r\nTo: you\r\nSubject: Hi\r\n\r\nHello.\r\n";

/// How long a process may take to end: the times for flush and destroy (a second each) and a loaded
/// machine. That it does end is checked by it, not how fast.
pub(crate) const EXIT: Duration = dovecast_testkit::PATIENCE;

/// What a user did: one line per event, in order.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) user: String,
    pub(crate) events: Vec<String>,
}

/// A session that flags the mails of its INBOX one after the other, then clears the flags again,
/// and so on.
pub(crate) struct Story {
    pub(crate) imap: ImapClient,
    mails: usize,
    told: Told,
}

impl Story {
    /// Logs in and puts `mails` mails into the INBOX, which has to be empty.
    pub(crate) fn open(dovecot: &Dovecot, user: &str, mails: usize) -> Result<Self> {
        fill(dovecot, user, mails)?;
        Self::resume(dovecot, user, mails)
    }

    /// A session of a user whose INBOX holds `mails` mails, none of them flagged.
    pub(crate) fn resume(dovecot: &Dovecot, user: &str, mails: usize) -> Result<Self> {
        let mut imap = dovecot.login(user)?;
        imap.ok("SELECT INBOX")?;
        let told = Told {
            user: user.to_owned(),
            events: Vec::new(),
        };
        Ok(Self { imap, mails, told })
    }

    /// Makes the next event.
    pub(crate) fn step(&mut self) -> Result<()> {
        let done = self.told.events.len();
        let (uid, is_set) = (done % self.mails + 1, (done / self.mails).is_multiple_of(2));
        let (sign, kind) = if is_set {
            ('+', "FlagsSet")
        } else {
            ('-', "FlagsClear")
        };
        self.imap
            .ok(&format!("UID STORE {uid} {sign}FLAGS.SILENT (\\Flagged)"))
            .with_context(|| format!("session of `{}`", self.told.user))?;
        self.told.events.push(format!("{kind} {uid} \\Flagged"));
        Ok(())
    }

    /// Makes the next `count` events.
    pub(crate) fn steps(&mut self, count: usize) -> Result<()> {
        (0..count).try_for_each(|_| self.step())
    }

    /// How many mails the INBOX holds for it.
    pub(crate) fn mails(&self) -> usize {
        self.mails
    }

    /// What was done so far.
    pub(crate) fn told(&self) -> Told {
        self.told.clone()
    }

    /// Ends the session; gives what was done in it.
    pub(crate) fn logout(self) -> Result<Told> {
        self.imap.logout()?;
        Ok(self.told)
    }
}

/// Puts `count` mails into a user's INBOX.
pub(crate) fn fill(dovecot: &Dovecot, user: &str, count: usize) -> Result<()> {
    let mut imap = dovecot.login(user)?;
    for start in (0..count).step_by(500) {
        let mails = vec![("", MAIL); (count - start).min(500)];
        imap.multiappend("INBOX", &mails)?;
    }
    imap.logout()?;
    Ok(())
}

/// The process that serves the latest IMAP session of `user` that has not ended. The log may be
/// behind.
pub(crate) fn session_pid(dovecot: &Dovecot, user: &str) -> Result<u32> {
    let login = format!(" user=<{user}>, method=");
    let found = process::poll_until(ARRIVAL, || {
        let log = dovecot.log();
        let pid = |line: &str| -> Option<u32> {
            let (_, rest) = line.split_once("mpid=")?;
            rest.split(',').next()?.parse().ok()
        };
        let has_ended = |pid: u32| {
            let of_it = format!("imap({user})<{pid}>");
            let mut lines = log.lines().filter(|line| line.contains(&of_it));
            lines.any(|line| line.contains(": Disconnected"))
        };
        let logins = log.lines().filter(|line| line.contains(&login));
        let pids: Vec<u32> = logins.filter_map(pid).collect();
        let mut alive = pids.into_iter().rev();
        alive.find(|pid| !has_ended(*pid) && process::is_running(*pid))
    });
    found.with_context(|| format!("no session of `{user}` in the log:\n{}", dovecot.log()))
}

/// Waits for the end of a session's process.
pub(crate) fn wait_for_end(dovecot: &Dovecot, pid: u32) -> Result<()> {
    process::wait_exit(pid, EXIT).with_context(|| format!("Dovecot's log:\n{}", dovecot.log()))
}

/// Reads until everything has arrived and checks that it is just that: each user's events in order,
/// none twice.
pub(crate) fn check_arrived(reader: &mut TopicReader, told: &[Told]) -> Result<()> {
    let count = told.iter().map(|told| told.events.len()).sum();
    let mut records = reader.read(count, ARRIVAL)?;
    records.extend(reader.drain()?);
    check_same(&records, told)
}

/// As [`check_arrived`] where a connection was cut: a record may come again, with the same
/// `dovecast-id`.
pub(crate) fn check_arrived_at_least_once(
    reader: &mut TopicReader,
    told: &[Told],
) -> Result<usize> {
    let count: usize = told.iter().map(|told| told.events.len()).sum();
    let mut known = HashSet::new();
    let mut records = Vec::new();
    let mut repeated = 0;
    let mut take = |record: Record| -> Result<usize> {
        let id = record.header("dovecast-id").context("no `dovecast-id`")?;
        if known.insert(id.to_vec()) {
            records.push(record);
        } else {
            repeated += 1;
        }
        Ok(records.len())
    };
    let mut arrived = 0;
    while arrived < count {
        let record = reader
            .next(ARRIVAL)?
            .with_context(|| format!("only `{arrived}` of `{count}` records arrived"))?;
        arrived = take(record)?;
    }
    for record in reader.drain()? {
        take(record)?;
    }
    check_same(&records, told)?;
    Ok(repeated)
}

/// Compares records with what was done, user by user.
pub(crate) fn check_same(records: &[Record], told: &[Told]) -> Result<()> {
    let mut by_user: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in records {
        let user = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        by_user.entry(user).or_default().push(line(record)?);
    }
    for told in told {
        let arrived = by_user.remove(&told.user).unwrap_or_default();
        let same = arrived
            .iter()
            .zip(&told.events)
            .take_while(|(arrived, told)| arrived == told)
            .count();
        ensure!(
            arrived == told.events,
            "of `{}`, {} events arrived where {} were made; the first that differs is number {same}: {:?} arrived, {:?} was made",
            told.user,
            arrived.len(),
            told.events.len(),
            arrived.get(same),
            told.events.get(same),
        );
    }
    if let Some((user, lines)) = by_user.first_key_value() {
        bail!("events of `{user}`, who did nothing: {lines:?}");
    }
    Ok(())
}

/// `FlagsSet 7 \Flagged`
pub(crate) fn line(record: &Record) -> Result<String> {
    let event = parse(&record.value).with_context(|| format!("the value of {record}"))?;
    let mut line = event.kind.name().to_owned();
    if let Some(uid) = event.uid {
        line = format!("{line} {uid}");
    }
    for word in event
        .flags
        .iter()
        .flatten()
        .chain(event.keywords.iter().flatten())
    {
        line = format!("{line} {word}");
    }
    Ok(line)
}

/// How many events the log says are lost, over all processes.
pub(crate) fn lost(log: &str) -> u64 {
    let number = |line: &str| {
        let (before, _) = line.split_once(" events for `")?;
        before.rsplit(' ').next()?.parse::<u64>().ok()
    };
    log.lines()
        .filter(|line| line.contains("push-notification-kafka: ") && line.contains("` lost: "))
        .filter_map(number)
        .sum()
}

/// That the log tells of so many lost events. Dovecot's log process writes the last lines of a
/// process perhaps after that has ended.
pub(crate) fn check_lost(dovecot: &Dovecot, count: u64) -> Result<()> {
    let is_told = || (lost(&dovecot.log()) == count).then_some(());
    process::poll_until(ARRIVAL, is_told).with_context(|| {
        let log = dovecot.log();
        let told = lost(&log);
        format!("the log tells of {told} lost events, {count} were lost:\n{log}")
    })
}

/// That no process of Dovecot died.
pub(crate) fn check_alive(dovecot: &Dovecot) -> Result<()> {
    const SIGNS: [&str; 4] = [
        " Panic: ",
        " Fatal: ",
        "killed with signal",
        "Raw backtrace",
    ];
    let log = dovecot.log();
    let line = log
        .lines()
        .find(|line| SIGNS.iter().any(|sign| line.contains(sign)));
    match line {
        None => Ok(()),
        Some(line) => bail!("a process of Dovecot died: {line}"),
    }
}
