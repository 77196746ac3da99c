//! The description of the API against the running server: schemathesis makes requests of it, and
//! looks whether the answers are as described, whoever asks.
//!
//! `make test` installs the program into `target/schemathesis`; `SCHEMATHESIS` names another one.
//! Where there is none, the cases say so, loudly, and count as ignored. What is bounded here: the
//! requests for each call. What is not asked: whether methods that are not there are 405 (they are
//! 404, as with hooks-backend), and whether each value that the description allows is taken (names
//! are unique, and a URL has to fit its preset).

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};

/// Where `make test` installs it.
const INSTALLED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/schemathesis/bin/schemathesis"
);
/// Checks that are not made: see the module.
const NOT_ASKED: &str = "unsupported_method,allow_header_conformance,positive_data_acceptance";
/// In an array each notification has its own answer, so that 207 may be the one to what is refused.
const SETTINGS: &str = "[[operations]]
include-name = 'POST /messages'
checks.negative_data_rejection.expected-statuses = ['207', '4XX']
";
/// Calls that the API has at least.
const CALLS: usize = 25;
/// Requests for each call, at most.
const EXAMPLES: &str = "15";

fn main() -> ExitCode {
    let cases = [
        ("answers_to_an_admin_are_as_described", true),
        ("answers_to_an_account_are_as_described", false),
    ];
    let trials = cases.map(|(name, is_admin)| {
        Trial::ignorable_test(name, move || {
            let Some(program) = schemathesis() else {
                println!("\n*** {name} SKIPPED: there is no schemathesis\n");
                return Ok(Completion::ignored_with("there is no schemathesis"));
            };
            answers_are_as_described(&program, is_admin)
                .map(|()| Completion::Completed)
                .map_err(|error| Failed::from(format!("{error:?}")))
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

/// The program, if it is there.
fn schemathesis() -> Option<String> {
    let named = env::var("SCHEMATHESIS").ok();
    named.or_else(|| Path::new(INSTALLED).exists().then(|| INSTALLED.to_owned()))
}

/// A token of an account.
fn account_token(server: &Server, admin: &str) -> Result<String> {
    let body = json!({"token": {"name": "t", "account_number": "7"}}).to_string();
    let request = Request::new("POST", "/api/hooks/tokens");
    let request = request.header("Authorization", &format!("Bearer {admin}"));
    let request = request.header("Content-Type", "application/json");
    let made: Value = serde_json::from_str(&server.ask(&request.body(&*body))?.body)?;
    let token = made["meta"]["token"].as_str().context("no token")?;
    Ok(token.to_owned())
}

fn answers_are_as_described(program: &str, is_admin: bool) -> Result<()> {
    let server = Server::builder()
        .binary(env!("CARGO_BIN_EXE_dovecast"))
        .start()?;
    let admin = server.admin_token()?;
    let token = if is_admin {
        admin
    } else {
        account_token(&server, &admin)?
    };
    let base = format!("http://{}/api/hooks", server.address().context("no HTTP")?);
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("schemathesis.toml"), SETTINGS)?;
    let mut command = Command::new(program);
    command.current_dir(dir.path());
    command.args(["run", "--url", &base, "--checks", "all"]);
    command.args(["--exclude-checks", NOT_ASKED, "--max-examples", EXAMPLES]);
    command.args(["--phases", "examples,coverage,fuzzing", "--seed", "1"]);
    command.args(["--no-shrink", "--suppress-health-check", "all"]);
    // Its own token would be gone in the middle of the run.
    command.args(["--exclude-operation-id", "deleteToken"]);
    command.args(["-H", &format!("Authorization: Bearer {token}")]);
    command.arg(format!("{base}/v1/openapi.json"));
    let output = command.output().context("cannot run schemathesis")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}{complaints}");
    let tested = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("Tested: "));
    let tested: usize = tested.context("it says not how many it tested")?.parse()?;
    ensure!(tested >= CALLS, "{tested} calls only: {said}");
    Ok(())
}
