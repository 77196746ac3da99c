//! Drivers of the configuration file: those that Dovecot runs inside of its mail processes, here
//! with the same options, what they send byte for byte, and out of the way of mail.
//!
//! A block `[push_notification.NAME]` is one driver, which gets the events of all accounts. Its
//! options have the names of Dovecot 2.3 and of 2.4 (`options`), and what is wrong with one is an
//! error that names block and key. A further kind is a row of [`KINDS`] and its file.

mod dlog;
mod event;
#[cfg(feature = "lua")]
pub mod lua;
pub mod options;
mod ox;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::Target;
use dovecast_dispatch::schedule::Schedule;

use crate::http::sockets::Sockets;
use options::{OptionError, Options, Written};

/// A kind of driver.
struct Kind {
    /// Name, as Dovecot has it.
    name: &'static str,
    /// Options of the kind: each by the name that 2.4 gives it, without what the name of the
    /// driver says, and other names of it.
    options: &'static [Known],
    make: fn(&Options<'_>, &Surroundings) -> Result<Made, OptionError>,
}

/// An option with its other names.
type Known = (&'static str, &'static [&'static str]);

/// All kinds.
const KINDS: &[Kind] = &[
    Kind {
        name: "dlog",
        options: dlog::OPTIONS,
        make: dlog::make,
    },
    #[cfg(feature = "lua")]
    Kind {
        name: "lua",
        options: lua::OPTIONS,
        make: lua::make,
    },
    Kind {
        name: "ox",
        options: ox::OPTIONS,
        make: ox::make,
    },
];

/// Longest time of an attempt of the driver `lua`: the dispatcher ends one after a minute, and what
/// it ends counts as no failure of the script. Parts that are handed over again and take longer go
/// on in the next.
pub const LUA_ATTEMPT_LIMIT: Duration = Duration::from_secs(50);

/// What drivers need besides their options.
#[derive(Clone)]
pub struct Surroundings {
    /// Places of connections.
    pub sockets: Sockets,
    /// The program that runs a script of the driver `lua`, and its arguments.
    pub lua_host: Vec<OsString>,
    /// The script of all blocks with the driver `lua` that name none.
    pub lua_script_file: Option<String>,
    /// Longest time of an attempt of the driver `lua` ([`LUA_ATTEMPT_LIMIT`]).
    pub lua_attempt_limit: Duration,
}

/// Which events a driver gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Events {
    /// All of them.
    All,
    /// MessageNew in INBOX.
    NewInInbox,
}

/// How much a driver wants to get when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Deliveries at a time.
    pub concurrency: usize,
    /// When failures are tried again.
    pub schedule: Schedule,
}

/// What is made of the options of a block.
struct Made {
    target: Arc<dyn Target>,
    events: Events,
    serving: Option<Serving>,
    #[cfg(feature = "lua")]
    lua: Option<Arc<lua::LuaDriver>>,
}

impl Made {
    /// A receiver that takes as much at a time as any other.
    fn new(target: Arc<dyn Target>, events: Events) -> Self {
        Self {
            target,
            events,
            serving: None,
            #[cfg(feature = "lua")]
            lua: None,
        }
    }
}

/// A block of the configuration file.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// Name of the block.
    pub name: String,
    /// `driver`: the name of the kind, with options behind it as Dovecot 2.3 writes them. A block
    /// that does not say it has the name of its kind, as in 2.4.
    pub driver: String,
    /// Options by their keys.
    pub options: BTreeMap<String, Written>,
    /// What a script asks for by name.
    pub plugin: BTreeMap<String, String>,
    /// What a script is given when it is loaded, as Dovecot 2.4 does (`lua_settings`).
    pub settings: Option<BTreeMap<String, String>>,
}

/// Shows no value: passwords are among them.
impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = self.driver.split(':').next().unwrap_or_default();
        f.debug_struct("Block")
            .field("name", &self.name)
            .field("driver", &driver)
            .field("options", &self.options.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// A driver of the configuration file that can be delivered to.
#[derive(Clone, Debug)]
pub struct ConfiguredDriver {
    /// Name of the block.
    pub name: String,
    /// Name of the kind.
    pub kind: &'static str,
    /// Which events it gets.
    pub events: Events,
    /// The receiver.
    pub target: Arc<dyn Target>,
    /// How much is delivered when; `None`: as to any other receiver.
    pub serving: Option<Serving>,
    /// The script, where it is one.
    #[cfg(feature = "lua")]
    pub lua: Option<Arc<lua::LuaDriver>>,
}

/// What is wrong with a block. Shows no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A kind that there is not, in the words of Dovecot 2.3.
    #[error(
        "[push_notification.{block}] driver: Unknown push notification driver: {driver}, expected one of {}",
        names()
    )]
    UnknownDriver {
        /// Name of the block.
        block: String,
        /// What it says.
        driver: String,
    },
    /// An option.
    #[error("[push_notification.{block}] {error}")]
    Option {
        /// Name of the block.
        block: String,
        /// What is wrong with it.
        error: OptionError,
    },
}

/// Names of the options of all kinds: the kind, and each name that one of its options has, without
/// what the name of the driver says.
pub fn option_names() -> impl Iterator<Item = (&'static str, &'static str)> {
    KINDS.iter().flat_map(|kind| {
        let options = kind.options.iter();
        let names = options.flat_map(|(name, others)| [slice::from_ref(name), *others].concat());
        names.map(move |name| (kind.name, name))
    })
}

fn names() -> String {
    let names: Vec<_> = KINDS
        .iter()
        .map(|kind| format!("`{}`", kind.name))
        .collect();
    names.join(", ")
}

impl Block {
    /// Checks the block, and makes its driver.
    pub fn make(&self, surroundings: &Surroundings) -> Result<ConfiguredDriver, BlockError> {
        let (name, behind) = match self.driver.split_once(':') {
            Some((name, behind)) => (name, Some(behind)),
            None => (&*self.driver, None),
        };
        // As Dovecot compares them.
        let kind = KINDS
            .iter()
            .find(|kind| kind.name.eq_ignore_ascii_case(name));
        let kind = kind.ok_or_else(|| BlockError::UnknownDriver {
            block: self.name.clone(),
            driver: name.to_owned(),
        })?;
        let options = Options::read(self, kind.name, kind.options, behind);
        let made = options.and_then(|options| (kind.make)(&options, surroundings));
        let made = made.map_err(|error| BlockError::Option {
            block: self.name.clone(),
            error,
        })?;
        Ok(ConfiguredDriver {
            name: self.name.clone(),
            kind: kind.name,
            events: made.events,
            target: made.target,
            serving: made.serving,
            #[cfg(feature = "lua")]
            lua: made.lua,
        })
    }
}

#[cfg(test)]
mod tests;
