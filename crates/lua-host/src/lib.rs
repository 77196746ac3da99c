//! The process that runs one Lua script of push notifications, with the API that Dovecot gives to
//! such scripts: `dovecast lua-host`.
//!
//! [`wire`] is what it is asked and what it answers; the driver `lua` starts it, watches it and
//! kills it. Inside are the interpreter (`interpreter`), Dovecot's API (`api`), events as tables
//! (`events`), the transactions that are open (`transactions`), and a watch (`watch`) that says
//! which function is late. What the script knows of a mailbox is what the events say: nothing here
//! speaks to Dovecot.
//!
//! Unsafe is one call, in `interpreter`: scripts need modules that are written in C.

#![deny(unsafe_code)]

mod api;
mod events;
mod interpreter;
mod output;
mod serve;
mod transactions;
mod watch;
pub mod wire;

pub use serve::serve;
