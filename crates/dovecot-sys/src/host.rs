//! What the driver may ask of Dovecot's process: log lines, one timer, cheap threads.
//!
//! Dovecot is single-threaded: functions that call it do nothing but return when called from
//! another thread than the one that registered the driver.

use std::ffi::CString;
use std::sync::OnceLock;
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::raw;

static MAIN_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// Severity of a log line, as Dovecot has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Level {
    /// Goes to `debug_log_path`, and only where debugging is on.
    Debug,
    /// Goes to `info_log_path`.
    Info,
    /// Something the operator may want to look at.
    Warning,
    /// Someone must act.
    Error,
}

pub(crate) fn set_main_thread() {
    let _ = MAIN_THREAD.set(thread::current().id());
}

fn on_main_thread() -> bool {
    MAIN_THREAD.get() == Some(&thread::current().id())
}

/// Name of this machine as Dovecot knows it.
pub fn hostname() -> String {
    // SAFETY: a string that Dovecot sets at start and keeps.
    let name = unsafe { crate::event::bytes(raw::dovecast_hostname()) };
    String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
}

/// Writes one line to Dovecot's log. Line ends and NUL in `text` are shown escaped.
pub fn log(level: Level, text: &str) {
    if !on_main_thread() {
        return;
    }
    let line: String = text.chars().flat_map(printable).collect();
    if let Ok(line) = CString::new(line) {
        // SAFETY: we are on Dovecot's thread; the shim copies the string before it returns.
        unsafe { raw::dovecast_log(level as i32, line.as_ptr()) }
    }
}

fn printable(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

/// Calls [`Driver::timer`](crate::Driver::timer) once from Dovecot's event loop, not before
/// `delay`; moves a timer that is set already.
pub fn set_timer(delay: Duration) {
    if on_main_thread() {
        // Rounded up: one that runs off too early is set again, to nothing.
        let msecs = delay.as_nanos().div_ceil(1_000_000);
        let msecs = u32::try_from(msecs).unwrap_or(u32::MAX);
        // SAFETY: we are on Dovecot's thread, and its main ioloop lives as long as the plugin.
        unsafe { raw::dovecast_timer_set(msecs) }
    }
}

/// Takes the timer back.
pub fn clear_timer() {
    if on_main_thread() {
        // SAFETY: we are on Dovecot's thread.
        unsafe { raw::dovecast_timer_clear() }
    }
}

/// Bounds the address space that threads started from now on reserve (`vsz_limit` counts it):
/// stacks of 512 KiB and one malloc arena for all.
pub fn bound_thread_memory() {
    // SAFETY: sets process-wide defaults of glibc; safe at any time.
    unsafe { raw::dovecast_bound_thread_memory() }
}

/// Starts a thread that takes none of the process's signals: Dovecot's handlers expect the main
/// thread.
pub fn spawn_without_signals(
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    let blocked = BlockedSignals::all();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
    drop(blocked);
    thread
}

/// All signals are blocked in this thread as long as this lives; a thread started meanwhile
/// inherits that for good.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn all() -> Self {
        // SAFETY: sigset_t is plain data that sigfillset and pthread_sigmask fill in; they fail
        // only for invalid `how`.
        unsafe {
            let mut all = std::mem::zeroed();
            let mut before = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            Self { before }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by pthread_sigmask on this thread; the type is neither Send
        // nor leaked.
        unsafe {
            libc::pthread_sigmask(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            );
        }
    }
}
