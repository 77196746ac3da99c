//! Secrets that are sealed in the store, as operators see them: keys are listed and replaced, and a
//! server without its key does not start.

use std::fs;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::{Builder, Server};
use serde_json::{Value, json};

use crate::setup::{Database, World, bearer, builder, cases, delivering, text};

cases![
    a_key_is_replaced_while_endpoints_get_what_is_for_them,
    a_server_without_its_key_does_not_start_and_names_it,
    a_key_that_is_somebody_elses_is_not_replaced_without_another,
    an_endpoint_without_its_key_waits_and_is_not_punished,
    what_an_endpoint_had_is_gone_with_it,
];

/// With a file of keys of its own, which it makes.
fn with_file(world: &World) -> Result<Builder> {
    Ok(with_file_and_database(world)?.0)
}

pub(crate) fn with_file_and_database(world: &World) -> Result<(Builder, Database)> {
    let (_, database) = world.fresh()?;
    let builder = match &database {
        Database::Sqlite => builder(),
        Database::Postgres(_, url) => builder().config(&format!("[store]\nurl = '{url}'")),
    };
    Ok((builder, database))
}

fn keys(server: &Server) -> Result<Vec<Value>> {
    let printed = server.run(["secrets", "list", "--json"])?;
    Ok(serde_json::from_str(&printed)?)
}

/// An endpoint of the account 1 with secrets of each kind; the token of the account, and its id.
fn endpoint(server: &Server, sink: &HookEndpoint) -> Result<(String, String)> {
    let admin = bearer(server, &server.admin_token()?);
    let new = json!({"token": {"name": "t", "scope": "account", "account_number": "1"}});
    let token = text(&admin.post("/tokens", &new)?.with(201)?.json["meta"]["token"])?;
    let url = sink.url();
    let authorization = json!({"type": "basic", "username": "u", "password": "p"});
    let data = json!({"headers": {"X-Key": "geheim"}, "authorization": authorization});
    // Of this policy one failure that lasts would switch it off.
    let fields = json!({"name": "a", "url": url, "active": true, "filter": {}, "data": data,
        "retry_policy": "hooks"});
    let id = bearer(server, &token).endpoint(&fields)?;
    Ok((token, id))
}

/// The next delivery carries all of it.
fn arrives(server: &Server, sink: &HookEndpoint, count: usize) -> Result<()> {
    server.run(["send", "-u", "1"])?;
    let hooks = sink.wait_for(count, dovecast_testkit::PATIENCE)?;
    let hook = hooks.last().context("nothing has come")?;
    ensure!(
        hook.header("authorization") == Some("Basic dTpw"),
        "{hook:?}"
    );
    ensure!(hook.header("x-key") == Some("geheim"), "{hook:?}");
    ensure!(hook.header("webhook-signature").is_some(), "{hook:?}");
    Ok(())
}

fn a_key_is_replaced_while_endpoints_get_what_is_for_them(world: &World) -> Result<()> {
    let mut server = delivering(with_file(world)?).start()?;
    let sink = HookEndpoint::start()?;
    endpoint(&server, &sink)?;
    arrives(&server, &sink, 1)?;
    let file = server.data_dir().join("secrets.key");
    let before = fs::read_to_string(&file)?;
    let listed = keys(&server)?;
    let first = text(&listed[0]["id"])?;
    let expected =
        json!([{"id": first, "current": true, "here": true, "retired_ms": null, "rows": 1}]);
    ensure!(json!(listed) == expected, "{listed:?}");
    ensure!(before.starts_with(&first), "{before}");

    let said = server.run(["secrets", "rotate"])?;
    ensure!(
        said.starts_with("secrets that are sealed anew: 1, with the key "),
        "{said}"
    );
    let retired = "retired, and kept in its place until the next rotation";
    ensure!(said.contains(&format!("{retired}: {first}\n")), "{said}");
    let after = fs::read_to_string(&file)?;
    ensure!(
        after.starts_with(&before) && after.lines().count() == 2,
        "{after}"
    );
    let table = server.run(["secrets", "list"])?;
    let words: Vec<_> = table.split_whitespace().collect();
    ensure!(words[4..8] == [&*first, "retired", "yes", "0"], "{table}");
    ensure!(words[9..] == ["current", "yes", "1"], "{table}");
    arrives(&server, &sink, 2)?;
    server.stop()?;
    server.start_again()?;
    arrives(&server, &sink, 3)?;
    let said = server.run(["secrets", "rotate"])?;
    let taken_out = format!("retired before, and taken out of their place: {first}\n");
    ensure!(said.contains(&taken_out), "{said}");
    ensure!(!fs::read_to_string(&file)?.contains(&first));
    for line in after.lines() {
        let secret = line.split(':').nth(1).context("a key")?;
        ensure!(!server.server_log().contains(secret), "a key is in the log");
    }
    Ok(())
}

fn a_server_without_its_key_does_not_start_and_names_it(world: &World) -> Result<()> {
    let mut server = with_file(world)?.start()?;
    let id = text(&keys(&server)?[0]["id"])?;
    server.stop()?;
    let file = server.data_dir().join("secrets.key");
    let aside = server.data_dir().join("aside");
    fs::rename(&file, &aside)?;
    let ended = server.start_and_end()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(ended.status.code() == Some(1), "{said}");
    let named = format!(
        "sealed with the key `{id}`, which is not in `{}`",
        file.display()
    );
    ensure!(said.contains(&named), "{said}");
    ensure!(said.contains("([secrets] keys)"), "{said}");
    ensure!(!file.exists(), "another key was made");
    fs::rename(&aside, &file)?;
    server.start_again()?;
    ensure!(text(&keys(&server)?[0]["id"])? == id);
    Ok(())
}

fn a_key_that_is_somebody_elses_is_not_replaced_without_another(world: &World) -> Result<()> {
    let (builder, _) = world.fresh()?;
    // Again where a PostgreSQL has it already: the variable is the same.
    let server = if world.is_postgres() {
        builder.start()?
    } else {
        builder.shared_keys().start()?
    };
    ensure!(!server.data_dir().join("secrets.key").exists());
    let refused = server.command(["secrets", "rotate"]).output()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1), "{said}");
    let named = "there is no new key in the environment variable `DOVECAST_TEST_KEYS`";
    ensure!(said.contains(named), "{said}");
    ensure!(keys(&server)?.len() == 1);
    Ok(())
}

/// A key is taken out of its place, with a row that needs it: nothing is tried, nothing fails, and
/// all arrives when the key is back, without a restart.
fn an_endpoint_without_its_key_waits_and_is_not_punished(world: &World) -> Result<()> {
    let (builder, database) = with_file_and_database(world)?;
    let mut server = delivering(builder).start()?;
    let sink = HookEndpoint::start()?;
    let (token, made) = endpoint(&server, &sink)?;
    arrives(&server, &sink, 1)?;
    let file = server.data_dir().join("secrets.key");
    let first = fs::read_to_string(&file)?;
    database.execute(&server, "CREATE TABLE kept AS SELECT sealed FROM endpoint")?;
    server.run(["secrets", "rotate"])?;
    let both = fs::read_to_string(&file)?;
    server.stop()?;
    database.execute(
        &server,
        "UPDATE endpoint SET sealed = (SELECT sealed FROM kept)",
    )?;
    fs::write(&file, both.replace(&first, ""))?;
    server.start_again()?;

    let id = first.split(':').next().context("an id")?.to_owned();
    ensure!(
        server
            .server_log()
            .contains("endpoints are paused on this node")
    );
    server.run(["send", "-u", "1"])?;
    let refused = bearer(&server, &token).post(&format!("/endpoints/{made}/test"), &json!({}))?;
    let refused = refused.with(502)?.json.to_string();
    ensure!(
        refused.contains("cannot be read at the moment"),
        "{refused}"
    );
    ensure!(
        !refused.contains(&id) && !refused.contains("secrets.key"),
        "{refused}"
    );
    ensure!(sink.count() == 1);
    fs::write(&file, &both)?;
    arrives(&server, &sink, 3)?;
    let shown = bearer(&server, &token)
        .get(&format!("/endpoints/{made}"))?
        .with(200)?;
    let attributes = &shown.json["data"]["attributes"];
    ensure!(attributes["active"] == true, "{attributes}");
    ensure!(
        attributes["last_delivery_status"] != "failure",
        "{attributes}"
    );
    let dead = database.count(&server, "SELECT COUNT(*) FROM dead_letter")?;
    ensure!(dead == 0);
    Ok(())
}

/// Waits until a table has so many rows.
fn holds(server: &Server, database: &Database, table: &str, rows: i64) -> Result<()> {
    let statement = format!("SELECT COUNT(*) FROM {table}");
    let has = || database.count(server, &statement).ok();
    poll_until(dovecast_testkit::PATIENCE, || {
        (has()? == rows).then_some(())
    })
    .with_context(|| format!("{:?} rows of {table}, not {rows}", has()))
}

/// Name, URL and secrets are not in the bytes that the row has left in the files of the database.
/// Its dead letters and attempts go while the server runs.
fn what_an_endpoint_had_is_gone_with_it(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let mut server = delivering(builder).start()?;
    let refusing = HookEndpoint::start()?;
    refusing.answer(404);
    let token = server.account_token("1")?;
    let user = bearer(&server, &token);
    let endpoint = |name: &str, more: &Value| {
        let mark = |what: &str| format!("mark-{name}-{what}");
        let data = json!({"headers": {"X-Key": mark("header")},
            "authorization": {"type": "basic", "username": "u", "password": mark("password")}});
        let url = format!("{}/{}", refusing.url(), mark("url"));
        let mut fields = more.clone();
        fields["name"] = mark("name").into();
        fields["url"] = url.into();
        fields["data"] = data;
        user.endpoint(&fields)
    };
    let gone = endpoint("gone", &json!({"filter": {}, "retry_delays": []}))?;
    endpoint("stays", &json!({}))?;
    server.run(["send", "-u", "1", "-m", "mark-gone-message"])?;
    let letters = format!("/endpoints/{gone}/dead_letters");
    let letter = poll_until(dovecast_testkit::PATIENCE, || {
        let shown = user.get(&letters).ok()?;
        shown.json["data"].as_array()?.first().cloned()
    });
    letter.context("no dead letter")?;
    let tables = ["dead_letter", "dead_body", "attempts"];
    for table in tables {
        holds(&server, &database, table, 1)?;
    }
    user.delete(&format!("/endpoints/{gone}"))?.with(204)?;
    for table in tables {
        holds(&server, &database, table, 0)?;
    }
    server.stop()?;
    let left = database.count(&server, "SELECT COUNT(*) FROM endpoint")?;
    ensure!(left == 1, "{left} endpoints are left");
    if world.is_postgres() {
        return Ok(());
    }
    let mut is_found = false;
    for entry in fs::read_dir(server.data_dir())? {
        let path = entry?.path();
        if path.is_file() {
            let bytes = fs::read(&path)?;
            let has = |mark: &str| bytes.windows(mark.len()).any(|at| at == mark.as_bytes());
            is_found |= has("mark-stays-name");
            for mark in ["name", "url", "header", "password", "message"] {
                let mark = format!("mark-gone-{mark}");
                ensure!(!has(&mark), "{mark} is in {}", path.display());
            }
        }
    }
    ensure!(is_found, "what stays is in no file: nothing was looked at");
    Ok(())
}
