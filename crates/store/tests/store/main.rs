//! The store on SQLite and on a real PostgreSQL: the same cases on both.
//!
//! Where there is no PostgreSQL its cases say so, loudly, and count as ignored.

mod attempts;
mod began;
mod bodies;
mod cleaning;
mod clocks;
mod closing;
mod configured;
mod cuts;
mod deletion;
mod deliveries;
mod drivers;
mod dropped;
mod endpoints;
mod failing;
mod feed;
mod filters;
mod growing;
mod hidden;
mod keys;
mod leases;
mod letters;
mod losses;
mod lost_answers;
mod opening;
mod order;
mod owed_keys;
mod owners;
mod push;
mod push_attempts;
mod push_clocks;
mod push_expiry;
mod push_once;
mod push_wishes;
mod pushes;
mod ranges;
mod read_rows;
mod refused;
mod registration;
mod restored;
mod rights;
mod rotation;
mod said;
mod secrets;
mod setup;
mod shares;
mod skew;
mod statements;
mod tls;
mod together;
mod tokens;
mod trimming;
mod upgrade;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use dovecast_testkit::postgres::Postgres;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use setup::{Case, Kind, Test};

/// Holds keys, in the cases.
pub(crate) const KEYS_VARIABLE: &str = "DOVECAST_TEST_STORE_KEYS";
const KEYS: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Holds bytes that are no UTF-8, in the cases.
pub(crate) const NOT_TEXT_VARIABLE: &str = "DOVECAST_TEST_STORE_NOT_TEXT";
const NOT_TEXT: &[u8] = b"geheim-\xff";

/// Runs this program again, with environment variables that hold keys: a process cannot safely
/// change its own. Returns where they are there.
fn with_variables() {
    if std::env::var_os(KEYS_VARIABLE).is_some() {
        return;
    }
    let program = std::env::current_exe().expect("this program has a path");
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    let error = command
        .args(arguments)
        .env(KEYS_VARIABLE, KEYS)
        .env(NOT_TEXT_VARIABLE, OsStr::from_bytes(NOT_TEXT))
        .exec();
    panic!("cannot run this program again: {error}");
}

fn main() -> ExitCode {
    with_variables();
    let arguments = Arguments::from_args();
    let is_listed = arguments.list;
    // Started here and dropped here: it must not outlive the process, nor the thread.
    let postgres = if is_listed { None } else { Some(start()) };
    let cases: Vec<Case> = [
        attempts::CASES,
        began::CASES,
        bodies::CASES,
        clocks::CASES,
        closing::CASES,
        configured::CASES,
        cuts::CASES,
        deletion::CASES,
        deliveries::CASES,
        drivers::CASES,
        dropped::CASES,
        endpoints::CASES,
        failing::CASES,
        feed::CASES,
        filters::CASES,
        growing::CASES,
        hidden::CASES,
        keys::CASES,
        losses::CASES,
        lost_answers::CASES,
        opening::CASES,
        order::CASES,
        owed_keys::CASES,
        owners::CASES,
        leases::CASES,
        letters::CASES,
        push::CASES,
        push_attempts::CASES,
        push_clocks::CASES,
        push_expiry::CASES,
        push_once::CASES,
        push_wishes::CASES,
        pushes::CASES,
        ranges::CASES,
        read_rows::CASES,
        refused::CASES,
        registration::CASES,
        restored::CASES,
        rights::CASES,
        rotation::CASES,
        cleaning::CASES,
        said::CASES,
        secrets::CASES,
        shares::CASES,
        skew::CASES,
        statements::CASES,
        tls::CASES,
        together::CASES,
        tokens::CASES,
        trimming::CASES,
        upgrade::CASES,
    ]
    .concat();
    let mut trials = Vec::new();
    for (name, case) in cases {
        trials.push(Trial::test(format!("sqlite::{name}"), move || {
            run(case, Kind::Sqlite)
        }));
        let postgres = postgres.clone();
        let full_name = format!("postgres::{name}");
        trials.push(Trial::ignorable_test(
            full_name.clone(),
            move || match postgres {
                Some(Ok(postgres)) => {
                    run(case, Kind::Postgres(postgres)).map(|()| Completion::Completed)
                }
                Some(Err(reason)) => {
                    println!("\n*** {full_name} SKIPPED: {reason}\n");
                    Ok(Completion::ignored_with(reason))
                }
                None => Err("only listed".into()),
            },
        ));
    }
    let ended = libtest_mimic::run(&arguments, trials);
    drop(postgres);
    ended.exit_code()
}

/// What is missing is a reason to skip; what does not work is a failure of every case.
fn start() -> Result<Arc<Postgres>, String> {
    match Postgres::start() {
        Ok(Ok(postgres)) => Ok(Arc::new(postgres)),
        Ok(Err(unavailable)) => Err(unavailable.to_string()),
        Err(error) => panic!("{error:?}"),
    }
}

fn run(case: fn(Test) -> setup::Outcome, kind: Kind) -> Result<(), Failed> {
    let failed = |error: anyhow::Error| Failed::from(dovecast_testkit::failure(&error));
    let test = Test::new(kind).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed(error.into()))?;
    runtime.block_on(case(test)).map_err(failed)
}
