//! Views of what the shim hands over: bytes and numbers, valid for the length of a callback.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;

use crate::raw;

/// Bytes of a C string, or `None` for a null pointer.
///
/// # Safety
/// `text` is null or a NUL-terminated string that lives at least for `'a`.
pub(crate) unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    if text.is_null() {
        return None;
    }
    // SAFETY: not null; the rest is this function's contract.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A list of strings of Dovecot's, for example keywords.
#[derive(Clone, Copy)]
pub struct Strings<'a> {
    raw: raw::Strings,
    borrowed: PhantomData<&'a ()>,
}

impl<'a> Strings<'a> {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.raw.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.raw.count == 0
    }

    /// The strings in Dovecot's order.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let raw = self.raw;
        (0..raw.count).filter_map(move |i| {
            // SAFETY: the shim passes an array of `count` pointers to strings, alive for 'a.
            unsafe { bytes(*raw.items.add(i)) }
        })
    }
}

/// Events of a mailbox.
pub struct MailboxEvent<'a>(&'a raw::MailboxEvent);

/// Events of a message.
pub struct Message<'a>(&'a raw::Message);

/// What a new message holds.
pub struct Content<'a>(&'a raw::Content);

/// Flags and keywords that were set or cleared.
pub struct FlagChange<'a>(&'a raw::FlagChange);

impl<'a> MailboxEvent<'a> {
    /// # Safety
    /// `raw` and all it points to live for `'a`, as shim.h promises for a callback.
    pub(crate) unsafe fn new(raw: &'a raw::MailboxEvent) -> Self {
        Self(raw)
    }

    /// UTF-8 name with the namespace's separator.
    pub fn mailbox(&self) -> &'a [u8] {
        // SAFETY: by the contract of `new`.
        unsafe { bytes(self.0.mailbox) }.unwrap_or_default()
    }

    /// Which kinds happened, one bit each.
    pub fn kinds(&self) -> u32 {
        self.0.kinds
    }

    /// UIDVALIDITY of a created mailbox.
    pub fn uidvalidity(&self) -> u32 {
        self.0.uidvalidity
    }

    /// The name before a rename.
    pub fn old_mailbox(&self) -> &'a [u8] {
        // SAFETY: by the contract of `new`.
        unsafe { bytes(self.0.old_mailbox) }.unwrap_or_default()
    }
}

impl<'a> Message<'a> {
    /// # Safety
    /// `raw` and all it points to live for `'a`, as shim.h promises for a callback.
    pub(crate) unsafe fn new(raw: &'a raw::Message) -> Self {
        Self(raw)
    }

    /// UTF-8 name of the mailbox with the namespace's separator.
    pub fn mailbox(&self) -> &'a [u8] {
        // SAFETY: by the contract of `new`.
        unsafe { bytes(self.0.mailbox) }.unwrap_or_default()
    }

    /// UID of the message.
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// UIDVALIDITY of the mailbox.
    pub fn uidvalidity(&self) -> u32 {
        self.0.uidvalidity
    }

    /// Which kinds happened, one bit each.
    pub fn kinds(&self) -> u32 {
        self.0.kinds
    }

    /// What a new or appended message holds.
    pub fn content(&self) -> Content<'a> {
        Content(&self.0.content)
    }

    /// What FlagsSet tells.
    pub fn set(&self) -> FlagChange<'a> {
        FlagChange(&self.0.set)
    }

    /// What FlagsClear tells.
    pub fn cleared(&self) -> FlagChange<'a> {
        FlagChange(&self.0.cleared)
    }

    /// RFC822.SIZE of a new message, where `full` was wanted.
    pub fn size(&self) -> Option<u64> {
        self.0.has_size.then_some(self.0.size)
    }

    /// Dovecot's flag bits and the keywords before the change, where `full` was wanted.
    pub fn old(&self) -> Option<(u32, Strings<'a>)> {
        self.0
            .has_old
            .then_some((self.0.old_flags, strings(self.0.old_keywords)))
    }
}

macro_rules! content_texts {
    ($($(#[$doc:meta])* $name:ident)*) => {
        impl<'a> Content<'a> {
            $(
                $(#[$doc])*
                pub fn $name(&self) -> Option<&'a [u8]> {
                    // SAFETY: part of a `Message`, by the contract of its `new`.
                    unsafe { bytes(self.0.$name) }
                }
            )*
        }
    };
}

content_texts! {
    /// From header, raw.
    from
    /// To header, raw.
    to
    /// Subject header, raw.
    subject
    /// Beginning of the text.
    snippet
    /// Message-ID header, raw.
    message_id
}

impl<'a> Content<'a> {
    /// Seconds since the epoch and minutes east of UTC; `None` where the mail has no Date that
    /// Dovecot could read (which it tells by -1 or 0).
    pub fn date(&self) -> Option<(i64, i32)> {
        (self.0.date > 0 || self.0.date < -1).then_some((self.0.date, self.0.date_tz))
    }

    /// Dovecot's flag bits.
    pub fn flags(&self) -> u32 {
        self.0.flags
    }

    /// Keywords the message came with.
    pub fn keywords(&self) -> Strings<'a> {
        strings(self.0.keywords)
    }
}

impl<'a> FlagChange<'a> {
    /// Dovecot's flag bits.
    pub fn flags(&self) -> u32 {
        self.0.flags
    }

    /// The keywords that changed; a keyword may stand there once for every driver that asked for
    /// the event.
    pub fn keywords(&self) -> Strings<'a> {
        strings(self.0.keywords)
    }
}

fn strings<'a>(raw: raw::Strings) -> Strings<'a> {
    Strings {
        raw,
        borrowed: PhantomData,
    }
}

/// Status of a mailbox after a transaction.
#[derive(Clone, Debug)]
pub struct MailboxStatus {
    /// GUID, 32 hexadecimal digits.
    pub guid: String,
    /// HIGHESTMODSEQ
    pub highest_modseq: u64,
    /// MESSAGES
    pub messages: u32,
    /// UNSEEN
    pub unseen: u32,
    /// RECENT
    pub recent: u32,
    /// UIDNEXT
    pub uidnext: u32,
}

impl From<raw::Status> for MailboxStatus {
    fn from(raw: raw::Status) -> Self {
        let guid = raw.guid_hex.as_flattened();
        let end = guid
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(guid.len());
        Self {
            guid: String::from_utf8_lossy(&guid[..end]).into_owned(),
            highest_modseq: raw.highest_modseq,
            messages: raw.messages,
            unseen: raw.unseen,
            recent: raw.recent,
            uidnext: raw.uidnext,
        }
    }
}
