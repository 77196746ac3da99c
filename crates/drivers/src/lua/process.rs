//! One process of a script, as the driver sees it.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use dovecast_host_process::{Process, StandardError};
use dovecast_lua_host::wire::{Answer, Done, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Request, Start};
use tokio::time::timeout;

use super::log;
use super::options::LuaOptions;
use super::stats::Counters;

/// How much longer than the limit a process may be silent: it says by itself when a function is
/// late, unless it has stopped altogether.
const GRACE: Duration = Duration::from_secs(5);
/// Longest time until the system has started a process.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Longest time that `kill` waits for how a process has ended that ends by itself.
const END_LIMIT: Duration = Duration::from_secs(1);

/// A process with a script.
pub(super) struct Script {
    process: Process,
    /// Whether there is a function that a transaction begins with.
    pub(super) has_beginning: bool,
    /// Whether it has closed its output: it ends by itself.
    is_ending: bool,
}

/// What came of a request.
pub(super) enum Asked {
    /// The last answer.
    Answered(Answer),
    /// A function is late, the one of this name; the process is to be killed.
    Late(String),
    /// The process is not there any more, or is to be killed; why.
    Gone(String),
}

impl Script {
    /// Starts a process and has it load the script.
    pub(super) async fn start(
        command: &[OsString],
        start: Start,
        options: &LuaOptions,
        counters: &Arc<Counters>,
    ) -> Result<Self, String> {
        let starting = Process::start(command, StandardError::Caller);
        let mut process = match timeout(START_LIMIT, starting).await {
            Ok(started) => started.map_err(|error| format!("no process: {error}"))?,
            Err(_) => return Err("no process: the system takes too long".to_owned()),
        };
        if let Some(output) = process.take_standard_error() {
            let printed = log::printed(options.name.clone(), output, Arc::clone(counters));
            tokio::spawn(printed);
        }
        let mut script = Self {
            process,
            has_beginning: false,
            is_ending: false,
        };
        match script.ask(&Request::Start(start), options).await {
            Asked::Answered(Answer::Started {
                kinds,
                has_beginning,
            }) => {
                script.has_beginning = has_beginning;
                tracing::debug!(
                    target: log::TARGET,
                    driver = %options.name,
                    script = %options.script.display(),
                    events = kinds.join(" "),
                    "the script is loaded"
                );
                Ok(script)
            }
            Asked::Answered(Answer::Failed(reason)) => Err(reason),
            Asked::Answered(_) => Err("the process answers what was not asked".to_owned()),
            Asked::Late(function) => {
                let ended = script.kill().await;
                Err(format!("{function} takes too long ({ended})"))
            }
            Asked::Gone(reason) => {
                let ended = script.kill().await;
                Err(format!("{reason} ({ended})"))
            }
        }
    }

    /// Asks, logs what the script says meanwhile, and waits for the last answer.
    pub(super) async fn ask(&mut self, request: &Request, options: &LuaOptions) -> Asked {
        let bytes = match serde_json::to_vec(request) {
            Ok(bytes) => bytes,
            Err(error) => return Asked::Answered(Answer::Failed(error.to_string())),
        };
        if bytes.len() > MAX_REQUEST_BYTES {
            let reason = format!("it has more than {MAX_REQUEST_BYTES} bytes");
            return Asked::Answered(Answer::Failed(reason));
        }
        let silence = options.time_limit + GRACE;
        match timeout(silence, self.process.send(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Asked::Gone(format!("it takes no request: {error}")),
            Err(_) => return Asked::Gone("it takes no request".to_owned()),
        }
        loop {
            let answer = match timeout(silence, self.process.receive(MAX_ANSWER_BYTES)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    self.is_ending = true;
                    return Asked::Gone("it has ended without an answer".to_owned());
                }
                Ok(Err(error)) => return Asked::Gone(format!("no answer: {error}")),
                Err(_) => return Asked::Gone("it is silent".to_owned()),
            };
            match serde_json::from_slice(&answer) {
                Ok(Answer::Line(line)) => log::line(options, line),
                Ok(Answer::Working) => {}
                Ok(Answer::Late { function }) => return Asked::Late(function),
                Ok(Answer::Trace {
                    function,
                    traceback,
                }) => tracing::error!(
                    target: log::TARGET,
                    driver = %options.name,
                    script = %options.script.display(),
                    function,
                    traceback,
                    "a function of the script takes too long"
                ),
                Ok(answer) => return Asked::Answered(answer),
                Err(error) => return Asked::Gone(format!("it answers no JSON: {error}")),
            }
        }
    }

    /// Ends the script; what its last function has said.
    pub(super) async fn end(mut self, options: &LuaOptions) -> Option<Done> {
        let ended = match self.ask(&Request::End, options).await {
            Asked::Answered(Answer::Ended(done)) => Some(done),
            Asked::Late(function) => {
                let reason = format!("{function} takes too long");
                tracing::error!(target: log::TARGET, driver = %options.name, reason, "the process of the script was killed");
                None
            }
            Asked::Answered(_) => None,
            Asked::Gone(reason) => {
                tracing::error!(target: log::TARGET, driver = %options.name, reason, "the process of the script has died");
                None
            }
        };
        // `kill` says how it has ended, which nobody asks here.
        let _ = self.kill().await;
        ended
    }

    /// Kills the process; says how it has ended.
    pub(super) async fn kill(self) -> String {
        let ended = if self.is_ending {
            timeout(END_LIMIT, self.process.ended()).await
        } else {
            timeout(END_LIMIT, self.process.kill()).await
        };
        match ended {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => format!("it cannot be waited for: {error}"),
            // What is dropped is killed.
            Err(_) => "it did not end by itself".to_owned(),
        }
    }
}
