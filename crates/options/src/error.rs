//! What is wrong with an option.

use dovecast_event::{EventKind, UnknownEvent};

use crate::secrets::{NOT_SHOWN, is_secret};

/// What is wrong with an option.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No option has this name.
    #[error("unknown option `{name}` (value `{value}`), known are: {known}")]
    Unknown {
        /// As the configuration spells it.
        name: String,
        /// What it is set to; not shown where it may be a secret.
        value: String,
        /// All names.
        known: String,
    },
    /// A word without `=` that is the name of an event.
    #[error(
        "`{name}` is not an option but an event: a list has no blanks behind its commas (`events=MessageNew,MessageRead`)"
    )]
    EventAlone {
        /// The word.
        name: String,
    },
    /// The value has no meaning.
    #[error("option `{name}`: `{value}` is not {expected}")]
    Invalid {
        /// As the configuration spells it.
        name: String,
        /// What it is set to.
        value: String,
        /// What it may be set to.
        expected: &'static str,
    },
    /// A list of events names one that is none.
    #[error("option `{name}`: {source}")]
    Event {
        /// As the configuration spells it.
        name: String,
        /// The event.
        source: UnknownEvent,
    },
    /// The value is empty.
    #[error("option `{name}` is empty")]
    Empty {
        /// As the configuration spells it.
        name: String,
    },
    /// The option means something with `detail=full` only.
    #[error("option `{name}` (value `{value}`) needs full detail: set `{detail}`")]
    NeedsFull {
        /// As the configuration spells it.
        name: String,
        /// What it is set to.
        value: String,
        /// What else is to be set.
        detail: String,
    },
}

impl OptionError {
    pub(crate) fn unknown(name: &str, value: &str, known: String) -> Self {
        if value.is_empty() && EventKind::from_name(name.trim_end_matches(',')).is_some() {
            let name = name.to_owned();
            return Self::EventAlone { name };
        }
        // Perhaps `settings.` was forgotten before the name of a secret.
        let value = if is_secret(name) { NOT_SHOWN } else { value };
        Self::Unknown {
            name: name.to_owned(),
            value: value.to_owned(),
            known,
        }
    }

    pub(crate) fn invalid(name: &str, value: &str, expected: &'static str) -> Self {
        Self::Invalid {
            name: name.to_owned(),
            value: value.to_owned(),
            expected,
        }
    }
}
