//! What the process is asked, and what it answers: JSON in frames.
//!
//! The first request is `Start`, the last one `End`. Each has one last answer (`Started`, `Done`,
//! `Unknown`, `Failed`, `Ended`), before which there may be lines of the log and signs of life. A
//! process that is late says so (`Late`), and is killed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Longest request, in bytes: a part of a transaction as the driver bounds it, and room.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024 * 1024;
/// Longest answer, in bytes: all errors of a part.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Longest text of a line of the log, or of an error with its traceback, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Most lines that a script logs for one request; what is above is counted.
pub const MAX_LINES: u64 = 1000;
/// Most errors of one request; what is above is counted.
pub const MAX_ERRORS: usize = 20;
/// Most transactions that are open at a time, of all users.
pub const MAX_OPEN_TRANSACTIONS: usize = 1024;

/// What the process is asked.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Loads the script.
    Start(Start),
    /// Calls the script for a part of a transaction.
    Part(Part),
    /// Ends the script and the process.
    End,
}

/// The script, and how it is run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The file.
    pub script: PathBuf,
    /// How long one function of the script may take, in milliseconds.
    pub time_limit_ms: u64,
    /// How much memory the interpreter may have, in bytes.
    pub memory_limit_bytes: u64,
    /// What `script_init` is called with; `None`: with nothing, as Dovecot 2.3 does.
    pub settings: Option<BTreeMap<String, String>>,
    /// What `user:plugin_getenv()` answers besides the fields of the user.
    pub plugin: BTreeMap<String, String>,
    /// Whether a function that is late says where it is: that makes all functions slower.
    pub is_traced: bool,
}

impl Start {
    /// Whether the script was written for Dovecot 2.4, and not for 2.3.
    pub fn is_for_2_4(&self) -> bool {
        self.settings.is_some()
    }
}

/// A part of a transaction; all of it, where it is the first and the last.
#[derive(Debug, Serialize, Deserialize)]
pub struct Part {
    /// Names the transaction.
    pub transaction: String,
    /// The user whose mailbox it is.
    pub user: String,
    /// Whether the transaction begins with it.
    pub is_first: bool,
    /// Whether the transaction ends with it.
    pub is_last: bool,
    /// Whether the transaction has succeeded, as far as is known.
    pub success: bool,
    /// The events, as the plugin renders them.
    pub events: Vec<Box<RawValue>>,
}

/// What the process answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// A line of the script's log.
    Line(Line),
    /// Functions are being called, and none is late.
    Working,
    /// A function is late: it has not returned within the limit.
    Late {
        /// Name of the function.
        function: String,
    },
    /// Where a function is that is late.
    Trace {
        /// Name of the function.
        function: String,
        /// The stack.
        traceback: String,
    },
    /// The script is loaded.
    Started {
        /// The kinds of events that it has a function for.
        kinds: Vec<String>,
        /// Whether it has a function that a transaction begins with.
        has_beginning: bool,
    },
    /// The functions were called.
    Done(Done),
    /// The transaction has not begun in this process.
    Unknown,
    /// The request cannot be fulfilled.
    Failed(String),
    /// The script has ended.
    Ended(Done),
}

/// What came of a part.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Errors of functions, in order.
    pub errors: Vec<ScriptError>,
    /// How many errors more there were than are told.
    pub more_errors: u64,
    /// How many lines of the log were dropped.
    pub dropped_lines: u64,
    /// How many functions were called.
    pub calls: u64,
    /// What the interpreter has allocated, in bytes.
    pub memory_bytes: u64,
    /// Whether there is no memory left for what comes next: the script keeps too much.
    pub is_full: bool,
}

/// An error of a function of the script.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptError {
    /// The function that dovecast has called.
    pub function: String,
    /// What Lua says, with the stack.
    pub message: String,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How grave it is.
    pub level: Level,
    /// The text.
    pub text: String,
    /// Name of the event of Dovecot's kind it belongs to.
    pub event: Option<String>,
    /// Fields of that event.
    pub fields: Vec<(String, String)>,
}

/// How grave a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of Dovecot's functions")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
}

/// A text of at most [`MAX_TEXT_BYTES`], cut at a character.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let mut end = MAX_TEXT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}
