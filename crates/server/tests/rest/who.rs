//! Who may act as whom: tokens that belong to applications, tokens that only send; and who it was,
//! in the log.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::registration::shape;
use crate::setup::{App, Said, User, World, bearer, cases, identity, registration, text, unique};

cases![
    a_registration_token_registers_its_own_applications_only,
    an_admin_gives_an_application_to_another_token,
    names_that_dovecast_uses_itself_are_no_tokens,
    a_registration_that_is_repaired_repairs_the_filters_of_others,
    what_a_registration_changes_of_accounts_only_an_admin_learns,
    a_token_that_sends_does_nothing_else,
    the_log_says_who_it_was,
];

/// A new token: itself, and its id.
pub(crate) fn token(admin: &User<'_>, fields: Value) -> Result<(String, String)> {
    let mut fields = fields;
    fields["name"] = json!(unique("token"));
    let made = admin
        .post("/tokens", &json!({"token": fields}))?
        .with(201)?;
    let id = text(&made.json["data"]["id"])?;
    Ok((text(&made.json["meta"]["token"])?, id))
}

fn registrar(world: &World) -> Result<(User<'_>, String)> {
    let (token, id) = token(&world.admin(), json!({"scope": "registration"}))?;
    Ok((bearer(&world.server, &token), id))
}

fn register(user: &User<'_>, name: &str) -> Result<Said> {
    user.post("/apps/register", &registration(name))
}

fn a_registration_token_registers_its_own_applications_only(world: &World) -> Result<()> {
    let ((a, id), (b, _)) = (registrar(world)?, registrar(world)?);
    let name = unique("app");
    // What is only tried is nobody's.
    b.post("/apps/register?dry_run=true", &registration(&name))?
        .with(200)?;
    let app = App::of(&register(&a, &name)?.with(200)?)?;
    let own = world.app()?;
    for user in [&b, &a] {
        let refused = register(user, &own.name)?;
        refused.refused(403, "belongs to another token: an admin token", "")?;
    }
    register(&b, &name)?.refused(403, &format!("The application `{name}` belongs"), "")?;
    b.post("/apps/register?dry_run=true", &registration(&name))?
        .refused(403, "belongs to another token", "")?;
    b.delete(&format!("/apps/{}", app.id))?
        .refused(403, "belongs to another token", "")?;
    register(&world.admin(), &name)?.with(200)?;
    let mut more = registration(&name);
    more["event_types"] = json!([{"id": "one", "title": "One"}]);
    let said = a.post("/apps/register", &more)?.with(200)?;
    ensure!(shape(&said) == "one[]");
    let shown = world.admin().get("/tokens")?.with(200)?;
    let tokens = shown.json["data"].as_array().context("no list")?;
    let shown = tokens.iter().find(|token| token["id"] == *id);
    let shown = shown.context("it is not listed")?;
    ensure!(
        shown["attributes"]["applications"] == json!([name]),
        "{shown}"
    );
    a.delete(&format!("/apps/{}", app.id))?.with(204)?;
    register(&b, &name)?.refused(403, "belongs to another token", "")?;
    register(&a, &name)?.with(200)?;
    Ok(())
}

fn an_admin_gives_an_application_to_another_token(world: &World) -> Result<()> {
    let ((a, a_id), (b, b_id)) = (registrar(world)?, registrar(world)?);
    let name = unique("app");
    register(&a, &name)?.with(200)?;
    let change = |id: &str, applications: Value| -> Result<Said> {
        let body = json!({"token": {"applications": applications}});
        world.admin().put(&format!("/tokens/{id}"), &body)
    };
    let said = change(&b_id, json!([name]))?.with(200)?;
    ensure!(said.json["data"]["attributes"]["applications"] == json!([name]));
    register(&b, &name)?.with(200)?;
    register(&a, &name)?.with(200)?;
    change(&a_id, json!([]))?.with(200)?;
    register(&a, &name)?.refused(403, "belongs to another token", "")?;
    b.put(&format!("/tokens/{b_id}"), &json!({"token": {}}))?
        .refused(403, "Only an admin token may", "")?;
    change("7", json!([]))?.not_found("Could not find Token")?;
    // One that is made for an application that is not there yet.
    let later = unique("app");
    let fields = json!({"scope": "registration", "applications": [later]});
    let (secret, _) = token(&world.admin(), fields)?;
    register(&a, &later)?.refused(403, "belongs to another token", "")?;
    register(&bearer(&world.server, &secret), &later)?.with(200)?;
    Ok(())
}

fn names_that_dovecast_uses_itself_are_no_tokens(world: &World) -> Result<()> {
    let (user, id) = registrar(world)?;
    for name in [
        "dovecot",
        "dovecast",
        "BenchmarkApp",
        "Dovecot",
        "dovecot ",
        "\u{a0}DOVECAST",
        "benchmarkapp",
    ] {
        register(&user, name)?.refused(403, "is dovecast's own", "")?;
        let place = "/data/attributes/applications";
        let body = json!({"token": {"applications": [name]}});
        let path = format!("/tokens/{id}");
        world
            .admin()
            .put(&path, &body)?
            .refused(422, "which is dovecast's own", place)?;
        let body = json!({"token": {"name": "x", "scope": "send", "applications": [name]}});
        world
            .admin()
            .post("/tokens", &body)?
            .refused(422, "which is dovecast's own", place)?;
    }
    let apps = world.admin().get("/apps")?.with(200)?;
    for name in ["dovecot", "dovecast"] {
        for like in [name.to_owned(), name.to_uppercase(), format!("{name}\t")] {
            let said = register(&world.admin(), &like)?;
            said.refused(422, "that dovecast registers itself", "/application/name")?;
        }
        let apps = apps.json["data"].as_array().context("no list")?;
        let app = apps.iter().find(|app| app["attributes"]["name"] == name);
        let path = format!("/apps/{}", text(&app.context("it is not there")?["id"])?);
        world.admin().delete(&path)?.refused(409, "and stays", "")?;
        user.delete(&path)?.refused(409, "and stays", "")?;
    }
    Ok(())
}

fn a_registration_that_is_repaired_repairs_the_filters_of_others(world: &World) -> Result<()> {
    let (team, _) = registrar(world)?;
    let app = App::of(&register(&team, &unique("app"))?.with(200)?)?;
    let user = world.account();
    let filter = json!({"app_ids": [app.id], "event_type_ids": [app.plain, app.graded],
        "level_ids": [app.low]});
    let fields = json!({"name": "a", "url": "http://example.org/", "filter": filter});
    let endpoint = user.endpoint(&fields)?;
    let path = format!("/endpoints/{endpoint}/filter");
    let shown = || user.get(&path)?.with(200);
    let mut wrong = registration(&app.name);
    wrong["event_types"] = json!([{"id": "typo", "title": "T"}]);
    let said = team.post("/apps/register", &wrong)?.with(200)?;
    let counts = json!({"changed": 1, "stale": 1, "restored": 0});
    ensure!(said.json["meta"]["filter_counts"] == counts, "{said:?}");
    let stale = shown()?.json["data"]["attributes"]["stale"].clone();
    ensure!(stale == json!(["event_types", "levels"]), "{stale}");
    let said = register(&team, &app.name)?.with(200)?;
    let counts = json!({"changed": 1, "stale": 0, "restored": 1});
    ensure!(said.json["meta"]["filter_counts"] == counts, "{said:?}");
    let again = App::of(&said)?;
    let filter = shown()?.json["data"].clone();
    ensure!(filter["attributes"]["stale"] == json!([]), "{filter}");
    let ids = |set: &str| -> Vec<Value> {
        let list = filter["relationships"][set]["data"].as_array().cloned();
        let list = list.unwrap_or_default();
        list.into_iter().map(|one| one["id"].clone()).collect()
    };
    let expected = [json!(again.plain), json!(again.graded)];
    ensure!(ids("event_types") == expected, "{filter}");
    ensure!(ids("levels") == [json!(again.low)], "{filter}");
    ensure!(ids("apps") == [json!(app.id)], "{filter}");
    Ok(())
}

fn what_a_registration_changes_of_accounts_only_an_admin_learns(world: &World) -> Result<()> {
    let (team, id) = registrar(world)?;
    let app = App::of(&register(&team, &unique("app"))?.with(200)?)?;
    let number = unique("account");
    let user = world.nobody().header("X-RH-IDENTITY", &identity(&number));
    let filter = json!({"event_type_ids": [app.plain]});
    let fields = json!({"name": "a", "url": "http://example.org/", "filter": filter});
    let endpoint = user.endpoint(&fields)?;
    let mut body = registration(&app.name);
    body["event_types"] = json!([]);
    let path = "/apps/register?dry_run=true";
    for (asks, learns) in [(&team, false), (&world.admin(), true)] {
        let said = asks.post(path, &body)?.with(200)?;
        let shown = &said.answer.body;
        ensure!(shown.contains(&endpoint) == learns, "{shown}");
        ensure!(shown.contains(&number) == learns, "{shown}");
        ensure!(said.json["meta"]["filters"].is_array() == learns, "{shown}");
        let counts = json!({"changed": 1, "stale": 1, "restored": 0});
        ensure!(said.json["meta"]["filter_counts"] == counts, "{shown}");
    }
    let told = ["a registration of an application was tried", &app.name];
    let tried = || {
        let log = world.server.server_log();
        let has_it = |line: &&str| told.iter().all(|text| line.contains(text));
        log.lines().filter(has_it).count()
    };
    let both = poll_until(PATIENCE, || (tried() == 2).then_some(()));
    both.context("it is not logged")?;
    world
        .server
        .log_with(&[told[0], told[1], &format!("token {id}")])?;
    Ok(())
}

fn a_token_that_sends_does_nothing_else(world: &World) -> Result<()> {
    let app = world.app()?;
    let fields = json!({"scope": "send", "applications": [app.name]});
    let (secret, _) = token(&world.admin(), fields)?;
    let sender = bearer(&world.server, &secret);
    let message = |application: &str, account: &str| {
        json!({"application": application,
        "event_type": "plain", "level": null, "account_id": account, "message": 1})
    };
    let (one, two) = (unique("account"), unique("account"));
    for account in [&one, &two] {
        sender
            .post("/messages", &message(&app.name, account))?
            .with(201)?;
    }
    sender.post("/messages", &message("other", &one))?.refused(
        403,
        &format!("notifications of `{}` only", app.name),
        "",
    )?;
    let several = json!([message(&app.name, &one), message("dovecot", &one)]);
    let said = sender.post("/messages", &several)?.with(207)?;
    let statuses = [
        &said.json["results"][0]["status"],
        &said.json["results"][1]["status"],
    ];
    ensure!(statuses == ["201", "403"], "{said:?}");
    sender.get("/apps")?.with(200)?;
    for (method, path) in [
        ("GET", "/tokens"),
        ("GET", "/endpoints"),
        ("POST", "/endpoints"),
        ("GET", "/filters"),
        ("POST", "/explain"),
        ("POST", "/apps/register"),
        ("DELETE", "/apps/1"),
    ] {
        let said = sender.ask(method, path, Some("{}"))?;
        ensure!(said.answer.status == 403, "{method} {path}: {said:?}");
    }
    Ok(())
}

fn the_log_says_who_it_was(world: &World) -> Result<()> {
    let number = unique("account");
    let person = world.nobody().header("X-RH-IDENTITY", &identity(&number));
    let (secret, id) = token(&world.admin(), json!({"account_number": number}))?;
    let ci = bearer(&world.server, &secret);
    let fields = json!({"name": "a", "url": "http://example.org/"});
    let by_person = person.endpoint(&fields)?;
    let path = format!("/endpoints/{by_person}");
    ci.put(&path, &json!({"endpoint": {"name": "b"}}))?
        .with(200)?;
    ci.post(&format!("{path}/secret"), &json!({}))?.with(200)?;
    world.server.run(["endpoints", "remove", &by_person])?;
    let (team, team_id) = registrar(world)?;
    let name = unique("app");
    let app = App::of(&register(&team, &name)?.with(200)?)?;
    team.delete(&format!("/apps/{}", app.id))?.with(204)?;
    world.server.run(["tokens", "remove", &id])?;
    // Lines are in order.
    let log = world.server.log_with(&["an API token was deleted", &id])?;
    let user = format!("user joe of account {number}");
    let (token, team) = (format!("token {id}"), format!("token {team_id}"));
    let host = "the command line".to_owned();
    for (what, said, by) in [
        (&by_person, "an endpoint was created", &user),
        (&by_person, "an endpoint was changed", &token),
        (&by_person, "an endpoint has a new signing secret", &token),
        (&by_person, "an endpoint was deleted", &host),
        (&name, "an application was registered", &team),
        (&name, "an application was removed", &team),
        (&id, "an API token was deleted", &host),
    ] {
        let mut lines = log.lines().filter(|line| line.contains(said));
        let line = lines.find(|line| line.contains(&**what));
        let line = line.with_context(|| format!("no line `{said}` of {what}"))?;
        ensure!(line.contains(&**by), "{line}");
    }
    let made = log.lines().filter(|line| line.contains(&id));
    let mut made = made.filter(|line| line.contains("an API token was created"));
    ensure!(made.any(|line| line.contains("by=token ") || line.contains("by=\"token ")));
    ensure!(!log.contains(&secret), "the token is in the log");
    Ok(())
}
