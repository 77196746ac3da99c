//! The wall clock: the time for records that a test appends, and the day that the whole suite may
//! be run at.
//!
//! With `DOVECAST_TEST_CLOCK` in the environment `scripts/at-test-clock`, which `make test` has
//! cargo run every test by, preloads a library (`clock/shifted.c`) that tells the test and all that
//! it starts a later time. Here is what such a run needs besides: Dovecot's processes inherit
//! nothing by themselves, and what fetches or compiles needs the true time.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The environment variables by which a process has another clock.
pub(crate) const VARIABLES: [&str; 2] = ["LD_PRELOAD", "DOVECAST_CLOCK_SHIFT_SECONDS"];

/// Milliseconds since 1970. A fixed time ages, and a log drops what is old.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// The library that shifts the clock of this process, if one does.
#[must_use]
pub fn shifting_library() -> Option<PathBuf> {
    let [library, shift] = VARIABLES.map(env::var_os);
    shift.and(library).map(PathBuf::from)
}

/// Has a program see the true time: TLS and package lists are valid for a while only.
pub fn true_time(program: &mut Command) -> &mut Command {
    if shifting_library().is_some() {
        for name in VARIABLES {
            program.env_remove(name);
        }
    }
    program
}
