//! What people do with mail, again and again over one connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::imap::ImapClient;
use dovecast_testkit::lmtp::LmtpClient;

/// A mail of 2 kB as people write them.
pub(crate) const MAIL: &str = concat!(
    "From: \"Bob Builder\" <bob@sender.example>\r\n",
    "To: Alice <alice@example.com>\r\n",
    "Subject: =?utf-8?q?Zahlen_f=C3=BCr_Z=C3=BCrich?=\r\n",
    "Date: Fri, 20 Nov 2026 12:34:56 +0530\r\n",
    "Message-ID: <20261120.123456@sender.example>\r\n",
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    "Dear Alice,\r\n\r\n",
    "the figures for the third quarter are in: sales up, costs down, and that is Zurich alone.\r\n",
    "I will send the slides tonight; would you look at page 7 before the board meets on Friday?\r\n",
    "The table there does not add up, as far as I can see, and somebody is going to ask for it.\r\n",
    "\r\nBest,\r\nBob\r\n\r\n",
    "> The figures for the second quarter were late, as everybody has noticed by now, because\r\n",
    "> they came in three formats and two currencies, and none of them was what we had agreed\r\n",
    "> upon in spring. I propose that we send one template to all, and that nobody changes it.\r\n",
    "> I propose further that the sums are made by the template and not by those who fill it.\r\n",
    "> Whoever needs another column writes to me, and it will be there for all of us next time.\r\n",
    ">\r\n",
    "> The figures for the second quarter were late, as everybody has noticed by now, because\r\n",
    "> they came in three formats and two currencies, and none of them was what we had agreed\r\n",
    "> upon in spring. I propose that we send one template to all, and that nobody changes it.\r\n",
    "> I propose further that the sums are made by the template and not by those who fill it.\r\n",
    "> Whoever needs another column writes to me, and it will be there for all of us next time.\r\n",
);

/// One connection on which the same is done again and again.
pub(crate) trait Workload: Sized {
    /// The service whose process does the work.
    const SERVICE: &'static str;

    fn open(dovecot: &Dovecot, user: &str) -> Result<Self>;

    /// Does it `count` times; gives the longest time one took.
    fn run(&mut self, count: u32) -> Result<Duration>;

    /// How many events `count` times make, counted by what `is_counted` says of each record's
    /// value.
    fn events(count: u32) -> u32;

    /// Whether the record is one of those that [`Self::events`] counts.
    fn is_counted(value: &str) -> bool;
}

/// Mails to one user over one LMTP connection.
pub(crate) struct Delivery {
    client: LmtpClient,
    user: String,
}

impl Workload for Delivery {
    const SERVICE: &'static str = "lmtp";

    fn open(dovecot: &Dovecot, user: &str) -> Result<Self> {
        Ok(Self {
            client: dovecot.lmtp()?,
            user: user.to_owned(),
        })
    }

    fn run(&mut self, count: u32) -> Result<Duration> {
        let Self { client, user } = self;
        repeat(count, |_| {
            client.deliver_ok("bob@sender.example", &[user], MAIL.as_bytes())
        })
    }

    fn events(count: u32) -> u32 {
        count
    }

    fn is_counted(value: &str) -> bool {
        value.contains(r#""event":"MessageNew""#)
    }
}

/// A flag and a keyword of one mail, set and cleared in turns in one IMAP session.
pub(crate) struct FlagChanges(ImapClient);

impl Workload for FlagChanges {
    const SERVICE: &'static str = "imap";

    fn open(dovecot: &Dovecot, user: &str) -> Result<Self> {
        let mut client = select_with_a_mail(dovecot, user)?;
        // An event of another kind: a plugin that is told to leave out flags has its producer all
        // the same.
        client.ok("CREATE Archive")?;
        Ok(Self(client))
    }

    fn run(&mut self, count: u32) -> Result<Duration> {
        repeat(count, |i| {
            let sign = if i % 2 == 0 { '+' } else { '-' };
            self.0
                .ok(&format!("STORE 1 {sign}FLAGS (\\Seen $label1)"))
                .map(|_| ())
        })
    }

    fn events(count: u32) -> u32 {
        // FlagsSet and MessageRead, then FlagsClear.
        count.div_ceil(2) * 2 + count / 2
    }

    fn is_counted(value: &str) -> bool {
        [r#""event":"Flags"#, r#""event":"MessageRead""#]
            .iter()
            .any(|event| value.contains(event))
    }
}

/// A session with INBOX selected, and a mail in it; no event has happened in its process.
pub(crate) fn select_with_a_mail(dovecot: &Dovecot, user: &str) -> Result<ImapClient> {
    // By LMTP, or another imap process would be around for a while.
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &[user], MAIL.as_bytes())?;
    lmtp.quit()?;
    let mut client = dovecot.login(user)?;
    client.ok("SELECT INBOX").context("no INBOX")?;
    Ok(client)
}

fn repeat(count: u32, mut one: impl FnMut(u32) -> Result<()>) -> Result<Duration> {
    let mut slowest = Duration::ZERO;
    for i in 0..count {
        let start = Instant::now();
        one(i)?;
        slowest = slowest.max(start.elapsed());
    }
    Ok(slowest)
}
