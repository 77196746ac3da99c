//! Sources beside the mail processes: what comes over HTTP and becomes a record of the log.
//!
//! Whoever has sent it is answered only when the log has it.

mod destination;
pub(crate) mod ox;

pub(crate) use destination::{Destination, NotTaken};
