//! Commands after the login: mailboxes, mails, IDLE, METADATA.

use std::time::Duration;

use tokio::time::timeout;

use super::client::{LONG_WAIT, Part, SHORT_WAIT, in_time, well};
use super::reply::{Capabilities, Code, Data, Reply, Status, StatusItems};
use super::{Client, ImapError, mailbox_name};

/// A mailbox as SELECT has found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selected {
    /// UIDVALIDITY, 0 where the server keeps no UIDs.
    pub uidvalidity: u32,
    /// UIDNEXT; 0 if it was not said.
    pub uidnext: u32,
    /// HIGHESTMODSEQ; 0 if the mailbox has none.
    pub modseq: u64,
    /// Mails in the mailbox.
    pub exists: u32,
}

impl Client {
    /// Whether the server offers IDLE.
    pub const fn has_idle(&self) -> bool {
        self.offered.offer(Capabilities::IDLE)
    }

    /// Whether the server offers METADATA.
    pub const fn has_metadata(&self) -> bool {
        self.offered.offer(Capabilities::METADATA)
    }

    /// Whether the server makes the beginning of a text itself (RFC 8970).
    pub const fn has_preview(&self) -> bool {
        self.offered.offer(Capabilities::PREVIEW)
    }

    /// Whether the server tells of other mailboxes than the selected one (RFC 5465).
    pub const fn has_notify(&self) -> bool {
        self.offered.offer(Capabilities::NOTIFY)
    }

    /// Has the server say what has changed by UIDs (RFC 7162), if it can.
    pub async fn enable_qresync(&mut self) -> Result<bool, ImapError> {
        if !self.offered.offer(Capabilities::QRESYNC) {
            return Ok(false);
        }
        self.plain("ENABLE QRESYNC").await.map(|()| true)
    }

    /// Says who we are (RFC 2971), for the server's log.
    pub async fn tell_name(&mut self) -> Result<(), ImapError> {
        if !self.offered.offer(Capabilities::ID) {
            return Ok(());
        }
        self.plain("ID (\"name\" \"dovecast\")").await
    }

    /// Selects a mailbox for reading only (EXAMINE): no flag changes by our being there, `\Recent`
    /// stays. With `since`, UIDVALIDITY and modification sequence, `heard` is told of what has
    /// changed.
    pub async fn select(
        &mut self,
        mailbox: &str,
        since: Option<(u32, u64)>,
        mut heard: impl FnMut(Data),
    ) -> Result<Selected, ImapError> {
        let mut selected = Selected::default();
        let parameters = match since {
            Some((uidvalidity, modseq)) => format!(" (QRESYNC ({uidvalidity} {modseq}))"),
            None if self.offered.offer(Capabilities::CONDSTORE) => " (CONDSTORE)".to_owned(),
            None => String::new(),
        };
        let name = mailbox_name::encoded(mailbox);
        let command = [
            Part::Text("EXAMINE "),
            Part::String(name.as_bytes()),
            Part::Text(&parameters),
        ];
        let listen = |data: Data| {
            match &data {
                Data::Exists(number) => selected.exists = *number,
                Data::Status {
                    status: Status::Ok,
                    code: Some(code),
                    ..
                } => match code {
                    Code::UidValidity(number) => selected.uidvalidity = *number,
                    Code::UidNext(number) => selected.uidnext = *number,
                    Code::HighestModSeq(number) => selected.modseq = *number,
                    _ => {}
                },
                _ => {}
            }
            heard(data);
        };
        let done = self.run(&command, LONG_WAIT, listen).await?;
        well("EXAMINE", done)?;
        Ok(selected)
    }

    /// UID FETCH of a set of UIDs and items, both as they stand in the command.
    pub async fn fetch(
        &mut self,
        uids: &str,
        items: &str,
        heard: impl FnMut(Data),
    ) -> Result<(), ImapError> {
        let command = [
            Part::Text("UID FETCH "),
            Part::Text(uids),
            Part::Text(" ("),
            Part::Text(items),
            Part::Text(")"),
        ];
        let done = self.run(&command, LONG_WAIT, heard).await?;
        well("FETCH", done).map(drop)
    }

    /// NOOP: the server tells what has changed.
    pub async fn noop(&mut self, heard: impl FnMut(Data)) -> Result<(), ImapError> {
        let done = self.run(&[Part::Text("NOOP")], SHORT_WAIT, heard).await?;
        well("NOOP", done).map(drop)
    }

    /// IDLE (RFC 2177) until the server says something, or for so long. What it says goes to
    /// `heard`; `true` if it was anything.
    pub async fn idle(
        &mut self,
        longest: Duration,
        mut heard: impl FnMut(Data),
    ) -> Result<bool, ImapError> {
        // What is said before IDLE has begun is not said again: then there is nothing to wait for.
        let mut is_told = false;
        let mut listen = |data| {
            is_told |= is_change(&data);
            heard(data);
        };
        let tag = in_time(SHORT_WAIT, self.begin_idle(&mut listen)).await?;
        let wait = if is_told { Duration::ZERO } else { longest };
        let first = match timeout(wait, self.next_change()).await {
            Ok(data) => Some(data?),
            Err(_) => None,
        };
        let has_changed = is_told || first.is_some();
        if let Some(data) = first {
            heard(data);
        }
        while let Some(Reply::Data(data)) = self.received()? {
            heard(data);
        }
        let end = async {
            self.send(b"DONE\r\n").await?;
            self.end(tag, &mut heard).await
        };
        well("IDLE", in_time(SHORT_WAIT, end).await?)?;
        Ok(has_changed)
    }

    async fn begin_idle(&mut self, heard: &mut impl FnMut(Data)) -> Result<u32, ImapError> {
        let tag = self.begin_command(&[Part::Text("IDLE")]).await?;
        loop {
            match self.reply().await? {
                Reply::Continue(_) => return Ok(tag),
                Reply::Data(data) => {
                    super::client::end_of_session(&data)?;
                    heard(data);
                }
                Reply::Done(done) => {
                    return well("IDLE", done)
                        .and_then(|_| Err(ImapError::Protocol("it ends IDLE at once".to_owned())));
                }
            }
        }
    }

    /// NOTIFY (RFC 5465): besides what happens in the selected mailbox the server says from now on
    /// when mails come into any other one of the person, and how all of them are now. `false` if it
    /// does not do that.
    pub async fn notify(&mut self, heard: impl FnMut(Data)) -> Result<bool, ImapError> {
        let command = "NOTIFY SET STATUS (selected-delayed (MessageNew MessageExpunge FlagChange)) \
            (personal (MessageNew MessageExpunge))";
        let done = self.run(&[Part::Text(command)], LONG_WAIT, heard).await?;
        Ok(done.status == Status::Ok)
    }

    /// The mailboxes that have a use of their own (RFC 6154), for rubbish or for drafts for
    /// instance; none where the server does not say.
    pub async fn special_mailboxes(&mut self) -> Result<Vec<String>, ImapError> {
        let mut found = Vec::new();
        if !self.offered.offer(Capabilities::SPECIAL_USE) {
            return Ok(found);
        }
        let listen = |data| {
            if let Data::List { mailbox } = data {
                found.push(mailbox);
            }
        };
        let command = [Part::Text("LIST (SPECIAL-USE) \"\" \"*\"")];
        let done = self.run(&command, SHORT_WAIT, listen).await?;
        well("LIST", done)?;
        Ok(found)
    }

    /// What the server says next of the mailbox. Dovecot says "still here" in between.
    async fn next_change(&mut self) -> Result<Data, ImapError> {
        loop {
            self.rest();
            match self.reply().await? {
                Reply::Data(Data::Status { status, code, text }) => {
                    if has_lost(status, code.as_ref(), &text) {
                        return Err(ImapError::Unavailable(text));
                    }
                    let data = Data::Status { status, code, text };
                    super::client::end_of_session(&data)?;
                }
                Reply::Data(Data::Other) => {}
                Reply::Data(data) => return Ok(data),
                Reply::Continue(_) | Reply::Done(_) => {
                    return Err(ImapError::Protocol("it ends IDLE by itself".to_owned()));
                }
            }
        }
    }

    /// STATUS of a mailbox: the items by their names, `UIDNEXT UNSEEN`.
    pub async fn status(&mut self, mailbox: &str, items: &str) -> Result<StatusItems, ImapError> {
        let mut found = Vec::new();
        let name = mailbox_name::encoded(mailbox);
        let command = [
            Part::Text("STATUS "),
            Part::String(name.as_bytes()),
            Part::Text(" ("),
            Part::Text(items),
            Part::Text(")"),
        ];
        let listen = |data| {
            if let Data::MailboxStatus { items, .. } = data {
                found = items;
            }
        };
        let done = self.run(&command, SHORT_WAIT, listen).await?;
        well("STATUS", done)?;
        Ok(found)
    }

    /// An entry of METADATA of the whole account (RFC 5464).
    pub async fn metadata(&mut self, entry: &str) -> Result<Option<Vec<u8>>, ImapError> {
        let mut found = None;
        let command = format!("GETMETADATA \"\" ({entry})");
        let listen = |data| {
            if let Data::Metadata(entries) = data {
                let mut entries = entries.into_iter();
                let entry = entries.find(|(name, _)| name.eq_ignore_ascii_case(entry));
                found = entry.and_then(|(_, value)| value).or(found.take());
            }
        };
        let command = [Part::Text(&command)];
        let done = self.run(&command, SHORT_WAIT, listen).await?;
        well("GETMETADATA", done)?;
        Ok(found)
    }

    /// Sets an entry of METADATA of the whole account, or removes it.
    pub async fn set_metadata(
        &mut self,
        entry: &str,
        value: Option<&[u8]>,
    ) -> Result<(), ImapError> {
        let begin = format!("SETMETADATA \"\" ({entry} ");
        let value = value.map_or(Part::Text("NIL"), Part::String);
        let command = [Part::Text(&begin), value, Part::Text(")")];
        let done = self.run(&command, SHORT_WAIT, drop).await?;
        well("SETMETADATA", done).map(drop)
    }
}

/// Whether the server says that it has not told everything of which NOTIFY is to tell: it must be
/// asked anew. The words are Dovecot's.
fn has_lost(status: Status, code: Option<&Code>, text: &str) -> bool {
    matches!(code, Some(Code::Other(code)) if code == "NOTIFICATIONOVERFLOW")
        || status == Status::No && text.contains("NOTIFY")
}

/// Whether data is about the mailbox, and no words.
const fn is_change(data: &Data) -> bool {
    !matches!(data, Data::Status { .. } | Data::Other)
}
