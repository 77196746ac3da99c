//! The IMAP client and the sources against a stand-in server: what only a server that misbehaves
//! shows, and thousands of connections. Real Dovecots are in `tests/end_to_end/mail_sources`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on ends"
)]

mod listening;
mod logins;
mod looking;
mod memory;
mod stand_in;
