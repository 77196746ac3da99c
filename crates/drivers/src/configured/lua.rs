//! The driver `lua`: hands whole mailbox transactions to a script of the operator's.
//!
//! What the script is given, and how its process is kept, is `crate::lua`'s. Here is what becomes
//! of a transaction: one that the script fails with is handed over a few times and then refused;
//! while the script has no process, or cannot be loaded, all of them are retried as those of any
//! other receiver are. The dispatcher hands a large one over in parts, and each only once it has
//! been taken: those are kept (`earlier`) for a process that has not seen them.

mod earlier;
mod missing;
mod repeating;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Outcome, Target, Unit};
use dovecast_dispatch::schedule::Schedule;

use super::options::{OptionError, Options};
use super::{Events, Known, Made, Serving, Surroundings};
use crate::lua::{Flavour, Handled, LuaOptions, LuaTarget, Transaction};
use earlier::Earlier;
use missing::Missing;
use repeating::Repeating;

/// The options; those of one meaning are one.
pub(super) const OPTIONS: &[Known] = &[
    ("file", &[]),
    ("script_file", &[]),
    ("time_limit_seconds", &[]),
    ("memory_limit_mb", &[]),
    ("dovecot", &[]),
];
/// The script of all drivers that name none, as Dovecot 2.3 has it in the section `plugin`.
const FALLBACK: &str = "push_notification_lua_script_file";
/// How often a script fails with a transaction until that is refused: often enough for an end-point
/// that is away for a moment, and seldom enough that what always fails holds up nobody for long.
const TRIES: u32 = 4;
/// When a transaction is handed over again, in seconds after each failure: what the script fails
/// with is refused before a minute has passed.
const RETRY_SECONDS: [u64; 3] = [1, 5, 15];
/// Seconds between two attempts after those. Only what finds no process comes so far, which says
/// nothing of the transaction: once the script is mended it is not left alone for longer.
const LATER_RETRY_SECONDS: u64 = 60;
/// How long transactions are kept at least while the script cannot be loaded, in seconds.
const KEPT_SECONDS: u64 = 24 * 60 * 60;
/// Most that is added to such a time or taken off it, in percent.
const JITTER_PERCENT: u32 = 20;
/// How long an attempt waits for the next process of a script whose last one has died.
const PROCESS_WAIT: Duration = Duration::from_secs(8);
/// How often it is asked meanwhile whether the script was mended.
const PROCESS_CHECK: Duration = Duration::from_millis(250);
/// Most memory of an interpreter, in MiB.
const MOST_MEMORY_MB: u32 = 16 * 1024;

pub(super) fn make(
    options: &Options<'_>,
    surroundings: &Surroundings,
) -> Result<Made, OptionError> {
    let target = LuaTarget::new(read(options, surroundings)?, surroundings.lua_host.clone());
    let lua = Arc::new(LuaDriver {
        target,
        earlier: Mutex::default(),
        repeating: Repeating::default(),
        attempt_limit: surroundings.lua_attempt_limit,
        missing: Missing::default(),
    });
    Ok(Made {
        events: Events::All,
        serving: Some(Serving {
            // One script is one process, which is asked one thing at a time.
            concurrency: 1,
            schedule: schedule(),
        }),
        target: Arc::clone(&lua) as Arc<dyn Target>,
        lua: Some(lua),
    })
}

fn schedule() -> Schedule {
    let later = (0..KEPT_SECONDS / LATER_RETRY_SECONDS).map(|_| LATER_RETRY_SECONDS);
    let delays = RETRY_SECONDS.into_iter().chain(later);
    Schedule::new(delays.map(Duration::from_secs).collect(), JITTER_PERCENT)
}

fn read(options: &Options<'_>, surroundings: &Surroundings) -> Result<LuaOptions, OptionError> {
    let script = script(options, surroundings)?;
    let mut read = LuaOptions::new(options.block, script);
    if let Some(seconds) = options.number("time_limit_seconds")? {
        let most = LuaOptions::LONGEST_TIME_LIMIT.as_secs();
        if seconds == 0 || u64::from(seconds) > most {
            let reason = format!("a function may take 1 to {most} seconds");
            return Err(OptionError::new(options.key("time_limit_seconds"), reason));
        }
        read.time_limit = Duration::from_secs(seconds.into());
    }
    if let Some(megabytes) = options.number("memory_limit_mb")? {
        if !(1..=MOST_MEMORY_MB).contains(&megabytes) {
            let reason = format!("a script may have 1 to {MOST_MEMORY_MB} MiB");
            return Err(OptionError::new(options.key("memory_limit_mb"), reason));
        }
        read.memory_limit_bytes = u64::from(megabytes) * 1024 * 1024;
    }
    read.plugin.clone_from(options.plugin);
    read.flavour = flavour(options)?;
    Ok(read)
}

/// Whose driver the script was written for: what the block says, or how it is written.
fn flavour(options: &Options<'_>) -> Result<Flavour, OptionError> {
    let settings = || Flavour::Dovecot24(options.settings.cloned().unwrap_or_default());
    match options.text("dovecot")? {
        Some("2.4") => Ok(settings()),
        Some("2.3") if options.settings.is_none() => Ok(Flavour::Dovecot23),
        Some("2.3") => {
            let reason = "Dovecot 2.3 gives no settings to a script, and here are `lua_settings`";
            Err(OptionError::new(options.key("dovecot"), reason))
        }
        Some(other) => {
            let reason = format!("`{other}` is not known, expected `2.3` or `2.4`");
            Err(OptionError::new(options.key("dovecot"), reason))
        }
        None if options.settings.is_some() || options.is_in_2_4_spelling("lua", "file") => {
            Ok(settings())
        }
        None => Ok(Flavour::Dovecot23),
    }
}

/// The script of the block, or that of all that name none; it can be read.
fn script(options: &Options<'_>, surroundings: &Surroundings) -> Result<PathBuf, OptionError> {
    let of_plugin = options.plugin.get(FALLBACK).map(String::as_str);
    let of_all = surroundings.lua_script_file.as_deref();
    let (key, script) = if let Some(script) = options.text("file")? {
        (options.key("file"), script)
    } else if let Some(script) = options.text("script_file")? {
        (options.key("script_file"), script)
    } else if let Some(script) = of_plugin.or(of_all).filter(|script| !script.is_empty()) {
        (FALLBACK, script)
    } else {
        let reason = "No file in config and no push_notification_lua_script_file set";
        return Err(OptionError::new("file", reason));
    };
    let opened = std::fs::File::open(script).and_then(|file| file.metadata());
    let reason = match opened {
        Ok(metadata) if metadata.is_file() => return Ok(PathBuf::from(script)),
        Ok(_) => "it is not a file".to_owned(),
        Err(error) => error.to_string(),
    };
    let reason = format!("Lua script '{script}': cannot open {script}: {reason}");
    Err(OptionError::new(key, reason))
}

/// A script.
pub struct LuaDriver {
    target: LuaTarget,
    earlier: Mutex<Earlier>,
    repeating: Repeating,
    attempt_limit: Duration,
    missing: Missing,
}

impl std::fmt::Debug for LuaDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.target.fmt(f)
    }
}

impl LuaDriver {
    /// Counters since the start.
    pub fn stats(&self) -> crate::lua::LuaStats {
        self.target.stats()
    }

    fn earlier(&self) -> std::sync::MutexGuard<'_, Earlier> {
        self.earlier.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(&self, delivery: &Delivery) -> Attempt {
        let part = delivery.part;
        let made = Transaction::of(
            &delivery.notifications,
            part.is_first,
            part.is_last,
            part.success,
        );
        let mut transaction = match made {
            Ok(transaction) => transaction,
            Err(error) => return Attempt::refused(error.to_string()),
        };
        if part.is_end_only {
            transaction.events.clear();
        }
        self.missing.look(self.target.name(), &transaction);
        let handled = self.handle_soon(&transaction).await;
        let mut earlier = self.earlier();
        match handled {
            Handled::Done => {
                earlier.taken(transaction);
                Attempt {
                    note: None,
                    outcome: Outcome::Delivered,
                    answer: None,
                    latency: Duration::ZERO,
                }
            }
            Handled::Failed {
                reason,
                was_called: true,
                ..
            } if earlier.failed(&transaction.id) >= TRIES => {
                earlier.forget(&transaction.id);
                Attempt::refused(reason)
            }
            Handled::Failed {
                reason,
                retry_after,
                ..
            } => failed(&reason, retry_after),
            // It was handed over with what there is of its beginning.
            Handled::NotBegun => failed("the script has not seen how it begins", None),
        }
    }

    /// Waits for a process for a moment, if there is none.
    async fn handle_soon(&self, transaction: &Transaction) -> Handled {
        let now = Instant::now();
        let (until, process_until) = (now + self.attempt_limit, now + PROCESS_WAIT);
        loop {
            let handled = self.handle(transaction, until).await;
            let Handled::Failed {
                was_called: false,
                retry_after: Some(after),
                ..
            } = handled
            else {
                return handled;
            };
            if Instant::now() + after > process_until {
                return handled;
            }
            // A script that was mended is loaded before that time.
            tokio::time::sleep(after.min(PROCESS_CHECK)).await;
        }
    }

    /// Hands a transaction over, and before it what the process has not seen of it.
    async fn handle(&self, transaction: &Transaction, until: Instant) -> Handled {
        let id = &*transaction.id;
        let process = self.target.process_of(id).await;
        let done = self.repeating.done(id, process);
        if done == 0 {
            let handled = self.target.handle(transaction, until).await;
            if handled != Handled::NotBegun {
                return handled;
            }
        }
        let before = self.earlier().of(id);
        let mut longest = Duration::ZERO;
        for done in done.. {
            if !repeating::is_time(until, longest) {
                let process = self.target.process_of(id).await;
                self.repeating.note(id, process, done);
                return repeating::goes_on(done, before.len());
            }
            let Some(part) = before.get(done) else {
                break;
            };
            let began = Instant::now();
            let handled = self.target.handle(part, until).await;
            if handled != Handled::Done {
                return handled;
            }
            longest = longest.max(began.elapsed());
        }
        if before.is_empty() && transaction.events.is_empty() {
            // No process has what was to end.
            return Handled::Done;
        }
        let transaction = Transaction {
            // What came before is not known any more.
            is_first: before.is_empty(),
            ..transaction.clone()
        };
        self.target.handle(&transaction, until).await
    }
}

fn failed(reason: &str, retry_after: Option<Duration>) -> Attempt {
    let mut attempt = Attempt::failed(reason);
    if let Outcome::Failed {
        retry_after: after, ..
    } = &mut attempt.outcome
    {
        *after = retry_after;
    }
    attempt
}

impl Target for LuaDriver {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn unit(&self) -> Unit {
        Unit::Transaction
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Caller(self))
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(self.target.close())
    }
}

struct Caller(Arc<LuaDriver>);

impl Courier for Caller {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(async {
            let started = Instant::now();
            let attempt = self.0.attempt(delivery).await;
            Attempt {
                latency: started.elapsed(),
                ..attempt
            }
        })
    }
}

#[cfg(test)]
mod tests;
