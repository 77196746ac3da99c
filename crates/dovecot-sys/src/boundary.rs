//! The panic boundary between Rust and Dovecot.
//!
//! After a panic the state of the driver is unknown, so it is not entered again in this process but
//! once, at its end: what it holds is leaked, the panic is logged once, and Dovecot goes on as if
//! the driver were not configured.

use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::host::{self, Level};

static OFF: AtomicBool = AtomicBool::new(false);
static LAST_PANIC: Mutex<Option<String>> = Mutex::new(None);

/// Runs a callback; `quiet` is what Dovecot gets where the driver is off or has just panicked.
pub(crate) fn guard<R>(quiet: R, callback: impl FnOnce() -> R) -> R {
    if OFF.load(Ordering::Relaxed) {
        return quiet;
    }
    contain(quiet, callback)
}

/// Runs the callback of the process's end, also after a panic: what was taken over before it is
/// still delivered, and threads are gone before Dovecot unloads what they use.
pub(crate) fn guard_exit(callback: impl FnOnce()) {
    contain((), callback);
}

fn contain<R>(quiet: R, callback: impl FnOnce() -> R) -> R {
    match panic::catch_unwind(AssertUnwindSafe(callback)) {
        Ok(result) => result,
        Err(payload) => {
            OFF.store(true, Ordering::Relaxed);
            // Dropping the payload may panic in turn.
            std::mem::forget(payload);
            let _ = panic::catch_unwind(report);
            quiet
        }
    }
}

/// Keeps the panic's text for the log. The standard hook writes to stderr, which is Dovecot's
/// binary log stream.
pub(crate) fn install_hook() {
    panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let text = info.payload_as_str().unwrap_or("(no text)");
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {at}"));
        if let Ok(mut last) = LAST_PANIC.lock() {
            *last = Some(format!("{text}{place}"));
        }
    }));
}

fn report() {
    let text = LAST_PANIC
        .lock()
        .ok()
        .and_then(|mut last| last.take())
        .unwrap_or_default();
    host::log(
        Level::Error,
        &format!("the driver panicked and is off for this process, mail is not affected: {text}"),
    );
}
