//! `dovecast endpoints`: listed, created, changed, removed, tested. What they would be sent is in
//! `rendering`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::deliveries::{print_json, rows, time};
use super::input;
use super::lists::aligned;
use super::pretty::printable;
use super::{print, rendering};
use crate::cli::{
    AddEndpointArguments, AttributeArguments, ChangeEndpointArguments, EndpointArguments,
    EndpointListArguments, EndpointsAct, EndpointsArguments,
};
use crate::config::Config;
use crate::control::client::{Client, ShownEndpoint};

pub(super) async fn run(
    client: &Client,
    config: &Config,
    arguments: &EndpointsArguments,
) -> Result<()> {
    match &arguments.act {
        None => list(client, &arguments.list).await,
        Some(EndpointsAct::List(arguments)) => list(client, arguments).await,
        Some(EndpointsAct::Show(EndpointArguments { endpoint, json })) => {
            show(&client.endpoint(*endpoint).await?, *json)
        }
        Some(EndpointsAct::Add(arguments)) => add(client, arguments).await,
        Some(EndpointsAct::Change(arguments)) => change(client, arguments).await,
        Some(EndpointsAct::Remove(arguments)) => {
            client.delete_endpoint(arguments.endpoint).await?;
            done(arguments, "removed", "is removed")
        }
        Some(EndpointsAct::Test(arguments)) => {
            client.test_endpoint(arguments.endpoint).await?;
            done(arguments, "delivered", "has taken the test")
        }
        Some(EndpointsAct::Render(arguments)) => rendering::run(client, config, arguments).await,
        Some(EndpointsAct::RotateSecret(EndpointArguments { endpoint, json })) => {
            show(&client.rotate_secret(*endpoint).await?, *json)
        }
    }
}

async fn list(client: &Client, arguments: &EndpointListArguments) -> Result<()> {
    let lines = client.endpoints(arguments.account_id.as_deref()).await?;
    if arguments.json {
        return print_json(&lines);
    }
    let mut table = rows([
        "ENDPOINT", "ACCOUNT", "NAME", "URL", "STATE", "LAST", "AT", "OWED", "RANGES", "NEXT",
    ]);
    for line in lines {
        let state = match (line.active, line.paused, line.has_filter) {
            (false, _, _) => "inactive",
            (true, true, _) => "paused",
            (true, false, false) => "no filter",
            (true, false, true) => "active",
        };
        table.push([
            line.id.to_string(),
            line.account,
            line.name,
            line.url,
            state.to_owned(),
            line.last_delivery_status.unwrap_or_else(|| "-".to_owned()),
            time(line.last_delivery_ms),
            line.owed_deliveries.to_string(),
            line.owed_ranges.to_string(),
            time(line.next_attempt_ms),
        ]);
    }
    print(&aligned(&table, 7))
}

async fn add(client: &Client, arguments: &AddEndpointArguments) -> Result<()> {
    let fields = fields(&arguments.attributes)?;
    let made = client
        .create_endpoint(&arguments.account_id, fields)
        .await?;
    show(&made, arguments.attributes.json)
}

async fn change(client: &Client, arguments: &ChangeEndpointArguments) -> Result<()> {
    let fields = fields(&arguments.attributes)?;
    ensure!(
        !fields.is_empty(),
        "nothing is to be changed: `--name`, `--url`, `--set` or `--data` says what"
    );
    let changed = client.change_endpoint(arguments.endpoint, &fields).await?;
    show(&changed, arguments.attributes.json)
}

/// The fields, as the REST API takes them.
pub(super) fn fields(arguments: &AttributeArguments) -> Result<Map<String, Value>> {
    let mut fields = Map::new();
    for (name, value) in [("name", &arguments.name), ("url", &arguments.url)] {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value.as_str().into());
        }
    }
    if let Some(file) = &arguments.data {
        fields.insert("data".to_owned(), json_of(file)?);
    }
    for (name, value) in &arguments.set {
        let value = match value.as_str().and_then(|text| text.strip_prefix('@')) {
            Some(file) => json_of(Path::new(file))?,
            None => value.clone(),
        };
        let twice = fields.insert(name.clone(), value);
        ensure!(twice.is_none(), "the attribute `{name}` is given twice");
    }
    Ok(fields)
}

/// What a file has as JSON. The error names the place, and nothing of what is there.
fn json_of(file: &Path) -> Result<Value> {
    serde_json::from_slice(&input(file)?).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let place = file.display();
        anyhow::anyhow!("`{place}` is not JSON: line {line}, column {column}")
    })
}

/// Prints the attributes one by one, whichever there are.
fn show(shown: &ShownEndpoint, as_json: bool) -> Result<()> {
    if as_json {
        return print_json(shown);
    }
    let attributes = shown.endpoint["attributes"].as_object();
    let attributes = attributes.context("the server has answered with something unexpected")?;
    let mut lines = vec![[
        "id".to_owned(),
        shown.endpoint["id"].as_str().unwrap_or_default().to_owned(),
    ]];
    for (name, value) in attributes {
        let value = match value {
            Value::Null => "-".to_owned(),
            Value::String(text) => printable(text),
            other => printable(&other.to_string()),
        };
        lines.push([name.clone(), value]);
    }
    if let Some(secret) = &shown.signing_secret {
        lines.push(["signing_secret".to_owned(), secret.clone()]);
    }
    let mut text = aligned(&lines, 2);
    for warning in &shown.warnings {
        text.extend(["warning: ", &printable(warning), "\n"]);
    }
    print(&text)
}

fn done(arguments: &EndpointArguments, key: &str, text: &str) -> Result<()> {
    let id: Uuid = arguments.endpoint;
    if arguments.json {
        return print_json(&json!({ key: id }));
    }
    print(&format!("the endpoint {id} {text}\n"))
}
