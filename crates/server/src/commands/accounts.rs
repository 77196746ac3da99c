//! `dovecast accounts`: who has been seen, what each has, and its end.

use anyhow::Result;
use serde_json::json;

use super::deliveries::{print_json, rows, time};
use super::lists::aligned;
use super::pretty::printable;
use super::{print, tokens};
use crate::cli::{AccountArguments, AccountsAct, AccountsArguments, JsonArguments};
use crate::control::client::Client;
use crate::control::json::AccountLine;

pub(super) async fn run(client: &Client, arguments: &AccountsArguments) -> Result<()> {
    match &arguments.act {
        None => list(client, &arguments.list).await,
        Some(AccountsAct::List(arguments)) => list(client, arguments).await,
        Some(AccountsAct::Show(account)) => show(client, account).await,
        Some(AccountsAct::Close(account)) => close(client, account).await,
        Some(AccountsAct::Reopen(account)) => reopen(client, account).await,
    }
}

async fn list(client: &Client, arguments: &JsonArguments) -> Result<()> {
    let lines = client.accounts().await?;
    if arguments.json {
        return print_json(&lines);
    }
    print(&table(&lines))
}

fn table(accounts: &[AccountLine]) -> String {
    let head = [
        "ACCOUNT",
        "CREATED",
        "CLOSED",
        "ENDPOINTS",
        "TOKENS",
        "USERS",
    ];
    let mut table = rows(head);
    for account in accounts {
        table.push([
            printable(&account.number),
            time(Some(account.created_ms)),
            time(account.closed_ms),
            account.endpoints.to_string(),
            account.tokens.to_string(),
            account.users.to_string(),
        ]);
    }
    aligned(&table, 3)
}

async fn show(client: &Client, arguments: &AccountArguments) -> Result<()> {
    let shown = client.account(&arguments.number).await?;
    if arguments.json {
        return print_json(&shown);
    }
    let mut endpoints = rows(["ENDPOINT", "NAME", "ACTIVE", "URL"]);
    for endpoint in &shown.endpoints {
        let attributes = &endpoint["attributes"];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
        endpoints.push([
            text(&endpoint["id"]),
            text(&attributes["name"]),
            if attributes["active"] == true {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
            text(&attributes["url"]),
        ]);
    }
    let parts = [
        table(&[shown.account]),
        aligned(&endpoints, 4),
        tokens::table(&shown.tokens),
    ];
    print(&parts.join("\n"))
}

async fn close(client: &Client, arguments: &AccountArguments) -> Result<()> {
    let closed = client.close_account(&arguments.number).await?;
    if arguments.json {
        return print_json(&closed);
    }
    print(&format!(
        "the account {} is closed; endpoints deleted: {}, tokens deleted: {}\n",
        printable(&arguments.number),
        closed.endpoints,
        closed.tokens
    ))
}

async fn reopen(client: &Client, arguments: &AccountArguments) -> Result<()> {
    let account = client.reopen_account(&arguments.number).await?;
    if arguments.json {
        return print_json(&json!({"reopened": account.number}));
    }
    print(&format!(
        "the account {} is open\n",
        printable(&account.number)
    ))
}
