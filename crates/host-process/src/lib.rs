//! Processes of dovecast that run what others have written: templates of accounts, scripts of
//! operators.
//!
//! Only the system bounds the memory and the time of what nobody of us has written: so it runs in a
//! process of its own, which is asked over its standard input, answers over its standard output,
//! and is killed when it is late, with all that it has started: that is its process group. What is
//! asked, how late is late, and when another process is started is the caller's.
//!
//! A process says by one byte that its bounds are set. A frame is a length, four bytes with the
//! lowest first, and so many bytes; who reads it bounds the length.

#![forbid(unsafe_code)]

pub mod child;
mod frame;
mod parent;

pub use parent::{Process, StandardError};

/// First byte of a process: its bounds are set.
const READY: u8 = 1;
