//! Log lines that say a thing once: an option that is wrong is wrong for every user of the process.

use std::cell::RefCell;
use std::collections::HashSet;

use dovecast_dovecot_sys::host::{self, Level};

/// After so many different texts the rest is not remembered, and so may repeat.
const REMEMBERED: usize = 256;

thread_local! {
    static LOGGED: RefCell<HashSet<String>> = RefCell::default();
}

/// Logs `text` unless this process has logged the same before.
pub(crate) fn once(level: Level, text: &str) {
    let is_new = LOGGED.with_borrow_mut(|logged| {
        !logged.contains(text) && (logged.len() >= REMEMBERED || logged.insert(text.to_owned()))
    });
    if is_new {
        host::log(level, text);
    }
}
