//! A running `dovecast serve` whose `state.db`, or all of whose files, cannot be written for a
//! while: it says so, and goes on by itself afterwards, with everything that it owes.
//!
//! Where nothing may be mounted the case of the full disk says so, loudly, and counts as ignored.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dovecast_testkit::Unavailable;
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::{Builder, Server};
use dovecast_testkit::small_disk::{SmallDisk, limit_files};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_dovecast");
const PATIENCE: Duration = Duration::from_mins(1);
/// More than there are connections to the store.
const REQUESTS: usize = 20;
/// The log of SQLite is brought home before it has room for so many.
const MOST_REQUESTS: usize = 5000;
const NOTIFICATIONS: usize = 20;
/// Where notifications are in the log.
const OUTBOX: &str = "hooks.outbox";

fn main() -> ExitCode {
    let trials = vec![
        on_small_disk(
            "a_disk_that_is_full_for_a_while_loses_nothing_and_needs_no_restart",
            a_disk_that_is_full_for_a_while,
        ),
        on_small_disk(
            "a_data_directory_whose_disk_is_full_for_a_while_loses_nothing",
            a_data_directory_whose_disk_is_full,
        ),
        on_small_disk(
            "a_log_that_has_filled_the_disk_becomes_smaller_again",
            a_log_that_has_filled_the_disk,
        ),
        Trial::test("writes_that_fail_for_a_while_spoil_no_connection", || {
            match writes_that_fail_for_a_while() {
                Ok(()) => Ok(()),
                Err(error) => Err(Failed::from(dovecast_testkit::failure(&error))),
            }
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A case that is skipped where nothing can be mounted.
fn on_small_disk(name: &str, case: fn() -> Result<Result<(), Unavailable>>) -> Trial {
    Trial::ignorable_test(name, move || match case() {
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(unavailable)) => {
            println!("\n*** full disk SKIPPED: {unavailable}\n");
            Ok(Completion::ignored_with(unavailable.to_string()))
        }
        Err(error) => Err(Failed::from(dovecast_testkit::failure(&error))),
    })
}

/// A server and its admin.
struct World {
    server: Server,
    token: String,
}

impl World {
    fn start(builder: Builder) -> Result<Self> {
        let builder = builder.config("[dispatch]\nallowed_networks = ['127.0.0.0/8']");
        let server = builder.start()?;
        let token = server.admin_token()?;
        Ok(Self { server, token })
    }

    fn ask(&self, token: &str, request: Request) -> Result<Answer> {
        let bearer = format!("Bearer {token}");
        let request = request.header("authorization", &bearer);
        self.server
            .ask(&request.header("content-type", "application/json"))
    }

    fn make(&self, token: &str, what: &str, fields: &Value) -> Result<Answer> {
        let path = format!("/api/hooks/{what}");
        self.ask(token, Request::new("POST", &path).body(fields.to_string()))
    }

    fn make_token(&self) -> Result<Answer> {
        let fields = json!({"token": {"name": "t", "scope": "account", "account_number": "1"}});
        self.make(&self.token, "tokens", &fields)
    }

    /// The token of the account 1.
    fn account(&self) -> Result<String> {
        let made: Value = serde_json::from_str(&self.make_token()?.body)?;
        let token = made["meta"]["token"].as_str().context("no token")?;
        Ok(token.to_owned())
    }

    /// Sends a notification to the account of a token; the status of the answer.
    fn send(&self, token: &str, message: &str) -> Result<u16> {
        let fields = json!({
            "application": "a", "event_type": "e", "level": null, "message": message});
        Ok(self.make(token, "messages", &fields)?.status)
    }

    fn becomes(&self, expected: (u16, &str)) -> Result<()> {
        let mut last = None;
        let found = poll_until(PATIENCE, || {
            last = self.server.get("/readyz").ok();
            let (status, text) = last.as_ref()?;
            ((*status, &**text) == expected).then_some(())
        });
        found.with_context(|| {
            format!(
                "it is {last:?}, not {expected:?}: {}",
                self.server.server_log()
            )
        })
    }

    /// More requests than there are connections are refused, one after another, and told when to
    /// come again.
    ///
    /// `stop` is what keeps the store from writing. It is asked again whenever a write was taken:
    /// SQLite writes over a log that it has brought home, or leaves room where it has cut one.
    fn refuses_writes(&self, stop: impl Fn() -> Result<()>) -> Result<()> {
        let mut refused = 0;
        for _ in 0..MOST_REQUESTS {
            let answer = self.make_token()?;
            if answer.status == 201 {
                stop()?;
                refused = 0;
                continue;
            }
            ensure!(
                answer.status == 503 && answer.header("retry-after") == Some("5"),
                "{answer:?}"
            );
            refused += 1;
            if refused == REQUESTS {
                ensure!(self.server.get("/healthz")?.0 == 200);
                return Ok(());
            }
        }
        bail!("writes are still taken after {MOST_REQUESTS} of them");
    }

    fn takes_writes(&self) -> Result<()> {
        for _ in 0..REQUESTS {
            let answer = self.make_token()?;
            ensure!(
                answer.status == 201,
                "{answer:?} {}",
                self.server.server_log()
            );
        }
        Ok(())
    }
}

fn a_disk_that_is_full_for_a_while() -> Result<Result<(), Unavailable>> {
    let disk = match SmallDisk::mount(8)? {
        Ok(disk) => disk,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let url = format!("[store]\nurl = 'sqlite:{}/state.db'", disk.path().display());
    let world = World::start(Server::builder().binary(BINARY).config(&url))?;
    let token = world.account()?;
    let sink = HookEndpoint::start()?;
    let fields = json!({"endpoint": {
        "name": "sink", "url": sink.url(), "active": true, "filter": {},
        "retry_delays": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    }});
    let made = world.make(&token, "endpoints", &fields)?;
    ensure!(made.status == 201, "{made:?}");

    disk.fill()?;
    world.refuses_writes(|| disk.fill())?;
    world.becomes((503, "the store takes no writes\n"))?;
    // What can be read is shown.
    let shown = world.ask(&token, Request::get("/api/hooks/endpoints"))?;
    ensure!(shown.status == 200, "{shown:?}");
    // Some arrive, the others are owed: neither can be written down.
    sink.refuse_once(2);
    let count = NOTIFICATIONS.to_string();
    let send = ["send", "--account-id", "1", "--application", "a"];
    let more = ["--event-type", "e", "--count", &count];
    world.server.run(send.into_iter().chain(more))?;
    sink.wait_for(1, PATIENCE)?;
    let errors = "dovecast_dispatch_store_errors_total";
    let errors = world.server.metric_is(errors, |errors| errors > 0.0);
    errors.context("nothing was to be written down")?;

    disk.make_room()?;
    world.becomes((200, "ok\n"))?;
    world.takes_writes()?;
    let arrived = poll_until(PATIENCE, || {
        let hooks = sink.hooks();
        let ids: BTreeSet<_> = hooks
            .iter()
            .filter_map(|hook| hook.header("webhook-id"))
            .collect();
        (ids.len() == NOTIFICATIONS).then_some(())
    });
    let log = world.server.server_log();
    arrived.with_context(|| format!("only {} have arrived: {log}", sink.count()))?;
    nothing_comes_again(world.server, &sink)?;
    Ok(Ok(()))
}

/// Commits went on when there was room: a server that is started again sends what is new, and
/// nothing of what it has sent.
fn nothing_comes_again(mut server: Server, sink: &HookEndpoint) -> Result<()> {
    becomes_quiet(&server)?;
    let before = sink.count();
    let stopped = server.stop()?;
    ensure!(stopped.success(), "{stopped}");
    server.start_again()?;
    let send = ["send", "--account-id", "1", "--application", "a"];
    server.run(send.into_iter().chain(["--event-type", "last"]))?;
    sink.wait_for(before + 1, PATIENCE)?;
    becomes_quiet(&server)?;
    let new = sink.hooks_after(before);
    let is_last = |hook: &Hook| hook.body.contains(r#""event_type":"last""#);
    ensure!(new.len() == 1 && is_last(&new[0]), "{new:#?}");
    Ok(())
}

/// Waits until endpoints are owed nothing, and all that was sent to them is committed.
fn becomes_quiet(server: &Server) -> Result<()> {
    let is_quiet = poll_until(PATIENCE, || {
        let endpoints = listed(server, "endpoints").ok()?;
        let owed = ["owed_deliveries", "owed_ranges"].map(|owed| sum(&endpoints, owed));
        let topics = listed(server, "topics").ok()?;
        let outbox = topics.iter().find(|topic| topic["topic"] == OUTBOX)?;
        let end = sum(outbox["partitions"].as_array()?, "end");
        let groups = listed(server, "groups").ok()?;
        let ours = groups.into_iter().filter(|group| group["topic"] == OUTBOX);
        let committed = sum(&ours.collect::<Vec<_>>(), "committed");
        (owed == [Some(0); 2] && committed == end).then_some(())
    });
    is_quiet.with_context(|| server.server_log())
}

/// What a command lists of a server.
fn listed(server: &Server, what: &str) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&server.run([what, "--json"])?)?)
}

/// The sum of a number that all have; `None`: one has it not.
fn sum(all: &[Value], name: &str) -> Option<u64> {
    all.iter().map(|one| one[name].as_u64()).sum()
}

fn a_data_directory_whose_disk_is_full() -> Result<Result<(), Unavailable>> {
    let disk = match SmallDisk::mount(16)? {
        Ok(disk) => disk,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let data_dir = disk.path().join("data");
    let world = World::start(Server::builder().binary(BINARY).data_dir(data_dir))?;
    let token = world.account()?;
    let sink = HookEndpoint::start()?;
    sink.answer(503);
    // Attempts for longer than the disk is full.
    let delays = [5; 20];
    let fields = json!({"endpoint": {
        "name": "sink", "url": sink.url(), "filter": {}, "retry_delays": delays}});
    let made = world.make(&token, "endpoints", &fields)?;
    ensure!(made.status == 201, "{made:?}");
    let mut expected = BTreeSet::new();
    for number in 0..NOTIFICATIONS {
        let message = format!("before, number {number}");
        ensure!(world.send(&token, &message)? == 201, "{message}");
        expected.insert(message);
    }
    let failed = "dovecast_dispatch_failed_attempts_total";
    world.server.metric_is(failed, |failed| failed > 0.0)?;

    disk.fill()?;
    world.refuses_writes(|| disk.fill())?;
    let is_refused = poll_until(PATIENCE, || {
        // Whatever SQLite has given back.
        disk.fill().ok()?;
        let status = world.send(&token, "meanwhile").ok()?;
        (status == 503).then_some(())
    });
    is_refused.context("the log takes records")?;
    let is_told = poll_until(PATIENCE, || {
        let (status, _) = world.server.get("/readyz").ok()?;
        (status == 503).then_some(())
    });
    is_told.context("it is ready")?;
    let shown = world.ask(&token, Request::get("/api/hooks/endpoints"))?;
    ensure!(shown.status == 200, "{shown:?}");

    sink.answer(204);
    disk.make_room()?;
    // Though nobody has written since.
    world.becomes((200, "ok\n"))?;
    ensure!(world.send(&token, "afterwards")? == 201, "afterwards");
    expected.insert("afterwards".to_owned());
    world.takes_writes()?;
    let missing = || -> BTreeSet<String> {
        let bodies = sink.hooks().into_iter().map(|hook| hook.body);
        let arrived: BTreeSet<String> = bodies.filter_map(|body| message_of(&body)).collect();
        expected.difference(&arrived).cloned().collect()
    };
    let all = poll_until(PATIENCE, || missing().is_empty().then_some(()));
    all.with_context(|| format!("{:?}: {}", missing(), world.server.server_log()))?;
    Ok(Ok(()))
}

/// The message of a notification as it is delivered.
fn message_of(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body["message"].as_str()?.to_owned())
}

fn a_log_that_has_filled_the_disk() -> Result<Result<(), Unavailable>> {
    let disk = match SmallDisk::mount(64)? {
        Ok(disk) => disk,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let data_dir = disk.path().join("data");
    let start = |retention_mb: u32| {
        let log = format!("[log]\nretention_mb = {retention_mb}");
        let server = Server::builder().binary(BINARY).data_dir(&data_dir);
        server.config(&log).start()
    };
    let server = start(0)?;
    let world = World {
        token: server.admin_token()?,
        server,
    };
    let token = world.account()?;
    let large = "x".repeat(500_000);
    let send = |world: &World| world.send(&token, &large);
    let mut count = 0;
    loop {
        match send(&world)? {
            201 => count += 1,
            // Its rate.
            429 => std::thread::sleep(Duration::from_millis(10)),
            503 => break,
            other => bail!("{other} after {count}: {}", world.server.server_log()),
        }
        ensure!(count < 1000, "the disk is never full");
    }
    ensure!(count > 50, "only {count} found room");
    // What it keeps free is there for what is written beside the log.
    world.takes_writes()?;
    let World {
        server,
        token: admin,
    } = world;
    drop(server);
    let world = World {
        token: admin,
        server: start(10)?,
    };
    let is_taken = poll_until(PATIENCE, || {
        let status = send(&world).ok()?;
        (status == 201).then_some(())
    });
    is_taken.with_context(|| world.server.server_log())?;
    Ok(Ok(()))
}

/// What the kernel says of a file that is too long for its process is an I/O error for SQLite.
fn writes_that_fail_for_a_while() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // A signal that is ignored stays ignored. What is logged goes through a pipe, which no limit
    // bounds.
    let script = dir.path().join("dovecast");
    let text = format!("#!/bin/bash\ntrap '' XFSZ\nexec '{BINARY}' \"$@\" 2> >(exec cat >&2)\n");
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    let world = World::start(Server::builder().binary(script))?;
    world.takes_writes()?;
    for _ in 0..2 {
        let limit = || limit_files(world.server.pid(), Some(1));
        limit()?;
        world.refuses_writes(limit)?;
        world.becomes((503, "the store takes no writes\n"))?;
        limit_files(world.server.pid(), None)?;
        world.becomes((200, "ok\n"))?;
        world.takes_writes()?;
    }
    Ok(())
}
