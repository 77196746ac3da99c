//! Real parts for tests: a Dovecot in a private directory, Kafka brokers, and IMAP and LMTP clients
//! on sockets.
//!
//! Used by the end-to-end tests, the benchmarks and the demo. Nothing here is linked into what
//! operators install. What a test cannot have on this machine is an error that says what is
//! missing; the caller decides to skip, loudly. Parts that need much to be compiled, or to be
//! there, are behind features: a test asks for what it uses.

#[cfg(any(feature = "kafka", feature = "mail-tls", feature = "postgres"))]
pub mod certificates;
pub mod clock;
#[cfg(feature = "server")]
pub mod crash;
pub mod cut_proxy;
#[cfg(feature = "dovecot")]
pub mod debian;
#[cfg(feature = "dovecot")]
pub mod dovecot;
pub mod endpoint;
mod failure;
pub mod http;
#[cfg(feature = "dovecot")]
pub mod imap;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "dovecot")]
pub mod lmtp;
#[cfg(feature = "server")]
pub mod load;
pub mod loopback;
#[cfg(feature = "kafka")]
pub mod mock_broker;
mod other_user;
#[cfg(feature = "dovecot")]
pub mod plugin;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "server")]
pub mod power_cut;
pub mod process;
#[cfg(feature = "push")]
pub mod push;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "services")]
pub mod services;
pub mod silent;
pub mod small_disk;
pub mod smtp;
#[cfg(feature = "kafka")]
pub mod topic;
mod unavailable;
pub mod workspace;

use std::time::Duration;

pub use failure::failure;
pub use other_user::{as_user, may_act_as_others};
pub use unavailable::Unavailable;

/// How long a test waits for what has to happen: far more than it takes, because tests share their
/// machine with others. What must not happen is waited for with times of its own.
pub const PATIENCE: Duration = Duration::from_mins(2);
