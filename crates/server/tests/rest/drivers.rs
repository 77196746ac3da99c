//! Endpoints name their driver: `webhook` where they do not, and the settings that it takes.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, send};
use crate::setup::{User, World, bearer, cases, text, unique};

cases![
    an_endpoint_that_names_no_driver_is_a_webhook,
    what_is_for_another_driver_is_refused_by_its_name,
    what_is_for_an_endpoint_waits_while_its_driver_is_not_there,
    #[cfg(not(feature = "kafka"))]
    a_driver_that_was_not_built_is_refused_in_words,
];

fn webhook(more: &Value) -> Value {
    let mut endpoint = json!({"name": unique("hook"), "url": "https://example.org/"});
    if let (Some(endpoint), Some(more)) = (endpoint.as_object_mut(), more.as_object()) {
        endpoint.extend(more.clone());
    }
    json!({ "endpoint": endpoint })
}

/// An account of a server that no other case has.
pub(crate) fn account<'a>(server: &'a Server, number: &str) -> Result<User<'a>> {
    let new = json!({"token": {"name": "t", "scope": "account", "account_number": number}});
    let admin = bearer(server, &server.admin_token()?);
    let made = admin.post("/tokens", &new)?.with(201)?;
    Ok(bearer(server, &text(&made.json["meta"]["token"])?))
}

fn an_endpoint_that_names_no_driver_is_a_webhook(world: &World) -> Result<()> {
    let user = world.account();
    for more in [json!({}), json!({"driver": "webhook"})] {
        let made = user.post("/endpoints", &webhook(&more))?.with(201)?;
        let shown = &made.json["data"]["attributes"];
        ensure!(shown["driver"] == "webhook", "{shown}");
        ensure!(shown["settings"].is_null(), "{shown}");
        ensure!(shown["url"] == "https://example.org/", "{shown}");
    }
    Ok(())
}

fn what_is_for_another_driver_is_refused_by_its_name(world: &World) -> Result<()> {
    let user = world.account();
    let made = user.post("/endpoints", &webhook(&json!({})))?.with(201)?;
    let path = format!("/endpoints/{}", text(&made.json["data"]["id"])?);
    let pigeon = webhook(&json!({"driver": "pigeon"}));
    for (place, detail) in [
        ("url", "is not for the driver `pigeon`"),
        ("driver", "`pigeon` is not a driver of this dovecast"),
    ] {
        let place = format!("/data/attributes/{place}");
        user.post("/endpoints", &pigeon)?
            .refused(422, detail, &place)?;
    }
    let fixed = "is `webhook`, and cannot be changed";
    user.put(&path, &pigeon)?
        .refused(422, fixed, "/data/attributes/driver")?;
    let settings = webhook(&json!({"settings": {"word": "s3cret"}}));
    for answer in [
        user.post("/endpoints", &settings)?,
        user.put(&path, &settings)?,
    ] {
        ensure!(!answer.answer.body.contains("s3cret"), "{answer:?}");
        answer.refused(
            422,
            "is for other drivers: a webhook has `url`, `data` and `timeout_seconds`",
            "/data/attributes/settings",
        )?;
    }
    Ok(())
}

/// As after a build without the driver.
fn what_is_for_an_endpoint_waits_while_its_driver_is_not_there(world: &World) -> Result<()> {
    let (builder, database) = world.fresh()?;
    let mut server = builder.start()?;
    let id = account(&server, "7")?.endpoint(&webhook(&json!({"filter": {}}))["endpoint"])?;
    server.stop()?;
    let gone = "UPDATE endpoint SET driver = 'pigeon'";
    database.execute(&server, gone)?;
    server.start_again()?;
    let user = account(&server, "7")?;
    let path = format!("/endpoints/{id}");
    let shown = user.get(&path)?.with(200)?;
    let shown = &shown.json["data"]["attributes"];
    ensure!(shown["driver"] == "pigeon" && shown["url"].is_null());
    let missing = "`pigeon` is not a driver of this dovecast";
    user.post(&format!("{path}/test"), &json!({}))?
        .refused(502, missing, "")?;
    send(&server, "7", &[])?;
    let owed = poll_until(ARRIVAL, || {
        let printed = server.run(["endpoints", "--json"]).ok()?;
        let lines: Value = serde_json::from_str(&printed).ok()?;
        (lines[0]["owed_deliveries"] == 1).then_some(())
    });
    owed.with_context(|| server.server_log())?;
    let letters = server.run(["dead-letters", "--json"])?;
    ensure!(letters.trim() == "[]", "{letters}");
    let attempts = server.run(["attempts", &id, "--json"])?;
    ensure!(attempts.contains(missing), "{attempts}");
    Ok(())
}

#[cfg(not(feature = "kafka"))]
fn a_driver_that_was_not_built_is_refused_in_words(world: &World) -> Result<()> {
    let user = world.account();
    let settings = json!({"cluster": "c", "topic": "t"});
    let new = json!({"name": unique("copy"), "driver": "kafka", "settings": settings});
    user.post("/endpoints", &json!({ "endpoint": new }))?
        .refused(
            422,
            "this dovecast was built without the driver `kafka`",
            "/data/attributes/driver",
        )
}
