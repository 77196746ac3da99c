//! `GET /apps`, `GET /apps/:id`.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::setup::{World, bearer, cases, registration, text, unique};

cases![
    an_application_is_shown_with_its_event_types_and_levels,
    all_applications_are_listed_for_everybody_who_is_known,
    without_a_limit_all_applications_are_listed,
    an_application_that_is_not_there_is_not_found,
];

fn an_application_is_shown_with_its_event_types_and_levels(world: &World) -> Result<()> {
    let app = world.app()?;
    let said = world
        .account()
        .get(&format!("/apps/{}", app.id))?
        .with(200)?;
    let expected = json!({
        "data": {
            "id": app.id, "type": "app",
            "attributes": {"name": app.name, "title": format!("Title of {}", app.name)},
            "relationships": {"event_types": {"data": [
                {"id": app.plain, "type": "event_type"}, {"id": app.graded, "type": "event_type"}]}}},
        "included": [
            {"id": app.plain, "type": "event_type", "attributes": {"title": "Plain", "name": "plain"},
                "relationships": {"levels": {"data": []}}},
            {"id": app.graded, "type": "event_type", "attributes": {"title": "Graded", "name": "graded"},
                "relationships": {"levels": {"data": [
                    {"id": app.low, "type": "level"}, {"id": app.high, "type": "level"}]}}},
            {"id": app.low, "type": "level", "attributes": {"title": "Low", "name": "low"}},
            {"id": app.high, "type": "level", "attributes": {"title": "High", "name": "high"}}]});
    ensure!(said.json == expected, "{:#}", said.json);
    Ok(())
}

fn all_applications_are_listed_for_everybody_who_is_known(world: &World) -> Result<()> {
    let apps = [world.app()?, world.app()?];
    let token = world.admin().post(
        "/tokens",
        &json!({"token": {"name": "x", "scope": "registration"}}),
    )?;
    let token = text(&token.with(201)?.json["meta"]["token"])?;
    for user in [
        world.account(),
        world.admin(),
        bearer(&world.server, &token),
    ] {
        let said = user.get("/apps?limit=1000")?.with(200)?;
        let list = said.json["data"].as_array().context("no list")?;
        let included = said.json["included"].as_array().context("no list")?;
        for app in &apps {
            ensure!(list.iter().any(|one| one["id"] == *app.id));
            ensure!(included.iter().any(|one| one["id"] == *app.high));
        }
        ensure!(said.json["meta"]["total"] == list.len(), "{}", said.json);
    }
    let said = world.account().get("/apps?limit=1&offset=1")?.with(200)?;
    ensure!(said.json["data"].as_array().map(Vec::len) == Some(1));
    ensure!(said.json["meta"]["limit"] == 1 && said.json["meta"]["offset"] == 1);
    let previous = text(&said.json["links"]["previous"])?;
    ensure!(
        previous.ends_with("/api/hooks/apps?limit=1&offset=0"),
        "{previous}"
    );
    Ok(())
}

fn without_a_limit_all_applications_are_listed(world: &World) -> Result<()> {
    let (builder, _database) = world.fresh()?;
    let server = builder.start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let before = admin.get("/apps")?.with(200)?;
    let before = before.json["data"].as_array().map_or(0, Vec::len);
    for _ in 0..12 {
        admin
            .post("/apps/register", &registration(&unique("app")))?
            .with(200)?;
    }
    let said = admin.get("/apps")?.with(200)?;
    let total = before + 12;
    ensure!(said.json["data"].as_array().map(Vec::len) == Some(total));
    let meta = json!({"total": total, "limit": 1000, "offset": 0});
    ensure!(said.json["meta"] == meta, "{}", said.json["meta"]);
    let links = &said.json["links"];
    ensure!(links["next"] == Value::Null && links["previous"] == Value::Null);
    let first = text(&links["first"])?;
    ensure!(first.ends_with("/apps?limit=1000&offset=0"), "{first}");
    Ok(())
}

fn an_application_that_is_not_there_is_not_found(world: &World) -> Result<()> {
    for id in [
        "00000000-0000-0000-0000-000000000000",
        "7",
        "%00",
        "registered",
    ] {
        let said = world.account().get(&format!("/apps/{id}"))?;
        ensure!(said.json["data"] == Value::Null);
        said.not_found("Could not find App with 'id'=")?;
    }
    Ok(())
}
