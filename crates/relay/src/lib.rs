//! From mail processes to the log of their host.
//!
//! A mail process writes its events to the unix socket of the relay ([`client`]); the relay
//! ([`server`]) appends them to its log and acknowledges what is durable. What a mail process
//! cannot get rid of it leaves in a spill file ([`spill`]), which the relay takes in later. The
//! protocol is in [`wire`], and for readers of other languages in docs/relay-protocol.md.
//!
//! The client has no thread and no runtime, and never waits but where it is told how long.

#![forbid(unsafe_code)]

pub mod client;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod ship;
pub mod spill;
pub mod wire;
