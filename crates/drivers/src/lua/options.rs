//! How a script is run, from the configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A script and its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LuaOptions {
    /// Name of the block of the configuration, for the log.
    pub name: String,
    /// The file (`file` of Dovecot 2.3, `lua_file` of 2.4, or the script of all that have none).
    pub script: PathBuf,
    /// How long one function of the script may take (`lua_time_limit_seconds`).
    pub time_limit: Duration,
    /// How much memory the interpreter may have (`lua_memory_limit_mb`).
    pub memory_limit_bytes: u64,
    /// What `user:plugin_getenv()` answers besides fields of the user (`plugin`).
    pub plugin: BTreeMap<String, String>,
    /// Whose driver the script was written for (`dovecot`).
    pub flavour: Flavour,
}

impl LuaOptions {
    /// Time limit where none is configured: a request of a script may have to wait.
    pub const TIME_LIMIT: Duration = Duration::from_secs(30);
    /// Longest time limit: the dispatcher ends an attempt that takes a minute.
    pub const LONGEST_TIME_LIMIT: Duration = Duration::from_secs(45);
    /// Memory limit where none is configured.
    pub const MEMORY_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

    /// A script with the bounds that hold where none are configured.
    pub fn new(name: impl Into<String>, script: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            script: script.into(),
            time_limit: Self::TIME_LIMIT,
            memory_limit_bytes: Self::MEMORY_LIMIT_BYTES,
            plugin: BTreeMap::new(),
            flavour: Flavour::Dovecot23,
        }
    }
}

/// Whose driver a script was written for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// Dovecot 2.3: `script_init` is called with nothing.
    #[default]
    Dovecot23,
    /// Dovecot 2.4: `script_init` is called with these settings (`lua_settings`).
    Dovecot24(BTreeMap<String, String>),
}

impl Flavour {
    pub(super) fn settings(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Dovecot23 => None,
            Self::Dovecot24(settings) => Some(settings),
        }
    }
}
