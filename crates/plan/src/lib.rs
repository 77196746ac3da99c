//! What an installation of a given size takes: partitions, relays, dispatchers, PostgreSQL, Kafka,
//! disk, memory, network and machines, and which limit comes first.
//!
//! | room | holds |
//! | --- | --- |
//! | `measured` | every constant, with unit, meaning and origin: nowhere else is a figure |
//! | `demand` | what is asked for, and within which bounds |
//! | `plan` | the arithmetic: whole numbers, rounded up, nothing that can overflow |
//! | `limits` | what ends first when the demand grows, and what moves it |
//! | `text` | tables for people |
//!
//! Figures are upper bounds of means: no queueing, no bursts. What is planned with is a part of
//! what was measured ([`measured::PLANNED_PERCENT`]). Nothing here reads a file or a clock.

#![forbid(unsafe_code)]

pub mod demand;
mod limits;
pub mod measured;
mod plan;
mod text;

pub use demand::{BadDemand, Demand, Machine};
pub use limits::Limit;
pub use measured::{Constant, Origin};
pub use plan::{Part, Plan};
pub use text::constants;
