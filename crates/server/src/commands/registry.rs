//! `dovecast apps` and `dovecast filters`: what is registered, and what endpoints want.

use anyhow::Result;

use super::deliveries::{print_json, rows};
use super::lists::aligned;
use super::pretty::printable;
use super::print;
use crate::cli::{FiltersArguments, JsonArguments};
use crate::control::client::Client;

pub(super) async fn apps(client: &Client, arguments: &JsonArguments) -> Result<()> {
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

pub(super) async fn filters(client: &Client, arguments: &FiltersArguments) -> Result<()> {
    let mut lines = client.filters().await?;
    lines.retain(|line| {
        let is_account = |number: &String| *number == line.account;
        arguments.endpoint.is_none_or(|id| id == line.endpoint)
            && arguments.account_id.as_ref().is_none_or(is_account)
    });
    if arguments.json {
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
