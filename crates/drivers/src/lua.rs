//! The driver `lua`: mailbox transactions are handed to a script of the operator's, as Dovecot's
//! own driver of that name does.
//!
//! The script runs in a process of its own, which `process` starts, asks and kills; what happens
//! inside is `dovecast-lua-host`'s. Here it is decided when there is a process: one is started for
//! the first transaction, another one when the script has changed and no transaction is open, or
//! after the last one has died, later each time it does.
//!
//! Whoever hands over transactions keeps their order and repeats what has failed.

mod file;
mod handled;
mod log;
mod options;
mod process;
mod running;
mod stats;
mod transaction;

use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use dovecast_lua_host::serve;
use dovecast_lua_host::wire::{Answer, Done, MAX_OPEN_TRANSACTIONS, Request, Start};
use tokio::sync::Mutex;

use file::{FileState, ScriptFile};
pub use handled::Handled;
use handled::{failed, loaded_late, no_process};
pub use options::{Flavour, LuaOptions};
use process::{Asked, Script};
use running::Running;
use stats::Counters;
pub use stats::LuaStats;
pub use transaction::{BadTransaction, Transaction};

/// Time until a process is started again after the first death; doubled with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// Longest time until a process is started again.
const LONGEST_BACK_OFF: Duration = Duration::from_mins(1);
/// What is late where no function is, but all of them together.
const ALL: &str = "the functions for one transaction";
/// How long a transaction without an end keeps a script from being loaded again: its next part
/// comes to another node, or never.
const OPEN_LIMIT: Duration = Duration::from_mins(10);

/// A script that gets transactions.
pub struct LuaTarget {
    options: LuaOptions,
    /// The program that calls `dovecast_lua_host::serve`, and its arguments.
    command: Vec<OsString>,
    state: Mutex<State>,
    counters: Arc<Counters>,
}

/// The process, and what is remembered of those before it.
#[derive(Default)]
struct State {
    running: Option<Running>,
    file: ScriptFile,
    /// How long no process is started after the next death; and since when none was.
    back_off: Option<(Duration, Instant)>,
    /// The file as it was when a process could not be started, or died.
    died_with: Option<FileState>,
    /// Whether the next process says where it is when it is late: the last one was.
    is_traced: bool,
}

impl LuaTarget {
    /// A script, which is loaded for the first transaction; the command is that of
    /// `dovecast lua-host`.
    pub fn new(options: LuaOptions, command: Vec<OsString>) -> Self {
        Self {
            options,
            command,
            state: Mutex::default(),
            counters: Arc::default(),
        }
    }

    /// Name of the block of the configuration.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Loads the script, if it is not loaded; what is wrong with it otherwise.
    pub async fn check(&self) -> Result<(), String> {
        let mut state = self.state.lock().await;
        match self.ready(&mut state).await {
            Err(Handled::Failed { reason, .. }) => Err(reason),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Calls the script for a transaction, or for a part of one. What takes longer than until then
    /// is killed.
    pub async fn handle(&self, transaction: &Transaction, until: Instant) -> Handled {
        let mut state = self.state.lock().await;
        let began = Instant::now();
        // A process that is being started dies with this.
        let ready = tokio::time::timeout_at(until.into(), self.ready(&mut state)).await;
        let mut running = match ready.unwrap_or_else(|_| Err(self.not_in_time(&mut state))) {
            Ok(()) => match state.running.take() {
                Some(running) if running.has_time(began, until, self.options.time_limit) => running,
                Some(running) => {
                    state.running = Some(running);
                    return loaded_late();
                }
                None => return failed("the script has no process", false),
            },
            Err(failed) => return failed,
        };
        let request = match transaction.request() {
            Ok(request) => Request::Part(request),
            Err(error) => {
                state.running = Some(running);
                return failed(error.to_string(), true);
            }
        };
        // A process that nobody waits for any more dies with this: it is in `state` again only
        // when it has answered.
        let asked = running.script.ask(&request, &self.options);
        let asked = tokio::time::timeout_at(until.into(), asked).await;
        match asked.unwrap_or_else(|_| Asked::Late(ALL.to_owned())) {
            Asked::Answered(Answer::Done(done)) if done.is_full && !done.errors.is_empty() => {
                let reason = match self.told(&done) {
                    Handled::Failed { reason, .. } => format!("it has no memory left: {reason}"),
                    _ => "it has no memory left".to_owned(),
                };
                self.died(&mut state, running.script, &reason).await
            }
            Asked::Answered(Answer::Done(done)) => {
                running.note(transaction, !done.errors.is_empty());
                running.is_full = done.is_full;
                state.running = Some(running);
                let handled = self.told(&done);
                if handled == Handled::Done {
                    self.counters.transactions(transaction.is_last);
                    state.back_off = None;
                }
                handled
            }
            Asked::Answered(Answer::Unknown) => {
                state.running = Some(running);
                Handled::NotBegun
            }
            Asked::Answered(Answer::Failed(reason)) => {
                running.note(transaction, true);
                state.running = Some(running);
                failed(reason, true)
            }
            Asked::Answered(_) => {
                self.died(&mut state, running.script, "it answers what was not asked")
                    .await
            }
            Asked::Late(function) => {
                state.is_traced = true;
                self.counters.late();
                let reason = if function == ALL {
                    format!("{ALL} take too long together")
                } else {
                    let limit = self.options.time_limit;
                    format!("`{function}` takes longer than {limit:?}")
                };
                self.died(&mut state, running.script, &reason).await
            }
            Asked::Gone(reason) => self.died(&mut state, running.script, &reason).await,
        }
    }

    /// Number of the process that is there, if the transaction is open in it.
    pub async fn process_of(&self, transaction: &str) -> Option<u64> {
        let state = self.state.lock().await;
        let running = state.running.as_ref();
        let running = running.filter(|running| running.open.contains_key(transaction));
        running.map(|running| running.number)
    }

    /// Counters since the start.
    pub fn stats(&self) -> LuaStats {
        self.counters.stats()
    }

    /// Ends the script: `script_deinit` is called.
    pub async fn close(&self) {
        let mut state = self.state.lock().await;
        if let Some(running) = state.running.take() {
            self.end(running).await;
        }
    }

    /// Sees to it that there is a process, with the script as it is now.
    async fn ready(&self, state: &mut State) -> Result<(), Handled> {
        let file = FileState::of(&self.options.script);
        let settles_in = state.file.settles_in(file, Instant::now());
        let is_changed = state.file.has_changed(file) && settles_in.is_none();
        let is_outdated = |running: &Running| {
            let is_busy = |since: &Instant| since.elapsed() < OPEN_LIMIT;
            let is_crowded = running.open.len() >= MAX_OPEN_TRANSACTIONS;
            let may_end = is_crowded || !running.open.values().any(is_busy);
            may_end && (is_crowded || running.is_full || running.is_traced || is_changed)
        };
        if state.running.as_ref().is_some_and(is_outdated)
            && let Some(running) = state.running.take()
        {
            self.end(running).await;
            if is_changed {
                self.counters.reloaded();
                tracing::info!(
                    target: log::TARGET,
                    driver = %self.options.name,
                    script = %self.options.script.display(),
                    "the script has changed and is loaded again"
                );
            }
        }
        if state.running.is_some() {
            return Ok(());
        }
        if state.died_with == file
            && let Some((time, since)) = state.back_off
            && let Some(left) = time.checked_sub(since.elapsed())
        {
            return Err(no_process("the last one has died", left));
        }
        // A file that is not there is named as what it is.
        if let Some(left) = settles_in.filter(|_| file.is_some()) {
            return Err(no_process("its file has just changed", left));
        }
        self.start(state, file).await
    }

    /// Starts a process with the script in this state of its file.
    async fn start(&self, state: &mut State, file: Option<FileState>) -> Result<(), Handled> {
        let is_traced = state.is_traced;
        let start = Start {
            script: self.options.script.clone(),
            time_limit_ms: milliseconds(self.options.time_limit),
            memory_limit_bytes: self.options.memory_limit_bytes,
            settings: self.options.flavour.settings().cloned(),
            plugin: self.options.plugin.clone(),
            is_traced,
        };
        state.file.loads(file);
        self.counters.started();
        let started = Script::start(&self.command, start, &self.options, &self.counters).await;
        let started = started.and_then(|script| {
            if state.file.is_another() {
                self.check_whole(&script, file)?;
            }
            Ok(script)
        });
        match started {
            Ok(script) => {
                state.is_traced = false;
                state.running = Some(Running {
                    script,
                    since: Instant::now(),
                    open: HashMap::new(),
                    is_traced,
                    is_full: false,
                    number: self.counters.stats().starts,
                });
                Ok(())
            }
            Err(reason) => {
                self.counters.not_loaded();
                tracing::error!(
                    target: log::TARGET,
                    driver = %self.options.name,
                    script = %self.options.script.display(),
                    reason,
                    "the script cannot be loaded"
                );
                let retry_after = wait(state, file);
                Err(Handled::Failed {
                    reason: format!("the script cannot be loaded: {reason}"),
                    retry_after: Some(retry_after),
                    was_called: false,
                })
            }
        }
    }

    /// A script that has taken the place of another one is not taken for less than it is: Dovecot
    /// calls nothing of one without a beginning, and what it is not called for would be done.
    fn check_whole(&self, script: &Script, file: Option<FileState>) -> Result<(), String> {
        if FileState::of(&self.options.script) != file {
            return Err("its file has changed meanwhile".to_owned());
        }
        if !script.has_beginning {
            return Err("Missing function dovecot_lua_notify_begin_txn".to_owned());
        }
        Ok(())
    }

    /// A process was not ready while there was time for it.
    fn not_in_time(&self, state: &mut State) -> Handled {
        self.counters.not_loaded();
        tracing::error!(
            target: log::TARGET,
            driver = %self.options.name,
            script = %self.options.script.display(),
            "the script is not loaded in time"
        );
        Handled::Failed {
            reason: "the script is not loaded in time".to_owned(),
            retry_after: Some(wait(state, FileState::of(&self.options.script))),
            was_called: false,
        }
    }

    /// Kills a process, and has the next one wait.
    async fn died(&self, state: &mut State, script: Script, reason: &str) -> Handled {
        let ended = script.kill().await;
        self.counters.died();
        tracing::error!(
            target: log::TARGET,
            driver = %self.options.name,
            script = %self.options.script.display(),
            reason,
            status = ended,
            "the process of the script has died or was killed"
        );
        let file = FileState::of(&self.options.script);
        Handled::Failed {
            reason: format!("the process of the script has died: {reason} ({ended})"),
            retry_after: Some(wait(state, file)),
            was_called: true,
        }
    }

    /// Logs and counts the errors of the script.
    fn told(&self, done: &Done) -> Handled {
        self.counters.told(done);
        for error in &done.errors {
            tracing::error!(
                target: log::TARGET,
                driver = %self.options.name,
                script = %self.options.script.display(),
                function = error.function,
                error = error.message,
                "a function of the script has failed"
            );
        }
        match done.errors.first() {
            None => Handled::Done,
            Some(error) => failed(format!("`{}`: {}", error.function, error.message), true),
        }
    }

    async fn end(&self, running: Running) {
        let ended = running.script.end(&self.options).await;
        if let Some(done) = ended {
            self.told(&done);
        }
    }
}

impl std::fmt::Debug for LuaTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LuaTarget")
            .field("name", &self.options.name)
            .field("script", &self.options.script)
            .finish_non_exhaustive()
    }
}

/// No process for a while; how long.
fn wait(state: &mut State, file: Option<FileState>) -> Duration {
    let time = state.back_off.map_or(FIRST_BACK_OFF, |(time, _)| 2 * time);
    let time = time.min(LONGEST_BACK_OFF);
    state.back_off = Some((time, Instant::now()));
    state.died_with = file;
    time
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
