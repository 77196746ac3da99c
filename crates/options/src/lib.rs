//! The options of one driver instance of the plugin and its general settings, from text to values.
//!
//! Pure: errors come back as values that name the option as the configuration spells it, and what
//! it was set to. The plugin configures itself by this, and the doctor judges a configuration by
//! it, so that they cannot disagree. Names and defaults come from the one list that Dovecot 2.4's
//! settings module is made of, too. How Dovecot comes by the pairs of names and values is not here.

#![forbid(unsafe_code)]

mod error;
mod general;
mod instance;
mod list;
mod secrets;
mod spelling;
#[cfg(test)]
mod tests;
mod values;

pub use error::OptionError;
pub use general::{GeneralSettings, ParsedGeneral, RelaySettings, TransportKind};
pub use instance::InstanceOptions;
pub use list::{GENERAL_SETTINGS, INSTANCE_OPTIONS, OptionDefault};
pub use secrets::{NOT_SHOWN, is_secret, without_secrets};
pub use spelling::Spelling;
