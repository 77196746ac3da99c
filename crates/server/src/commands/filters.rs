//! `dovecast filters`: what endpoints receive, in words, and how that is changed.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::deliveries::{print_json, rows};
use super::lists::aligned;
use super::pretty::printable;
use super::print;
use crate::cli::{
    EndpointArguments, FilterListArguments, FiltersAct, FiltersArguments, SetFilterArguments,
};
use crate::control::client::Client;
use crate::control::json::{AppLine, FilterLine};

pub(super) async fn run(client: &Client, arguments: &FiltersArguments) -> Result<()> {
    match &arguments.act {
        None => list(client, &arguments.list).await,
        Some(FiltersAct::List(arguments)) => list(client, arguments).await,
        Some(FiltersAct::Set(arguments)) => set(client, arguments).await,
        Some(FiltersAct::Remove(arguments)) => remove(client, arguments).await,
    }
}

async fn list(client: &Client, arguments: &FilterListArguments) -> Result<()> {
    let account = arguments.account_id.as_deref();
    show(
        client.filters(arguments.endpoint, account).await?,
        arguments.json,
    )
}

fn show(lines: Vec<FilterLine>, as_json: bool) -> Result<()> {
    if as_json {
        return print_json(&lines);
    }
    let mut table = rows(["ENDPOINT", "ACCOUNT", "NAME", "GETS"]);
    for line in lines {
        table.push([
            line.endpoint.to_string(),
            printable(&line.account),
            printable(&line.name),
            printable(&line.gets),
        ]);
    }
    print(&aligned(&table, 4))
}

async fn set(client: &Client, arguments: &SetFilterArguments) -> Result<()> {
    let mut filter = Map::new();
    let lists = [&arguments.apps, &arguments.event_types, &arguments.levels];
    if arguments.anything || lists.iter().any(|list| !list.is_empty()) {
        let known = Registered::of(&client.apps().await?);
        for (key, names, known) in [
            ("app_ids", &arguments.apps, &known.apps),
            ("event_type_ids", &arguments.event_types, &known.event_types),
            ("level_ids", &arguments.levels, &known.levels),
        ] {
            let ids: Result<Vec<Uuid>> = names.iter().map(|name| find(known, name)).collect();
            filter.insert(key.to_owned(), json!(ids?));
        }
    }
    if let Some(condition) = &arguments.condition {
        let condition = Some(condition).filter(|condition| !condition.is_empty());
        filter.insert("condition".to_owned(), json!(condition));
    }
    if let Some(enabled) = arguments.enabled {
        filter.insert("enabled".to_owned(), enabled.into());
    }
    put(client, arguments.endpoint, &Value::Object(filter)).await?;
    let filters = client.filters(Some(arguments.endpoint), None).await?;
    show(filters, arguments.json)
}

async fn remove(client: &Client, arguments: &EndpointArguments) -> Result<()> {
    put(client, arguments.endpoint, &json!({"_destroy": true})).await?;
    let filters = client.filters(Some(arguments.endpoint), None).await?;
    show(filters, arguments.json)
}

async fn put(client: &Client, endpoint: Uuid, filter: &Value) -> Result<()> {
    let fields = Map::from_iter([("filter".to_owned(), filter.clone())]);
    client.change_endpoint(endpoint, &fields).await?;
    Ok(())
}

/// Names that filters may have, with their ids; those of event types and levels with `/` between.
#[derive(Default)]
struct Registered {
    apps: Vec<(String, Uuid)>,
    event_types: Vec<(String, Uuid)>,
    levels: Vec<(String, Uuid)>,
}

impl Registered {
    fn of(apps: &[AppLine]) -> Self {
        let mut found = Self::default();
        for app in apps {
            found.apps.push((app.name.clone(), app.id));
            for event_type in &app.event_types {
                let name = format!("{}/{}", app.name, event_type.name);
                for level in &event_type.levels {
                    found
                        .levels
                        .push((format!("{name}/{}", level.name), level.id));
                }
                found.event_types.push((name, event_type.id));
            }
        }
        found
    }
}

/// The id of a name. Names may have a `/` themselves: two may read the same.
fn find(known: &[(String, Uuid)], name: &str) -> Result<Uuid> {
    let mut found = known.iter().filter(|(known, _)| known == name);
    let (_, id) = found
        .next()
        .with_context(|| format!("`{name}` is not registered; `dovecast apps` lists what is"))?;
    ensure!(
        found.next().is_none(),
        "`{name}` names several things; use the REST API, with their ids"
    );
    Ok(*id)
}
