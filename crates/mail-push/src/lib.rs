//! Mail push: whose mail it is, how a mailbox is heard, and what is told to a person's devices.
//!
//! [`person`] says who a login is. The REST API and SQL are left out: the server wires both.

#![forbid(unsafe_code)]

pub mod person;

pub use person::{BadPerson, Person};
