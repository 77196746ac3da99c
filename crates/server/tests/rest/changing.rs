//! The commands that change what is registered: tokens, applications, endpoints and filters, and
//! what the REST API shows of that.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account};
use crate::doors::{an_endpoint, data, list, printed};
use crate::setup::{User, World, bearer, cases, registration, text, unique};

cases![
    an_application_is_removed_by_who_may_register,
    the_command_makes_tokens_that_the_api_takes,
    the_command_registers_and_removes_applications,
    the_command_adds_changes_and_removes_endpoints,
    the_command_never_shows_what_is_secret,
    a_command_that_cannot_be_done_names_the_value_and_the_place,
];

fn an_application_is_removed_by_who_may_register(world: &World) -> Result<()> {
    let app = world.app()?;
    let user = world.account();
    let narrowed = an_endpoint(&user, &json!({"app_ids": [app.id]}))?;
    let path = format!("/apps/{}", app.id);
    let refusal = user.delete(&path)?;
    refusal.refused(403, "Requests with X-RH-IDENTITY are not allowed", "")?;
    let (account, _) = account(world)?;
    let refusal = account.delete(&path)?;
    refusal.refused(403, "Only an admin token or a registration token", "")?;
    world.admin().delete(&path)?.with(204)?;
    let gone = format!("Could not find App with 'id'={}", app.id);
    world.admin().get(&path)?.not_found(&gone)?;
    world.admin().delete(&path)?.not_found(&gone)?;
    // The filter has not become wider by that.
    let filter = user.get(&format!("/endpoints/{narrowed}/filter"))?;
    ensure!(filter.json["data"]["attributes"]["stale"] == json!(["apps"]));
    Ok(())
}

fn the_command_makes_tokens_that_the_api_takes(world: &World) -> Result<()> {
    let (number, name) = (unique("number"), unique("token"));
    let add = ["tokens", "add", &name, "--account-id", &number];
    let made = printed(world, &add)?;
    let token = text(&made["token"])?;
    let user = bearer(&world.server, &token);
    user.get("/endpoints")?.with(200)?;
    let id = text(&made["id"])?;
    let lines = printed(world, &["tokens", "list"])?;
    let shown = data(&world.admin(), "/tokens")?;
    let line = list(&lines)?.iter().find(|line| line["id"] == *id);
    let line = line.context("it is not listed")?;
    let listed = shown.iter().find(|one| one["id"] == *id);
    let attributes = &listed.context("it is not listed")?["attributes"];
    ensure!(attributes["name"] == line["name"] && line["name"] == *name);
    ensure!(attributes["scope"] == line["scope"] && line["scope"] == "account");
    ensure!(attributes["account_number"] == line["account"] && line["account"] == *number);
    ensure!(attributes["last_four"] == line["last_four"]);
    let table = world.server.run(["tokens"])?;
    ensure!(table.contains(&id) && !table.contains(&token), "{table}");
    ensure!(!lines.to_string().contains(&token), "{lines}");
    world.server.run(["tokens", "remove", &id])?;
    // On this server at once.
    user.get("/endpoints")?
        .unauthenticated("The API token is not valid")?;
    let plain = world
        .server
        .run(["tokens", "add", &name, "--scope", "registration"])?;
    let registrar = bearer(&world.server, plain.trim_end());
    let app = registration(&unique("app"));
    registrar.post("/apps/register", &app)?.with(200)?;
    Ok(())
}

fn the_command_registers_and_removes_applications(world: &World) -> Result<()> {
    let name = unique("app");
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("app.yaml");
    let file = file.to_str().context("no text")?;
    let yaml = format!(
        "application:\n  name: {name}\n  title: T\nevent_types:\n  - id: one\n    title: One\n    levels: {{}}\n"
    );
    std::fs::write(file, &yaml)?;
    let dry = world.server.run(["apps", "register", file, "--dry-run"])?;
    ensure!(dry == "the application: added\n`one`: added\n", "{dry}");
    let is_there = || -> Result<Option<Value>> {
        let lines = printed(world, &["apps"])?;
        Ok(list(&lines)?
            .iter()
            .find(|line| line["name"] == *name)
            .cloned())
    };
    ensure!(is_there()?.is_none());
    let said = printed(world, &["apps", "register", file])?;
    let app = is_there()?.context("it is not there")?;
    ensure!(said["application"] == app, "{said:#} {app:#}");
    let id = text(&app["id"])?;
    let shown = world.nobody();
    shown
        .get(&format!("/apps/{id}"))?
        .unauthenticated("`Authorization: Bearer TOKEN`, or by a trusted proxy the X-RH-IDENTITY header, should be provided")?;
    let shown = world.admin().get(&format!("/apps/{id}"))?.with(200)?;
    ensure!(shown.json["data"]["attributes"]["name"] == *name);
    let again = world.server.run(["apps", "register", file])?;
    ensure!(again == "nothing changes\n", "{again}");
    // Standard input, in JSON.
    let mut register = world.server.command(["apps", "add", "-"]);
    let mut register = register
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let json = registration(&name).to_string();
    let mut input = register.stdin.take().context("no standard input")?;
    input.write_all(json.as_bytes())?;
    drop(input);
    let output = register.wait_with_output()?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        said.contains("`one`: removed") && said.contains("`graded/low`: added"),
        "{said}"
    );
    let said = world.server.run(["apps", "remove", &name])?;
    ensure!(
        said == format!("the application {name} is removed\n"),
        "{said}"
    );
    ensure!(is_there()?.is_none());
    Ok(())
}

fn the_command_adds_changes_and_removes_endpoints(world: &World) -> Result<()> {
    let number = unique("number");
    let sink = HookEndpoint::start()?;
    let name = unique("endpoint");
    let add = [
        "endpoints",
        "add",
        "--account-id",
        &number,
        "--name",
        &name,
        "--url",
        &sink.url(),
        "--set",
        "rate_limit=5",
        "--set",
        "retry_policy=hooks",
    ];
    let made = printed(world, &add)?;
    ensure!(
        text(&made["signing_secret"])?.starts_with("whsec_"),
        "{made:#}"
    );
    let id = text(&made["endpoint"]["id"])?;
    let token = printed(world, &["tokens", "add", "t", "--account-id", &number])?;
    let user = bearer(&world.server, &text(&token["token"])?);
    let shown = |user: &User<'_>| -> Result<Value> {
        Ok(user.get(&format!("/endpoints/{id}"))?.with(200)?.json["data"].clone())
    };
    ensure!(shown(&user)? == made["endpoint"], "{made:#}");
    let attributes = &made["endpoint"]["attributes"];
    ensure!(attributes["rate_limit"] == 5 && attributes["retry_policy"] == "hooks");
    let change = [
        "endpoints",
        "change",
        &id,
        "--set",
        "rate_limit=null",
        "--set",
        "paused=true",
    ];
    let changed = printed(world, &change)?;
    ensure!(shown(&user)? == changed["endpoint"], "{changed:#}");
    let attributes = &changed["endpoint"]["attributes"];
    ensure!(attributes["rate_limit"] == Value::Null && attributes["paused"] == true);
    ensure!(attributes["name"] == *name && changed["signing_secret"] == Value::Null);
    ensure!(printed(world, &["endpoints", "show", &id])?["endpoint"] == changed["endpoint"]);
    let text_of = world.server.run(["endpoints", "show", &id])?;
    ensure!(
        text_of
            .lines()
            .any(|line| line.split_whitespace().eq(["paused", "true"])),
        "{text_of}"
    );
    let lines = printed(world, &["endpoints", "list", "--account-id", &number])?;
    ensure!(
        list(&lines)?.len() == 1 && lines[0]["id"] == *id,
        "{lines:#}"
    );
    let said = world.server.run(["endpoints", "test", &id])?;
    ensure!(
        said == format!("the endpoint {id} has taken the test\n"),
        "{said}"
    );
    sink.wait_for(1, ARRIVAL)?;
    sink.answer(500);
    let failed = world.server.run(["endpoints", "test", &id]);
    let failed = format!("{:?}", failed.err().context("it is delivered")?);
    ensure!(
        failed.contains("the test was not delivered") && failed.contains("500"),
        "{failed}"
    );
    let rotated = printed(world, &["endpoints", "rotate-secret", &id])?;
    ensure!(
        rotated["signing_secret"] != made["signing_secret"],
        "{rotated:#}"
    );
    world.server.run(["endpoints", "remove", &id])?;
    let gone = format!("Could not find Endpoint with 'id'={id}");
    user.get(&format!("/endpoints/{id}"))?.not_found(&gone)?;
    Ok(())
}

fn the_command_never_shows_what_is_secret(world: &World) -> Result<()> {
    let (number, name) = (unique("number"), unique("endpoint"));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("data.json");
    let data = json!({
        "headers": {"X-Key": "tellnobody-1"},
        "authorization": {"type": "bearer", "token": "tellnobody-2"}});
    std::fs::write(&file, data.to_string())?;
    let file = file.to_str().context("no text")?;
    let url = "https://example.org/";
    let add = [
        "endpoints",
        "add",
        "--account-id",
        &number,
        "--name",
        &name,
        "--url",
        url,
        "--data",
        file,
    ];
    let made = printed(world, &add)?;
    let id = text(&made["endpoint"]["id"])?;
    for arguments in [
        vec!["endpoints", "show", &id, "--json"],
        vec!["endpoints", "show", &id],
        vec!["endpoints", "--json"],
        vec!["filters", "--endpoint", &id, "--json"],
        vec!["explain", "-u", &number, "--json"],
    ] {
        let said = world.server.run(arguments.clone())?;
        ensure!(!said.contains("tellnobody-1"), "{arguments:?}: {said}");
        ensure!(!said.contains("tellnobody-2"), "{arguments:?}: {said}");
    }
    // A file that is no JSON is named, and nothing of what is in it.
    std::fs::write(file, "{\"headers\": tellnobody-4}")?;
    let wrong = world
        .server
        .run(["endpoints", "change", &id, "--data", file]);
    let wrong = format!("{:?}", wrong.err().context("it is taken")?);
    ensure!(wrong.contains("is not JSON: line 1, column"), "{wrong}");
    ensure!(
        wrong.contains(file) && !wrong.contains("tellnobody"),
        "{wrong}"
    );
    // Nor does the server cite a value that it refuses.
    std::fs::write(
        file,
        json!({"headers": {"Host": "tellnobody-5"}}).to_string(),
    )?;
    let wrong = world
        .server
        .run(["endpoints", "change", &id, "--data", file]);
    let wrong = format!("{:?}", wrong.err().context("it is taken")?);
    ensure!(wrong.contains("`data/headers/Host`"), "{wrong}");
    ensure!(!wrong.contains("tellnobody"), "{wrong}");
    Ok(())
}

fn a_command_that_cannot_be_done_names_the_value_and_the_place(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let id = an_endpoint(&user, &json!({}))?;
    let other = an_endpoint(&user, &json!({}))?;
    let taken = user.get(&format!("/endpoints/{other}"))?;
    let taken = text(&taken.json["data"]["attributes"]["name"])?;
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    let add = ["endpoints", "add", "--account-id", &number];
    let none = format!("there is no endpoint `{unknown}`");
    let cases: Vec<(Vec<&str>, &str)> = vec![
        (vec!["attempts", unknown], &none),
        (vec!["dead-letters", "--endpoint", unknown], &none),
        (vec!["dead-letters", "drop", unknown, unknown], &none),
        (
            vec!["dead-letters", "drop", &id, unknown],
            "there is no dead letter of the endpoint `",
        ),
        (vec!["endpoints", "show", unknown], &none),
        (vec!["endpoints", "change", unknown, "--name", "x"], &none),
        (vec!["endpoints", "remove", unknown], &none),
        (vec!["endpoints", "test", unknown], &none),
        (vec!["endpoints", "rotate-secret", unknown], &none),
        (vec!["filters", "set", unknown, "--anything"], &none),
        (vec!["filters", "remove", unknown], &none),
        (vec!["filters", "--endpoint", unknown], &none),
        (
            vec!["filters", "--account-id", "nobody"],
            "there is no account `nobody`",
        ),
        (
            vec!["endpoints", "--account-id", "nobody"],
            "there is no account `nobody`",
        ),
        (vec!["endpoints", "change", &id], "nothing is to be changed"),
        (
            vec!["endpoints", "change", &id, "--set", "puased=true"],
            "`puased` is not an attribute",
        ),
        (
            vec!["endpoints", "change", &id, "--name", &taken],
            "`name` has already been taken",
        ),
        (
            vec!["endpoints", "change", &id, "--url", "ftp://x/"],
            "`url` is not an http or https URL",
        ),
        (
            vec!["endpoints", "change", &id, "--set", "rate_limit=0"],
            "`rate_limit` is not a number",
        ),
        (
            vec!["filters", "set", &id, "--condition", "a ="],
            "`filter/condition` is not a condition",
        ),
        (
            vec!["filters", "set", &id, "--app", "nothing"],
            "`nothing` is not registered",
        ),
        (
            vec!["apps", "remove", "nothing"],
            "there is no application `nothing`",
        ),
        (
            vec!["apps", "register", "/nowhere/app.yaml"],
            "cannot read `/nowhere/app.yaml`",
        ),
        (
            vec!["tokens", "remove", unknown],
            "there is no token `01890a5d",
        ),
        (
            vec!["tokens", "add", "t"],
            "`account_number` can't be blank",
        ),
        (
            vec!["tokens", "add", "t", "--scope", "root"],
            "`root` is none of `admin`",
        ),
    ];
    for (arguments, expected) in cases {
        let said = world.server.command(arguments.clone()).output()?;
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.status.code() == Some(1), "{arguments:?}: {said:?}");
        ensure!(text.contains(expected), "{arguments:?}: {text}");
        ensure!(
            text.starts_with("dovecast: ") && text.trim_end().lines().count() == 1,
            "{text}"
        );
    }
    let nameless = world.server.run(add).err().context("it is made")?;
    let nameless = format!("{nameless:?}");
    ensure!(
        nameless.contains("`name` can't be blank; `url` can't be blank"),
        "{nameless}"
    );
    Ok(())
}
