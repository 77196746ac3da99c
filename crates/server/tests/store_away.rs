//! `dovecast serve` is started while its PostgreSQL is not there: it waits for a while, and says
//! what is wrong. And one whose PostgreSQL goes away.

use std::io::Write;
use std::process::Output;
use std::thread;
use std::time::Duration;

use dovecast_testkit::postgres::{PASSWORD, Postgres};
use dovecast_testkit::process;
use dovecast_testkit::server::{Builder, Server};

const PATIENCE: Duration = dovecast_testkit::PATIENCE;

/// A PostgreSQL and the URL of a database; `None`, with a word, where this machine has none.
fn postgres() -> Option<(Postgres, String)> {
    match Postgres::start().expect("a PostgreSQL") {
        Ok(postgres) => {
            let url = postgres.database().expect("a database");
            Some((postgres, url))
        }
        Err(unavailable) => {
            // Past the capture of the harness.
            writeln!(std::io::stdout(), "\n*** SKIPPED: {unavailable}\n").expect("standard output");
            None
        }
    }
}

fn dispatcher(url: &str, timeout_seconds: u32) -> Builder {
    Server::builder()
        .binary(env!("CARGO_BIN_EXE_dovecast"))
        .roles(&["dispatch"])
        .config(&format!(
            "[store]\nurl = '{url}'\ntimeout_seconds = {timeout_seconds}\n"
        ))
}

/// Fails unless the server has failed, with all of these texts and without a password.
fn check(ended: &Output, says: &[&str]) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    for what in says {
        assert!(said.contains(what), "no `{what}` in: {said}");
    }
    assert!(!said.contains(PASSWORD), "{said}");
}

#[test]
fn where_nobody_listens_it_ends_and_names_place_and_reason() {
    let Some((mut postgres, url)) = postgres() else {
        return;
    };
    postgres.stop().expect("stopped");
    let (_, place) = url.split_once('@').expect("a password");
    let place = format!("cannot use the database postgres://{place}");
    let server = dispatcher(&url, 1).prepare().expect("a server");
    let ended = server.start_and_end().expect("it ends");
    check(&ended, &["[store] url", &place, "Connection refused"]);
}

#[test]
fn where_nobody_answers_it_ends_and_names_place_and_reason() {
    let Some((postgres, url)) = postgres() else {
        return;
    };
    let link = postgres.proxy().expect("a link");
    link.cut();
    let url = postgres.url_through(&link, &url);
    let (_, place) = url.split_once('@').expect("a password");
    let place = format!("cannot use the database postgres://{place}");
    let server = dispatcher(&url, 1).prepare().expect("a server");
    let ended = server.start_and_end().expect("it ends");
    check(&ended, &[&place, "no answer within 1 s"]);
}

#[test]
fn a_database_that_comes_while_it_waits_is_used() {
    let Some((mut postgres, url)) = postgres() else {
        return;
    };
    postgres.stop().expect("stopped");
    let server = dispatcher(&url, 60).prepare().expect("a server");
    let log = server.log_path().to_owned();
    let starting = thread::spawn(move || {
        let mut server = server;
        server.start_again().map(|()| server)
    });
    let begun = process::poll_until(PATIENCE, || {
        std::fs::read_to_string(&log)
            .is_ok_and(|log| log.contains("dovecast starts"))
            .then_some(())
    });
    begun.expect("it has begun");
    // It outlives only the thread that has started it.
    postgres.start_again().expect("started");
    let server = starting.join().expect("no panic").expect("it is ready");
    assert!(server.server_log().contains("the store is open"));
}

#[test]
fn a_server_that_hears_nothing_of_its_database_is_not_ready_until_it_does() {
    let Some((postgres, url)) = postgres() else {
        return;
    };
    let link = postgres.proxy().expect("a link");
    let url = postgres.url_through(&link, &url);
    let server = dispatcher(&url, 5).start().expect("a server");
    let becomes = |expected: (u16, &str)| {
        let found = process::poll_until(PATIENCE, || {
            let (status, text) = server.get("/readyz").ok()?;
            ((status, &*text) == expected).then_some(())
        });
        found.unwrap_or_else(|| panic!("not {expected:?}: {}", server.server_log()));
    };
    becomes((200, "ok\n"));
    for _ in 0..2 {
        link.cut();
        becomes((503, "the store takes no writes\n"));
        // What asks nothing of it is answered.
        assert_eq!(server.get("/healthz").expect("health").0, 200);
        assert_eq!(server.get("/metrics").expect("metrics").0, 200);
        // PostgreSQL is away; the log of records has nothing to do with it.
        let told = [
            "the store cannot be used; what was asked of it is retried",
            " in PostgreSQL: ",
        ];
        let log = server.log_with(&told).expect("it is logged");
        assert!(!log.contains("write to the log"), "{log}");
        link.heal();
        becomes((200, "ok\n"));
    }
    assert!(!server.server_log().contains(PASSWORD));
}
