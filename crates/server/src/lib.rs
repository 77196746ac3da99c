//! `dovecast`: takes the events of this host's mail processes into a durable log, delivers them,
//! and shows what is in it.
//!
//! `serve` is the server; the other commands are clients of one that runs, or of the Kafka cluster
//! it ships to. Standard output carries what was asked for and nothing else; what went wrong is one
//! line on standard error.
//!
//! Exit codes: 0 done, 1 it failed, 2 the command line makes no sense. `doctor` has its own: see
//! `cli`.
//!
//! A library for two users: the binary (`main.rs`), and whoever tries the [`parsers`].

#![forbid(unsafe_code)]

mod access;
mod api;
mod basic;
mod cli;
mod commands;
mod config;
mod control;
mod dispatch;
mod exposition;
mod headers;
mod key_file;
mod logs;
pub mod parsers;
mod past;
mod push;
mod serve;
mod sources;
mod terminal;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::Parser;

/// The program: does what its command line says.
pub fn run() -> ExitCode {
    let arguments = match cli::Arguments::try_parse().and_then(cli::Arguments::checked) {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = cli::code_of_wrong_line(std::env::args_os());
            if !error.use_stderr() || i32::from(code) == error.exit_code() {
                error.exit();
            }
            say_last(error.render().to_string());
            return ExitCode::from(code);
        }
    };
    match commands::run(&arguments) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say_last(format!("dovecast: {}\n", with_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

/// How long the end of the process waits for a standard error that takes nothing.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes to standard error. Where that is closed or full, the exit code still says it.
fn say_last(text: String) {
    let (said, done) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = io::stderr().write_all(text.as_bytes());
        let _ = said.send(());
    });
    let _ = done.recv_timeout(LAST_WORDS_TIMEOUT);
}

/// An error with its causes. What a library repeats of its own cause is said once.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Whoever read our output has enough of it (`dovecast tail | head`).
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<commands::OutputError>()
        .is_some_and(|output| output.0.kind() == io::ErrorKind::BrokenPipe)
}
