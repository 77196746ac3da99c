//! The mailbox of the stand-in, and what one connection has been told of it.

use std::fmt::Write as _;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    uid: u32,
    flags: &'static str,
    head: Head,
}

/// What the head of a mail is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Head {
    #[default]
    Short,
    /// With so many bytes more.
    Long(usize),
    /// The server cannot read it.
    Unreadable,
}

#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    uidvalidity: u32,
    uidnext: u32,
    mails: Arc<Vec<Mail>>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self {
            uidvalidity: 7,
            uidnext: 1,
            mails: Arc::default(),
        }
    }
}

impl Mailbox {
    pub(crate) fn deliver(&mut self, flags: &'static str) {
        self.deliver_with(flags, Head::Short);
    }

    pub(crate) fn deliver_with(&mut self, flags: &'static str, head: Head) {
        let uid = self.uidnext;
        self.uidnext += 1;
        Arc::make_mut(&mut self.mails).push(Mail { uid, flags, head });
    }

    pub(crate) fn expunge(&mut self, uid: u32) {
        Arc::make_mut(&mut self.mails).retain(|mail| mail.uid != uid);
    }

    pub(crate) fn set_flags(&mut self, uid: u32, flags: &'static str) {
        for mail in Arc::make_mut(&mut self.mails) {
            if mail.uid == uid {
                mail.flags = flags;
            }
        }
    }

    /// All mails get other UIDs.
    pub(crate) fn renumber(&mut self) {
        self.uidvalidity += 1;
    }
}

/// What a connection knows.
#[derive(Default)]
pub(super) struct View(Arc<Vec<Mail>>);

impl View {
    pub(super) fn select(&mut self, mailbox: &Mailbox) -> String {
        self.0 = Arc::clone(&mailbox.mails);
        format!(
            "* {} EXISTS\r\n* OK [UIDVALIDITY {}] so\r\n* OK [UIDNEXT {}] so\r\n",
            self.0.len(),
            mailbox.uidvalidity,
            mailbox.uidnext
        )
    }

    /// EXPUNGE from the last to the first, FETCH, EXISTS.
    pub(super) fn changes(&mut self, mailbox: &Mailbox) -> String {
        let mut said = String::new();
        let is_there = |uid| mailbox.mails.iter().any(|mail| mail.uid == uid);
        for (at, _) in self
            .0
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, mail)| !is_there(mail.uid))
        {
            writeln!(said, "* {} EXPUNGE\r", at + 1).unwrap();
        }
        for (at, mail) in mailbox.mails.iter().enumerate() {
            let known = self.0.iter().find(|known| known.uid == mail.uid);
            if known.is_some_and(|known| known != mail) {
                writeln!(said, "* {} FETCH (FLAGS ({}))\r", at + 1, mail.flags).unwrap();
            }
        }
        let last = self.0.last().map_or(0, |mail| mail.uid);
        if mailbox.mails.iter().any(|mail| mail.uid > last) {
            writeln!(said, "* {} EXISTS\r", mailbox.mails.len()).unwrap();
        }
        self.0 = Arc::clone(&mailbox.mails);
        said
    }

    /// `UID FETCH first:* (...)` and `UID FETCH first:last (...)`; and how it ends.
    pub(super) fn fetch(&self, command: &str) -> (String, &'static str) {
        let set = command.split(' ').nth(2).expect("UIDs");
        let (first, last) = set.split_once(':').unwrap_or((set, set));
        let highest = self.0.last().map_or(0, |mail| mail.uid);
        // `9:*` has the last mail in it, whatever its UID.
        let first = first.parse::<u32>().expect("a UID");
        let first = if last == "*" {
            first.min(highest)
        } else {
            first
        };
        let last = last.parse().unwrap_or(u32::MAX);
        let (mut said, mut end) = (String::new(), "OK done");
        let is_cut = command.contains("(FROM SUBJECT)]<0.16384>");
        for (at, mail) in self.0.iter().enumerate() {
            if (first..=last).contains(&mail.uid) {
                let (number, uid, flags) = (at + 1, mail.uid, mail.flags);
                write!(said, "* {number} FETCH (UID {uid} FLAGS ({flags})").unwrap();
                if command.contains("BODY.PEEK[HEADER.FIELDS") {
                    let mut header = format!("From: bob{uid}@example.org\r\nSubject: s{uid}\r\n");
                    match mail.head {
                        Head::Short => {}
                        Head::Long(more) => {
                            write!(header, "Subject: {}\r\n", "x".repeat(more)).unwrap();
                        }
                        Head::Unreadable => {
                            end = "NO [SERVERBUG] a mail cannot be read";
                            said.push_str(")\r\n");
                            continue;
                        }
                    }
                    header.push_str("\r\n");
                    if is_cut {
                        header.truncate(16384);
                    }
                    let origin = if is_cut { "<0>" } else { "" };
                    let length = header.len();
                    write!(
                        said,
                        " BODY[HEADER.FIELDS (FROM SUBJECT)]{origin} {{{length}}}\r\n{header}"
                    )
                    .unwrap();
                }
                said.push_str(")\r\n");
            }
        }
        (said, end)
    }
}
