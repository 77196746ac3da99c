//! What people do to their mailboxes, noted with the records it has to make.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use dovecast_testkit::dovecot::{Installation, MailFormat};
use dovecast_testkit::imap::ImapClient;
use dovecast_testkit::topic::{Record, TopicReader};

use crate::setup::{ARRIVAL, Setup, value};

/// A mail with all that a record shows of one.
pub(crate) const MAIL: &[u8] =
    b"From: Bob <bob@example.org>\r\nTo: alice@example.com\r\nSubject: Hi\r\n\
    Date: Fri, 20 Nov 2026 12:34:56 +0530\r\n\r\nHello Alice.\r\n";

/// What the JSON of [`MAIL`] ends with.
pub(crate) const CONTENT: &str = r#""from":"Bob <bob@example.org>","snippet":"Hello Alice.","subject":"Hi","to":"alice@example.com""#;

/// Who does something in a script.
pub(crate) const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// Commands and the records they have to make, in order.
pub(crate) struct Script {
    pub(crate) setup: Setup,
    expected: Vec<(String, String)>,
    reader: TopicReader,
    arrived: Vec<Record>,
}

impl Script {
    pub(crate) fn new(on: Installation, options: &str, format: MailFormat) -> Result<Self> {
        let setup = Setup::start(on, options, |builder| {
            builder.mail_format(format).lmtp_sieve(true)
        })?;
        setup.broker.create_topic("dovecot", 3)?;
        let reader = setup.reader("dovecot")?;
        Ok(Self {
            setup,
            expected: Vec::new(),
            reader,
            arrived: Vec::new(),
        })
    }

    /// After `act` the topic has these records of `user`; each is the JSON behind `"mailbox":`.
    pub(crate) fn expect(&mut self, act: &str, user: &str, tails: &[&str]) {
        for tail in tails {
            let json =
                format!(r#"{{"user":"{user}","mailbox":{tail}}}"#).replace("$CONTENT", CONTENT);
            self.expected.push((act.to_owned(), json));
        }
    }

    /// Runs an IMAP command of alice that has to succeed.
    pub(crate) fn imap(
        &mut self,
        imap: &mut ImapClient,
        command: &str,
        tails: &[&str],
    ) -> Result<()> {
        imap.ok(command)?;
        self.expect(command, "alice", tails);
        Ok(())
    }

    /// Waits until as many records have arrived as are expected: those of another process come
    /// after them.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let missing = self.expected.len().saturating_sub(self.arrived.len());
        self.arrived.extend(self.reader.read(missing, ARRIVAL)?);
        Ok(())
    }

    /// Compares what is in the topic with what was expected: nothing else, and the order kept per
    /// user.
    pub(crate) fn check(mut self) -> Result<()> {
        let records = &self.finish()?;
        for user in USERS {
            let key = |record: &&Record| record.key.as_deref() == Some(user.as_bytes());
            let mut arrived = records.iter().filter(key).map(value);
            let prefix = format!(r#"{{"user":"{user}","#);
            for (act, json) in self
                .expected
                .iter()
                .filter(|(_, json)| json.starts_with(&prefix))
            {
                let record = arrived.next().unwrap_or_default();
                ensure!(
                    record == *json,
                    "after {act}:\n  expected {json}\n  arrived  {record}"
                );
            }
            let rest: Vec<String> = arrived.collect();
            ensure!(rest.is_empty(), "more than expected: {rest:#?}");
        }
        ensure!(
            uidvalidities(records, "alice", "INBOX")?.len() == 1,
            "UIDVALIDITY of INBOX changed"
        );
        Ok(())
    }

    /// All records; mail has gone on without an error.
    pub(crate) fn finish(&mut self) -> Result<Vec<Record>> {
        self.settle()?;
        self.arrived.extend(self.reader.drain()?);
        let errors = self.setup.dovecot.errors_in_log();
        ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
        Ok(std::mem::take(&mut self.arrived))
    }
}

/// The different values of UIDVALIDITY, besides 0, in the records of a mailbox.
fn uidvalidities(records: &[Record], user: &str, mailbox: &str) -> Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for record in records {
        let event = dovecast_event::parse(&record.value)?;
        if event.user == user && event.mailbox == mailbox {
            found.extend(event.uidvalidity.filter(|value| *value != 0));
        }
    }
    Ok(found)
}
