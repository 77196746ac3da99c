//! `dovecast apps`: what is registered.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::deliveries::{print_json, rows};
use super::input;
use super::lists::aligned;
use super::pretty::printable;
use super::print;
use crate::cli::{AppsAct, AppsArguments, JsonArguments, NamedArguments, RegisterArguments};
use crate::control::client::Client;
use crate::control::json::AppLine;

pub(super) async fn apps(client: &Client, arguments: &AppsArguments) -> Result<()> {
    match &arguments.act {
        None => list_apps(client, &arguments.list).await,
        Some(AppsAct::List(list)) => list_apps(client, list).await,
        Some(AppsAct::Register(register)) => register_app(client, register).await,
        Some(AppsAct::Remove(named)) => remove_app(client, named).await,
    }
}

async fn list_apps(client: &Client, arguments: &JsonArguments) -> Result<()> {
    let lines = client.apps().await?;
    if arguments.json {
        return print_json(&lines);
    }
    let mut table = rows(["APPLICATION", "EVENT TYPE", "LEVELS", "TITLE"]);
    for app in lines {
        let dash = || "-".to_owned();
        table.push([printable(&app.name), dash(), dash(), printable(&app.title)]);
        for event_type in app.event_types {
            let levels: Vec<_> = event_type
                .levels
                .iter()
                .map(|level| printable(&level.name))
                .collect();
            table.push([
                printable(&app.name),
                printable(&event_type.name),
                if levels.is_empty() {
                    dash()
                } else {
                    levels.join(" ")
                },
                printable(&event_type.title),
            ]);
        }
    }
    print(&aligned(&table, 4))
}

async fn register_app(client: &Client, arguments: &RegisterArguments) -> Result<()> {
    let place = arguments.file.display();
    let text = input(&arguments.file)?;
    // JSON is YAML, too.
    let registration: Value = serde_saphyr::from_slice(&text)
        .with_context(|| format!("`{place}` is neither YAML nor JSON"))?;
    let registered = client.register(&registration, arguments.dry_run).await?;
    if arguments.json {
        return print_json(&registered);
    }
    let mut lines = Vec::new();
    for change in registered.changes {
        let name = [change.event_type, change.level].into_iter().flatten();
        let name = name.map(|name| printable(&name)).collect::<Vec<_>>();
        let name = match &name[..] {
            [] => "the application".to_owned(),
            name => format!("`{}`", name.join("/")),
        };
        lines.push(format!("{name}: {}", change.change));
    }
    for filter in registered.filters.iter().filter(|filter| filter.stale) {
        let (endpoint, account) = (filter.endpoint, printable(&filter.account));
        lines.push(format!(
            "the filter of the endpoint {endpoint} of the account {account} matches nothing any more"
        ));
    }
    for filter in registered.filters.iter().filter(|filter| filter.restored) {
        let (endpoint, account) = (filter.endpoint, printable(&filter.account));
        lines.push(format!(
            "the filter of the endpoint {endpoint} of the account {account} matches again what it had lost"
        ));
    }
    if lines.is_empty() {
        lines.push("nothing changes".to_owned());
    }
    print(&(lines.join("\n") + "\n"))
}

async fn remove_app(client: &Client, arguments: &NamedArguments) -> Result<()> {
    let apps = client.apps().await?;
    let name = &arguments.name;
    let is_meant = |app: &&AppLine| app.name == *name || app.id.to_string() == *name;
    let Some(app) = apps.iter().find(is_meant) else {
        bail!("there is no application `{name}`");
    };
    client.remove_app(app.id).await?;
    if arguments.json {
        return print_json(&json!({"removed": app.id}));
    }
    print(&format!(
        "the application {} is removed\n",
        printable(&app.name)
    ))
}
