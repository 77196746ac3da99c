//! Replies of a server, read (RFC 9051 section 7).

use super::fetch::Fetched;
use super::scan::{Scan, expected};
use super::{ImapError, mailbox_name, shown};

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The server waits for more of the command; the text may be a challenge.
    Continue(Vec<u8>),
    /// The end of a command.
    Done(Done),
    /// Anything else.
    Data(Data),
}

/// The tagged end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Tag of the command.
    pub tag: u32,
    /// Whether it was carried out.
    pub status: Status,
    /// The response code.
    pub code: Option<Code>,
    /// The server's words, as they may be shown.
    pub text: String,
}

/// How a server calls what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of RFC 9051")]
pub enum Status {
    Ok,
    No,
    Bad,
    Bye,
    PreAuth,
}

/// What a server says without being asked, or before the end of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of RFC 9051 and RFC 7162")]
pub enum Data {
    Status {
        status: Status,
        code: Option<Code>,
        text: String,
    },
    Capability(Capabilities),
    Exists(u32),
    Expunge(u32),
    Vanished {
        /// Whether the mails went before the mailbox was selected.
        earlier: bool,
        uids: Vec<UidRange>,
    },
    Fetch(Fetched),
    /// What STATUS says of a mailbox.
    MailboxStatus {
        mailbox: String,
        items: StatusItems,
    },
    List {
        mailbox: String,
    },
    /// Entries of METADATA with their values.
    Metadata(Vec<MetadataEntry>),
    Other,
}

/// Numbers of STATUS by their names, in capitals.
pub type StatusItems = Vec<(String, u64)>;

/// An entry of METADATA and its value, if it has one.
pub type MetadataEntry = (String, Option<Vec<u8>>);

/// A response code that means something here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the RFCs")]
pub enum Code {
    Capability(Capabilities),
    UidValidity(u32),
    UidNext(u32),
    HighestModSeq(u64),
    /// Any other, in capitals.
    Other(String),
}

/// UIDs from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UidRange {
    /// Lowest UID.
    pub first: u32,
    /// Highest UID.
    pub last: u32,
}

/// Capabilities that make a difference here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u16);

impl Capabilities {
    pub(super) const IDLE: Self = Self(1);
    pub(super) const CONDSTORE: Self = Self(1 << 1);
    pub(super) const QRESYNC: Self = Self(1 << 2);
    pub(super) const METADATA: Self = Self(1 << 3);
    pub(super) const PREVIEW: Self = Self(1 << 4);
    pub(super) const STARTTLS: Self = Self(1 << 5);
    pub(super) const LOGIN_DISABLED: Self = Self(1 << 6);
    pub(super) const PLAIN: Self = Self(1 << 7);
    pub(super) const XOAUTH2: Self = Self(1 << 8);
    pub(super) const OAUTHBEARER: Self = Self(1 << 9);
    pub(super) const SASL_IR: Self = Self(1 << 10);
    pub(super) const ID: Self = Self(1 << 11);
    pub(super) const NOTIFY: Self = Self(1 << 12);
    pub(super) const SPECIAL_USE: Self = Self(1 << 13);

    const NAMES: [(&'static str, Self); 16] = [
        ("IDLE", Self::IDLE),
        ("CONDSTORE", Self::CONDSTORE),
        ("QRESYNC", Self::QRESYNC),
        ("METADATA", Self::METADATA),
        ("METADATA-SERVER", Self::METADATA),
        ("PREVIEW", Self::PREVIEW),
        ("PREVIEW=FUZZY", Self::PREVIEW),
        ("STARTTLS", Self::STARTTLS),
        ("LOGINDISABLED", Self::LOGIN_DISABLED),
        ("AUTH=PLAIN", Self::PLAIN),
        ("AUTH=XOAUTH2", Self::XOAUTH2),
        ("AUTH=OAUTHBEARER", Self::OAUTHBEARER),
        ("SASL-IR", Self::SASL_IR),
        ("ID", Self::ID),
        ("NOTIFY", Self::NOTIFY),
        ("SPECIAL-USE", Self::SPECIAL_USE),
    ];

    /// Whether all of these are offered.
    pub(super) const fn offer(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    fn parse(scan: &mut Scan<'_>, end: u8) -> Self {
        let mut found = Self::default();
        while scan.takes(b" ") {
            let name = scan.until(|byte| matches!(byte, b' ' | b'\r' | b'\n') || byte == end);
            let mut known = Self::NAMES.iter();
            let known = known.find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
            found.0 |= known.map_or(0, |(_, bit)| bit.0);
        }
        found
    }
}

impl Reply {
    /// Reads a reply, its line end included.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ImapError> {
        let mut scan = Scan(bytes);
        if scan.takes(b"+") {
            scan.takes(b" ");
            let text = scan.until(|byte| matches!(byte, b'\r' | b'\n'));
            return Ok(Self::Continue(text.to_vec()));
        }
        if scan.takes(b"* ") {
            return data(&mut scan).map(Self::Data);
        }
        scan.expect("t")?;
        let tag = scan.number()?;
        scan.expect(" ")?;
        let word = scan.word();
        let Some(status) = status(word) else {
            return Err(expected("OK, NO or BAD"));
        };
        let (code, text) = status_text(&mut scan);
        Ok(Self::Done(Done {
            tag,
            status,
            code,
            text,
        }))
    }
}

fn status(word: &[u8]) -> Option<Status> {
    let is = |other: &str| word.eq_ignore_ascii_case(other.as_bytes());
    match () {
        () if is("OK") => Some(Status::Ok),
        () if is("NO") => Some(Status::No),
        () if is("BAD") => Some(Status::Bad),
        () if is("BYE") => Some(Status::Bye),
        () if is("PREAUTH") => Some(Status::PreAuth),
        () => None,
    }
}

fn data(scan: &mut Scan<'_>) -> Result<Data, ImapError> {
    if scan.0.first().is_some_and(u8::is_ascii_digit) {
        let number = scan.number()?;
        scan.expect(" ")?;
        let word = scan.word().to_ascii_uppercase();
        return match &*word {
            b"EXISTS" => Ok(Data::Exists(number)),
            b"EXPUNGE" => Ok(Data::Expunge(number)),
            b"FETCH" => {
                scan.expect(" ")?;
                Fetched::parse(number, scan).map(Data::Fetch)
            }
            _ => Ok(Data::Other),
        };
    }
    let word = scan.word();
    if let Some(status) = status(word) {
        let (code, text) = status_text(scan);
        return Ok(Data::Status { status, code, text });
    }
    match &*word.to_ascii_uppercase() {
        b"CAPABILITY" => Ok(Data::Capability(Capabilities::parse(scan, b'\n'))),
        b"VANISHED" => {
            let earlier = scan.takes(b" (EARLIER)");
            scan.expect(" ")?;
            let uids = uids(scan)?;
            Ok(Data::Vanished { earlier, uids })
        }
        b"STATUS" => mailbox_status(scan),
        b"LIST" => list(scan),
        b"METADATA" => metadata(scan).map(Data::Metadata),
        _ => Ok(Data::Other),
    }
}

/// What follows OK, NO and the like: a code in brackets, words.
fn status_text(scan: &mut Scan<'_>) -> (Option<Code>, String) {
    scan.takes(b" ");
    let text = scan.0.trim_ascii_end();
    let code = scan.takes(b"[").then(|| code(scan)).flatten();
    (code, shown(text))
}

fn code(scan: &mut Scan<'_>) -> Option<Code> {
    let name = scan.until(|byte| matches!(byte, b' ' | b']' | b'\r' | b'\n'));
    let name = name.to_ascii_uppercase();
    if name == b"CAPABILITY" {
        return Some(Code::Capability(Capabilities::parse(scan, b']')));
    }
    let mut argument = *scan;
    argument.takes(b" ");
    match &*name {
        b"UIDVALIDITY" => argument.number().ok().map(Code::UidValidity),
        b"UIDNEXT" => argument.number().ok().map(Code::UidNext),
        b"HIGHESTMODSEQ" => argument.number().ok().map(Code::HighestModSeq),
        _ => Some(Code::Other(shown(&name))),
    }
}

/// A set of UIDs (RFC 9051 section 9, sequence-set) without `*`, which servers do not send.
fn uids(scan: &mut Scan<'_>) -> Result<Vec<UidRange>, ImapError> {
    let mut ranges = Vec::new();
    loop {
        let first: u32 = scan.number()?;
        let last = if scan.takes(b":") {
            scan.number()?
        } else {
            first
        };
        ranges.push(UidRange {
            first: first.min(last),
            last: first.max(last),
        });
        if !scan.takes(b",") {
            return Ok(ranges);
        }
    }
}

/// A name; `None` for one that is no text, and so says nothing here.
fn mailbox(scan: &mut Scan<'_>) -> Result<Option<String>, ImapError> {
    scan.expect(" ")?;
    Ok(scan.value()?.and_then(|name| mailbox_name::decoded(&name)))
}

/// Attributes, the separator, and the name of a mailbox; what is behind them is left out.
fn list(scan: &mut Scan<'_>) -> Result<Data, ImapError> {
    scan.expect(" ")?;
    scan.skip()?;
    scan.expect(" ")?;
    scan.value()?;
    Ok(mailbox(scan)?.map_or(Data::Other, |mailbox| Data::List { mailbox }))
}

fn mailbox_status(scan: &mut Scan<'_>) -> Result<Data, ImapError> {
    let mailbox = mailbox(scan)?;
    scan.expect(" (")?;
    let mut items = Vec::new();
    while !scan.takes(b")") {
        let name = shown(&scan.word().to_ascii_uppercase());
        scan.expect(" ")?;
        items.push((name, scan.number()?));
        scan.takes(b" ");
    }
    Ok(mailbox.map_or(Data::Other, |mailbox| Data::MailboxStatus {
        mailbox,
        items,
    }))
}

/// Entries with values (RFC 5464 section 4.4.1), or names alone, which are told of changes.
fn metadata(scan: &mut Scan<'_>) -> Result<Vec<MetadataEntry>, ImapError> {
    scan.expect(" ")?;
    scan.value()?;
    scan.expect(" ")?;
    let mut entries = Vec::new();
    if !scan.takes(b"(") {
        return Ok(entries);
    }
    while !scan.takes(b")") {
        let name = scan.value()?.unwrap_or_default();
        scan.expect(" ")?;
        let value = scan.value()?.map(std::borrow::Cow::into_owned);
        entries.push((String::from_utf8_lossy(&name).into_owned(), value));
        scan.takes(b" ");
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
