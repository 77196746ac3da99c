//! Real parts for tests: a Dovecot in a private directory, Kafka brokers, and IMAP and LMTP clients on sockets.
//!
//! Used by the end-to-end tests, the benchmarks and the demo. Nothing here is linked into what operators install.
//! What a test cannot have on this machine is an error that says what is missing; the caller decides to skip, loudly.

mod certificates;
pub mod clock;
pub mod crash;
pub mod cut_proxy;
pub mod debian;
pub mod dovecot;
pub mod endpoint;
pub mod http;
pub mod imap;
pub mod kafka;
pub mod lmtp;
pub mod load;
pub mod loopback;
pub mod mock_broker;
pub mod plugin;
pub mod postgres;
pub mod power_cut;
pub mod process;
pub mod server;
pub mod small_disk;
pub mod topic;
mod unavailable;

use std::time::Duration;

pub use unavailable::Unavailable;

/// How long a test waits for what has to happen: far more than it takes, because tests share their machine with others. What
/// must not happen is waited for with times of its own.
pub const PATIENCE: Duration = Duration::from_mins(2);
