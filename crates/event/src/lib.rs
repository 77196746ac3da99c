//! Mail-store events: the contract between the Dovecot plugin, the log and everyone who reads a
//! record.
//!
//! Holds the twelve event kinds of RFC 5423 as Dovecot spells them, what each of them carries,
//! rendering to JSON, reading that JSON back, and the headers of a record. No I/O, no clock, no
//! randomness: times and ids come in as arguments, so that everything here is a function of its
//! input.
//!
//! Invariants: what [`render()`] writes is valid JSON and valid UTF-8 whatever bytes the event
//! holds, it never fails, and it allocates nothing but the growth of the output buffer.

#![forbid(unsafe_code)]

mod brief;
mod event;
mod flags;
mod headers;
mod json;
mod kind;
mod parse;
mod record;
mod render;
mod time;

pub use brief::brief;
pub use event::{
    Context, Details, Event, Field, FlagChange, FullMessage, MailDate, MailboxStatus, MessageId,
    NewMessage, OldFlags,
};
pub use flags::Flags;
pub use headers::{HeaderError, ParsedHeaders, RecordHeaders, header_name};
pub use json::replace_invalid_utf8;
pub use kind::{EventKind, EventSet, UnknownEvent};
pub use parse::{JsonError, ParseError, ParsedEvent, is_object, parse};
pub use record::{Header, Record};
pub use render::render;
pub use time::UnixMillis;
