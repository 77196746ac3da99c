//! What a server says of one mail: FETCH (RFC 9051 section 7.5.2), with MODSEQ and PREVIEW.

use dovecast_event::Flags;

use super::ImapError;
use super::scan::{Scan, expected};

/// Data of one mail; what was not said is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Number of the mail in the mailbox, from 1.
    pub sequence: u32,
    /// UID
    pub uid: Option<u32>,
    /// System flags; keywords and `\Recent` are left out.
    pub flags: Option<Flags>,
    /// Header fields that were asked for, as they stand in the mail.
    pub header: Option<Vec<u8>>,
    /// Beginning of the text as the server cuts it.
    pub preview: Option<Vec<u8>>,
    /// Beginning of the mail itself.
    pub body: Option<Vec<u8>>,
}

impl Fetched {
    /// Reads the list behind `n FETCH `.
    pub(super) fn parse(sequence: u32, scan: &mut Scan<'_>) -> Result<Self, ImapError> {
        let mut fetched = Self {
            sequence,
            ..Self::default()
        };
        scan.expect("(")?;
        while !scan.takes(b")") {
            fetched.item(scan)?;
            scan.takes(b" ");
        }
        Ok(fetched)
    }

    fn item(&mut self, scan: &mut Scan<'_>) -> Result<(), ImapError> {
        let name = scan.until(|byte| matches!(byte, b' ' | b'[' | b'(' | b')' | b'\r' | b'\n'));
        if name.is_empty() {
            return Err(expected("the name of an item"));
        }
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let section = scan.takes(b"[").then(|| scan.until(|byte| byte == b']'));
        if section.is_some() {
            scan.expect("]")?;
            // The origin of a part, `<0>`.
            scan.until(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
        }
        scan.expect(" ")?;
        match section {
            Some(b"") if is("BODY") => self.body = owned(scan)?,
            Some(_) if is("BODY") => self.header = owned(scan)?,
            _ if is("UID") => self.uid = Some(scan.number()?),
            _ if is("FLAGS") => self.flags = Some(flags(scan)?),
            _ if is("PREVIEW") => self.preview = preview(scan)?,
            _ => scan.skip()?,
        }
        Ok(())
    }
}

fn owned(scan: &mut Scan<'_>) -> Result<Option<Vec<u8>>, ImapError> {
    Ok(scan.value()?.map(std::borrow::Cow::into_owned))
}

/// RFC 8970 has a string; Dovecot 2.3 names the algorithm besides, `(FUZZY "...")`.
fn preview(scan: &mut Scan<'_>) -> Result<Option<Vec<u8>>, ImapError> {
    if !scan.takes(b"(") {
        return owned(scan);
    }
    scan.word();
    scan.expect(" ")?;
    let text = owned(scan)?;
    scan.expect(")")?;
    Ok(text)
}

fn flags(scan: &mut Scan<'_>) -> Result<Flags, ImapError> {
    let mut flags = Flags::default();
    scan.expect("(")?;
    while !scan.takes(b")") {
        let name = scan.word();
        if name.is_empty() {
            return Err(expected("a flag"));
        }
        let name = std::str::from_utf8(name).unwrap_or_default();
        flags = flags | Flags::from_name(name).unwrap_or_default();
        scan.takes(b" ");
    }
    Ok(flags)
}
