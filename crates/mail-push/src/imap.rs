//! An IMAP client of our own: what mail push asks of a mail server, and no more (RFC 3501, 9051,
//! 2177, 5464, 5465, 6154, 7162, 7628, 8970).
//!
//! One connection carries out one command at a time. Every line, literal and wait is bounded, and
//! what waits in IDLE holds no buffer, so that tens of thousands of connections cost little. Which
//! server it is says [`ImapServer`], who logs in says [`Login`]; what is read is checked by the
//! fuzz target `imap`. Searching and appending are left out.

mod client;
mod commands;
mod error;
mod fetch;
mod login;
mod mailbox_name;
mod reply;
mod scan;
mod server;
mod stream;
mod wire;

pub use client::Client;
pub(crate) use client::in_time;
pub use commands::Selected;
pub use error::ImapError;
pub use fetch::Fetched;
pub use login::{Login, Secret, login_check};
pub use reply::{
    Capabilities, Code, Data, Done, MetadataEntry, Reply, Status, StatusItems, UidRange,
};
pub use server::{BadServer, ImapServer};
pub use wire::{MAX_ANSWER_BYTES, MAX_LINE_BYTES, MAX_LITERAL_BYTES, ReplyReader};

/// Words of a server in an error or a log line: printable, and not all of them.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    dovecast_event::brief(&text).escape_debug().to_string()
}
