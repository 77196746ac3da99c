//! What all answers have in common, bodies that are refused, and the description of the API.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::http::Request;
use dovecast_testkit::postgres::PASSWORD;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::setup::{PREFIX, World, bearer, cases};

cases![
    anything_else_is_not_found_with_its_route,
    an_id_that_is_no_text_is_not_found,
    a_body_that_is_no_json_is_a_bad_request,
    a_body_of_another_type_is_refused,
    a_body_that_is_too_long_is_refused,
    the_description_is_served_and_is_the_reviewed_one,
    every_call_of_the_description_is_documented,
    a_page_to_read_the_description_needs_no_other_host,
    no_answer_is_taken_for_something_else_by_a_browser,
    what_the_database_does_not_do_is_an_unexpected_error,
    a_server_is_ready_while_its_store_takes_writes,
    the_prefix_is_configurable,
    without_the_role_there_is_no_api,
    without_the_role_of_a_relay_there_is_no_relay,
    health_and_metrics_stay_beside_the_api,
];

fn anything_else_is_not_found_with_its_route(world: &World) -> Result<()> {
    for (method, path) in [
        ("GET", "/nothing"),
        ("GET", ""),
        ("GET", "/"),
        ("PATCH", "/apps/1"),
        ("GET", "/apps/register/x"),
        ("POST", "/endpoints/1/2/3"),
    ] {
        let said = world.nobody().ask(method, path, None)?;
        said.not_found(&format!("Could not find route {PREFIX}{path}"))?;
    }
    Ok(())
}

fn an_id_that_is_no_text_is_not_found(world: &World) -> Result<()> {
    let (tenant, admin) = (world.account(), world.admin());
    let body = json!({"endpoint": {}, "redeliver": {}});
    for (user, method, path) in [
        (&tenant, "GET", "/apps/%ff"),
        (&tenant, "GET", "/endpoints/%ff"),
        (&tenant, "PUT", "/endpoints/%ff"),
        (&tenant, "DELETE", "/endpoints/%ff"),
        (&tenant, "POST", "/endpoints/a%c3/test"),
        (&tenant, "POST", "/endpoints/%ff/secret"),
        (&tenant, "POST", "/endpoints/%ff/redeliver"),
        (&tenant, "GET", "/endpoints/%ff/filter"),
        (&tenant, "GET", "/endpoints/%ff/attempts"),
        (&tenant, "GET", "/endpoints/%ff/dead_letters"),
        (&tenant, "DELETE", "/endpoints/%ff/dead_letters"),
        (&admin, "DELETE", "/apps/%ff"),
        (&admin, "DELETE", "/tokens/%ff"),
    ] {
        let said = user.ask(method, path, Some(&body.to_string()))?;
        said.not_found(&format!("Could not find route {PREFIX}{path}"))?;
    }
    world.nobody().get("/endpoints/%ff")?.with(401)?;
    Ok(())
}

fn a_body_that_is_no_json_is_a_bad_request(world: &World) -> Result<()> {
    for body in ["", "{", "endpoint=x", "{\"endpoint\": {}} x", "\u{0}"] {
        let said = world.account().ask("POST", "/endpoints", Some(body))?;
        said.refused(
            400,
            "Server cannot accept given parameters: the body is not JSON",
            "",
        )?;
    }
    let deep = "[".repeat(100_000);
    let said = world.account().ask("POST", "/endpoints", Some(&deep))?;
    said.refused(400, "the body is not JSON", "")
}

fn a_body_of_another_type_is_refused(world: &World) -> Result<()> {
    for media_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/yaml",
        "",
    ] {
        let user = world.account().header("Content-Type", media_type);
        let said = user.ask("POST", "/endpoints", Some("{}"))?;
        said.refused(415, "expected application/vnd.api+json", "")?;
    }
    let user = world.account().header("Content-Type", "application/json");
    let body = json!({"endpoint": {"name": "a", "url": "http://example.org/"}});
    user.post("/endpoints", &body)?.with(201)?;
    Ok(())
}

fn a_body_that_is_too_long_is_refused(world: &World) -> Result<()> {
    let fits = format!("{{\"x\": \"{}\"}}", "x".repeat(1024 * 1024 - 20));
    let said = world.account().ask("POST", "/endpoints", Some(&fits))?;
    said.refused(400, "`endpoint` is missing", "")?;
    let long = format!("{{\"x\": \"{}\"}}", "x".repeat(1024 * 1024));
    let said = world.account().ask("POST", "/endpoints", Some(&long))?;
    said.refused(413, "1048576 bytes", "")
}

fn the_description_is_served_and_is_the_reviewed_one(world: &World) -> Result<()> {
    let said = world.nobody().get("/v1/openapi.json")?;
    ensure!(said.answer.status == 200);
    ensure!(said.answer.header("content-type") == Some("application/json"));
    let version = said.json["openapi"].as_str().context("no version")?;
    ensure!(version.starts_with("3."), "{version}");
    let reviewed: Value = serde_json::from_str(include_str!("../../../../docs/openapi.json"))?;
    ensure!(said.json == reviewed);
    Ok(())
}

fn every_call_of_the_description_is_documented(world: &World) -> Result<()> {
    let document = include_str!("../../../../docs/rest.md");
    let said = world.nobody().get("/v1/openapi.json")?;
    let paths = said.json["paths"].as_object().context("no paths")?;
    for (path, calls) in paths {
        for method in calls.as_object().context("no calls")?.keys() {
            let call = format!("`{} {path}`", method.to_uppercase());
            ensure!(document.contains(&call), "{call}");
        }
    }
    Ok(())
}

fn a_page_to_read_the_description_needs_no_other_host(world: &World) -> Result<()> {
    let said = world.nobody().get("/api-docs")?;
    let body = &said.answer.body;
    ensure!(said.answer.status == 200 && body.starts_with("<!DOCTYPE html>"));
    ensure!(body.contains("\"/api/hooks/v1/openapi.json\""), "{body}");
    ensure!(!body.contains("://") && !body.contains("src="), "{body}");
    let policy = said.answer.header("content-security-policy");
    let policy = policy.context("the page has no policy")?;
    ensure!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    // Of what the page holds: without it a browser would show nothing.
    for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
        let inner = body.split_once(&format!("<{element}>"));
        let inner = inner.and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
        let (inner, _) = inner.with_context(|| format!("no <{element}>"))?;
        let expected = format!(
            "{directive} 'sha256-{}'",
            STANDARD.encode(Sha256::digest(inner))
        );
        ensure!(policy.contains(&expected), "{policy}");
    }
    Ok(())
}

fn no_answer_is_taken_for_something_else_by_a_browser(world: &World) -> Result<()> {
    for path in ["/apps", "/v1/openapi.json", "/api-docs", "/no/such/thing"] {
        let said = world.nobody().get(path)?;
        let header = |name: &str| said.answer.header(name);
        ensure!(
            header("x-content-type-options") == Some("nosniff"),
            "{path}: {said:?}"
        );
        let policy = header("content-security-policy");
        ensure!(
            policy.is_some_and(|policy| policy.contains("frame-ancestors 'none'")),
            "{path}: {said:?}"
        );
    }
    Ok(())
}

fn what_the_database_does_not_do_is_an_unexpected_error(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let server = builder.start()?;
    let admin = bearer(&server, &server.admin_token()?);
    admin.get("/apps")?.with(200)?;
    database.execute(&server, "ALTER TABLE level RENAME TO elsewhere")?;
    let said = admin.get("/apps")?;
    ensure!(said.json["errors"][0]["detail"] == "Server encountered an unexpected error");
    ensure!(!said.answer.body.contains("level"), "{said:?}");
    said.refused(500, "Server encountered an unexpected error", "")?;
    // Written by another thread than the one that answers.
    let said = poll_until(dovecast_testkit::PATIENCE, || {
        let log = server.server_log();
        (log.contains("a request has failed") && log.contains("level")).then_some(log)
    });
    let log = said.with_context(|| server.server_log())?;
    ensure!(!log.contains(PASSWORD), "{log}");
    Ok(())
}

fn a_server_is_ready_while_its_store_takes_writes(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let server = builder.start()?;
    let becomes = |expected: (u16, &str)| -> Result<()> {
        let mut last = None;
        let found = poll_until(dovecast_testkit::PATIENCE, || {
            last = server.get("/readyz").ok();
            let (status, text) = last.as_ref()?;
            ((*status, &**text) == expected).then_some(())
        });
        found.with_context(|| format!("it is {last:?}, not {expected:?}"))
    };
    becomes((200, "ok\n"))?;
    database.execute(&server, "ALTER TABLE feed RENAME TO elsewhere")?;
    becomes((503, "the store takes no writes\n"))?;
    // It says so once, and lives.
    for _ in 0..10 {
        ensure!(server.get("/healthz")?.0 == 200);
        server.get("/readyz")?;
    }
    database.execute(&server, "ALTER TABLE elsewhere RENAME TO feed")?;
    becomes((200, "ok\n"))?;
    // Lines are written by a thread of their own: they may come after the answer.
    let line = "the store takes writes again";
    let is_logged = || server.server_log().contains(line).then_some(());
    poll_until(dovecast_testkit::PATIENCE, is_logged).with_context(|| server.server_log())?;
    let log = server.server_log();
    for line in ["the store takes no writes", line] {
        ensure!(log.matches(line).count() == 1, "{log}");
    }
    ensure!(!log.contains(PASSWORD), "{log}");
    Ok(())
}

fn the_prefix_is_configurable(world: &World) -> Result<()> {
    let server = world
        .fresh()?
        .0
        .http("api_prefix = '/r/webhooks'")
        .start()?;
    let (status, _) = server.get("/r/webhooks/apps")?;
    ensure!(status == 401);
    let (status, body) = server.get("/r/webhooks/v1/openapi.json")?;
    let json: Value = serde_json::from_str(&body)?;
    ensure!(status == 200 && json["servers"][0]["url"] == "/r/webhooks");
    ensure!(server.get("/api/hooks/apps")?.0 == 404);
    let (status, body) = server.get("/r/webhooks/x")?;
    ensure!(status == 404 && body.contains("Could not find route /r/webhooks/x"));
    Ok(())
}

/// A server of one role only.
fn with_role(role: &str) -> Result<Server> {
    let mut server = crate::setup::builder().prepare()?;
    let file = server.config_file().to_owned();
    let config = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("roles = ['{role}']\n{config}"))?;
    server.start_again()?;
    Ok(server)
}

fn without_the_role_there_is_no_api(_: &World) -> Result<()> {
    let server = with_role("relay")?;
    ensure!(server.get("/api/hooks/apps")?.0 == 404);
    ensure!(server.get("/readyz")?.0 == 200);
    ensure!(!server.data_dir().join("state.db").exists());
    Ok(())
}

fn without_the_role_of_a_relay_there_is_no_relay(_: &World) -> Result<()> {
    let mut server = with_role("dispatch")?;
    ensure!(server.get("/api/hooks/apps")?.0 == 401);
    ensure!(!server.relay_socket().exists() && !server.spill_dir().exists());
    let (status, metrics) = server.get("/metrics")?;
    ensure!(
        status == 200 && !metrics.contains("dovecast_relay_"),
        "{metrics}"
    );
    ensure!(server.stop()?.success(), "{}", server.server_log());
    Ok(())
}

fn health_and_metrics_stay_beside_the_api(world: &World) -> Result<()> {
    let (api, monitor) = (world.server.address()?, world.server.monitor_address()?);
    for (path, address, expected) in [
        ("/healthz", api, 200),
        ("/readyz", api, 200),
        // Names of topics and groups are nothing for those who reach the API.
        ("/metrics", api, 404),
        ("/healthz", monitor, 200),
        ("/readyz", monitor, 200),
        ("/metrics", monitor, 200),
        ("/api/hooks/apps", monitor, 404),
    ] {
        let status = Request::get(path).send(address)?.status;
        ensure!(status == expected, "{path} at {address}: {status}");
    }
    Ok(())
}
