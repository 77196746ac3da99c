//! Commands after the login: mailboxes, mails, IDLE, METADATA.

use std::time::Duration;

use tokio::time::timeout;

use super::client::{LONG_WAIT, Part, SHORT_WAIT, in_time, well};
use super::reply::{Capabilities, Code, Data, Reply, Status, StatusItems};
use super::{Client, ImapError};

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
        let name = mutf7(mailbox);
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

    /// What the server says next of the mailbox. Dovecot says "still here" in between.
    async fn next_change(&mut self) -> Result<Data, ImapError> {
        loop {
            self.rest();
            match self.reply().await? {
                Reply::Data(Data::Status { status, code, text }) => {
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
        let name = mutf7(mailbox);
        let command = [
            Part::Text("STATUS "),
            Part::String(name.as_bytes()),
            Part::Text(" ("),
            Part::Text(items),
            Part::Text(")"),
        ];
        let listen = |data| {
            if let Data::MailboxStatus(items) = data {
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

/// Whether data is about the mailbox, and no words.
const fn is_change(data: &Data) -> bool {
    !matches!(data, Data::Status { .. } | Data::Other)
}

/// A mailbox name in modified UTF-7 (RFC 3501 section 5.1.3).
fn mutf7(name: &str) -> String {
    use base64::Engine;
    let mut out = String::new();
    let mut coded: Vec<u8> = Vec::new();
    let flush = |coded: &mut Vec<u8>, out: &mut String| {
        if !coded.is_empty() {
            let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&*coded);
            out.push('&');
            out.push_str(&text.replace('/', ","));
            out.push('-');
            coded.clear();
        }
    };
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            flush(&mut coded, &mut out);
            out.push(character);
            if character == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            let units = character.encode_utf16(&mut units);
            coded.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut coded, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_modified_utf_7() {
        for (name, coded) in [
            ("INBOX", "INBOX"),
            ("a & b", "a &- b"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("日本語/メール", "&ZeVnLIqe-/&MOEw,DDr-"),
            ("😀", "&2D3eAA-"),
        ] {
            assert_eq!(mutf7(name), coded, "{name}");
        }
    }
}
