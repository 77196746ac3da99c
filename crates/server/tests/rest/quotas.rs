//! What one account may take of what all share: it is told its limit and when to come again, and
//! others notice nothing.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::setup::{Said, User, World, bearer, cases, delivering, text};
use crate::sources::message;

cases![
    an_account_that_is_sent_too_much_is_refused_and_others_are_not,
    a_token_that_sends_too_much_for_very_many_accounts_is_refused_and_others_are_not,
    of_an_array_what_is_too_much_is_refused_by_itself,
    an_endpoint_is_tested_once_at_a_time_and_an_account_has_a_few_tests,
    an_account_tests_its_endpoints_so_often_and_no_oftener,
    endpoints_of_an_account_share_the_connections_it_may_have,
    endpoints_of_an_account_share_the_attempts_it_may_have,
];

/// What a party may spend at once, in seconds of its rate.
const BURST: usize = 10;

fn account<'a>(server: &'a Server, number: &str) -> Result<User<'a>> {
    let fields = json!({"name": "t", "scope": "account", "account_number": number});
    let admin = bearer(server, &server.admin_token()?);
    let made = admin
        .post("/tokens", &json!({"token": fields}))?
        .with(201)?;
    Ok(bearer(server, &text(&made.json["meta"]["token"])?))
}

/// Fails unless it says when to come again, in seconds.
fn comes_again(said: &Said) -> Result<()> {
    let after = said
        .answer
        .header("retry-after")
        .context("no Retry-After")?;
    let after: u64 = after.parse()?;
    ensure!((1..=3600).contains(&after), "{after} s");
    Ok(())
}

fn refused_count(server: &Server, of: &str) -> Result<f64> {
    server.metric(&format!("dovecast_quota_refused_total{{of=\"{of}\"}}"))
}

fn an_account_that_is_sent_too_much_is_refused_and_others_are_not(world: &World) -> Result<()> {
    for (quota, bytes, told) in [
        (
            "messages_per_second = 1\nmessages_kb_per_second = 0",
            1,
            "1 notifications a second",
        ),
        (
            "messages_per_second = 0\nmessages_kb_per_second = 1",
            100_000,
            "1 KiB a second",
        ),
    ] {
        let server = world
            .fresh()?
            .0
            .config(&format!("[quota]\n{quota}"))
            .start()?;
        let admin = bearer(&server, &server.admin_token()?);
        let large = |account: &str| {
            let mut large = message(account);
            large["message"] = json!("x".repeat(bytes));
            large
        };
        let own = account(&server, "7")?;
        // Whoever sends for it.
        for sender in [&own, &admin] {
            let refused = poll_until(PATIENCE, || {
                let said = sender.post("/messages", &large("7"));
                said.map(|said| (said.answer.status != 201).then_some(said))
                    .transpose()
            });
            let refused = refused.context("nothing is refused")??.with(429)?;
            comes_again(&refused)?;
            refused.refused(429, told, "")?;
        }
        admin.post("/messages", &large("8"))?.with(201)?;
        ensure!(refused_count(&server, "message")? >= 2.0);
        let said = "a notification is refused: more is sent for its account than [quota] allows";
        server.log_with(&[said])?;
    }
    Ok(())
}

fn a_token_that_sends_too_much_for_very_many_accounts_is_refused_and_others_are_not(
    world: &World,
) -> Result<()> {
    let quota = "[quota]\ntoken_messages_per_second = 1";
    let server = world.fresh()?.0.config(quota).start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let app = message("7")["application"].clone();
    let fields = json!({"name": "s", "scope": "send", "applications": [app]});
    let token = || {
        let made = admin.post("/tokens", &json!({"token": fields.clone()}))?;
        let token = text(&made.with(201)?.json["meta"]["token"])?;
        Ok::<_, anyhow::Error>(bearer(&server, &token))
    };
    let (greedy, other) = (token()?, token()?);
    let mut account = 0;
    let refused = poll_until(PATIENCE, || {
        account += 1;
        let said = greedy.post("/messages", &message(&account.to_string()));
        said.map(|said| (said.answer.status != 201).then_some(said))
            .transpose()
    });
    let refused = refused.context("nothing is refused")??.with(429)?;
    comes_again(&refused)?;
    refused.refused(
        429,
        "This token sends too much: 1 notifications and 20480 KiB a second",
        "",
    )?;
    other.post("/messages", &message("7"))?.with(201)?;
    admin.post("/messages", &message("8"))?.with(201)?;
    ensure!(refused_count(&server, "token_message")? >= 1.0);
    server.log_with(&["a notification is refused: its token sends more than [quota] allows"])?;
    Ok(())
}

fn of_an_array_what_is_too_much_is_refused_by_itself(world: &World) -> Result<()> {
    let quota = "[quota]\nmessages_per_second = 1";
    let server = world.fresh()?.0.config(quota).start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let account = |place: usize| if place.is_multiple_of(2) { "7" } else { "8" };
    let array: Vec<Value> = (0..2 * BURST + 10)
        .map(|place| message(account(place)))
        .collect();
    let said = admin.post("/messages", &json!(array))?.with(207)?;
    comes_again(&said)?;
    let results = said.json["results"].as_array().context("no results")?;
    for (place, result) in results.iter().enumerate() {
        // The eleventh of each is the last.
        let expected = if place < 2 * (BURST + 1) {
            "201"
        } else {
            "429"
        };
        ensure!(result["status"] == expected, "{place}: {result}");
        if expected == "429" {
            let pointer = &result["errors"][0]["source"]["pointer"];
            ensure!(*pointer == format!("/{place}"), "{result}");
        }
    }
    let expected = json!({"accepted": 2 * (BURST + 1), "refused": 8});
    ensure!(said.json["meta"] == expected, "{}", said.json["meta"]);
    ensure!(server.values("hooks.outbox")?.len() == 2 * (BURST + 1));
    Ok(())
}

fn an_endpoint_is_tested_once_at_a_time_and_an_account_has_a_few_tests(
    world: &World,
) -> Result<()> {
    let server = delivering(world.fresh()?.0).start()?;
    // Nobody answers there until it is closed.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let url = format!("http://{}/", silent.local_addr()?);
    let owner = account(&server, "7")?;
    let made = (0..5).map(|number| {
        owner.endpoint(&json!({"name": format!("e{number}"), "url": url, "timeout_seconds": 45}))
    });
    let ids = made.collect::<Result<Vec<_>>>()?;
    let test = |id: &str| owner.post(&format!("/endpoints/{id}/test"), &json!({}));
    thread::scope(|scope| {
        let hanging: Vec<_> = ids[..4].iter().map(|id| scope.spawn(|| test(id))).collect();
        let connected = (0..4)
            .map(|_| silent.accept())
            .collect::<Result<Vec<_>, _>>();
        let checked = (|| {
            let twice = test(&ids[0])?.with(409)?;
            comes_again(&twice)?;
            twice.refused(409, "A test of this endpoint is under way", "")?;
            let fifth = test(&ids[4])?.with(429)?;
            comes_again(&fifth)?;
            fifth.refused(
                429,
                "4 tests of endpoints of this account are under way",
                "",
            )?;
            ensure!((refused_count(&server, "test")? - 2.0).abs() < f64::EPSILON);
            // Another account has its own.
            let other = account(&server, "8")?;
            let sink = HookEndpoint::start()?;
            let id = other.endpoint(&json!({"name": "e", "url": sink.url()}))?;
            other
                .post(&format!("/endpoints/{id}/test"), &json!({}))?
                .with(204)?;
            Ok(())
        })();
        drop((connected?, silent));
        for ended in hanging {
            let said = ended.join().ok().context("a test has panicked")??;
            said.with(502)?;
        }
        checked
    })?;
    // The places are free again; nobody listens there any more.
    test(&ids[0])?.with(502)?;
    Ok(())
}

fn endpoints_of_an_account_share_the_connections_it_may_have(world: &World) -> Result<()> {
    // A quarter of these is one.
    let bound = "[dispatch]\nallowed_networks = ['127.0.0.0/8']\nmax_connections = 4";
    let server = world.fresh()?.0.config(bound).start()?;
    let owner = account(&server, "7")?;
    let sink = HookEndpoint::start()?;
    for number in 0..5 {
        let name = format!("e{number}");
        owner.endpoint(&json!({"name": name, "url": sink.url(), "active": true, "filter": {}}))?;
    }
    for _ in 0..4 {
        owner.post("/messages", &message("7"))?.with(201)?;
    }
    let mut most: f64 = 0.0;
    let arrived = poll_until(PATIENCE, || {
        most = most.max(
            server
                .metric("dovecast_dispatch_connections")
                .unwrap_or_default(),
        );
        (sink.count() >= 20).then_some(())
    });
    arrived.with_context(|| format!("{} have come", sink.count()))?;
    ensure!(most <= 1.0, "{most} connections at a time");
    let limit = server.metric("dovecast_dispatch_connections_limit")?;
    ensure!((limit - 4.0).abs() < f64::EPSILON, "{limit}");
    server.metric_is("dovecast_dispatch_connection_waits_total", |waits| {
        waits > 0.0
    })?;
    Ok(())
}

/// A test says whether a port is open: many of them are a scan from our address.
fn an_account_tests_its_endpoints_so_often_and_no_oftener(world: &World) -> Result<()> {
    let builder = delivering(world.fresh()?.0).config("[quota]\ntests_per_minute = 2");
    let server = builder.start()?;
    let sink = HookEndpoint::start()?;
    let (owner, other) = (account(&server, "7")?, account(&server, "8")?);
    let endpoint = |user: &User<'_>, name: &str| {
        let id = user.endpoint(&json!({"name": name, "url": sink.url()}))?;
        anyhow::Ok(format!("/endpoints/{id}/test"))
    };
    let (first, second) = (endpoint(&owner, "a")?, endpoint(&owner, "b")?);
    let mut tested = 0;
    let refused = poll_until(PATIENCE, || {
        tested += 1;
        let test = if tested % 2 == 0 { &first } else { &second };
        let said = owner.post(test, &json!({}));
        said.map(|said| (said.answer.status != 204).then_some(said))
            .transpose()
    });
    let refused = refused.context("nothing is refused")??.with(429)?;
    comes_again(&refused)?;
    ensure!(tested > 3, "the {tested}. is refused");
    refused.refused(429, "2 tests a minute is the limit", "")?;
    ensure!(refused_count(&server, "test")? >= 1.0);
    // What is refused is not sent.
    ensure!(sink.count() == tested - 1, "{} of {tested}", sink.count());
    let test = endpoint(&other, "a")?;
    other.post(&test, &json!({}))?.with(204)?;
    Ok(())
}

/// One message to many endpoints of one URL is as many requests to it.
fn endpoints_of_an_account_share_the_attempts_it_may_have(world: &World) -> Result<()> {
    let quota = "[quota]\nattempts_per_second = 20\nburst_seconds = 1";
    let server = delivering(world.fresh()?.0).config(quota).start()?;
    let (owner, other) = (account(&server, "7")?, account(&server, "8")?);
    let (sink, of_other) = (HookEndpoint::start()?, HookEndpoint::start()?);
    for number in 0..5 {
        let name = format!("e{number}");
        owner.endpoint(&json!({"name": name, "url": sink.url(), "active": true, "filter": {}}))?;
    }
    other.endpoint(&json!({"name": "e", "url": of_other.url(), "active": true, "filter": {}}))?;
    for _ in 0..20 {
        owner.post("/messages", &message("7"))?.with(201)?;
    }
    server.metric_is("dovecast_dispatch_account_waits_total", |waits| waits > 0.0)?;
    other.post("/messages", &message("8"))?.with(201)?;
    of_other.wait_for(1, PATIENCE)?;
    // What waits is delivered later, all of it and once.
    sink.wait_for(100, PATIENCE)?;
    server.log_with(&[
        "deliveries of an account wait: it has more of them than [quota] allows",
        "account.number=\"7\"",
    ])?;
    Ok(())
}
