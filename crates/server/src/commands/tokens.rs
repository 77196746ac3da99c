//! `dovecast tokens`: who may ask.

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::deliveries::{print_json, rows, time};
use super::lists::aligned;
use super::pretty::printable;
use super::print;
use crate::cli::{
    AddTokenArguments, ChangeTokenArguments, JsonArguments, TokenArguments, TokensAct,
    TokensArguments,
};
use crate::control::client::Client;
use crate::control::json::TokenLine;

pub(super) async fn run(client: &Client, arguments: &TokensArguments) -> Result<()> {
    match &arguments.act {
        None => list_tokens(client, &arguments.list).await,
        Some(TokensAct::List(list)) => list_tokens(client, list).await,
        Some(TokensAct::Add(add)) => add_token(client, add).await,
        Some(TokensAct::Change(change)) => change_token(client, change).await,
        Some(TokensAct::Remove(token)) => remove_token(client, token).await,
    }
}

async fn list_tokens(client: &Client, arguments: &JsonArguments) -> Result<()> {
    let lines = client.tokens().await?;
    if arguments.json {
        return print_json(&lines);
    }
    print(&table(&lines))
}

pub(super) fn table(tokens: &[TokenLine]) -> String {
    let head = [
        "TOKEN",
        "NAME",
        "SCOPE",
        "FOR",
        "ENDS WITH",
        "CREATED",
        "EXPIRES",
        "LAST USED",
    ];
    let mut table = rows(head);
    for token in tokens {
        table.push([
            token.id.to_string(),
            printable(&token.name),
            token.scope.clone(),
            whose(token),
            token.last_four.clone(),
            time(Some(token.created_ms)),
            time(token.expires_ms),
            time(token.last_used_ms),
        ]);
    }
    aligned(&table, 8)
}

/// The account of a token, or its applications.
fn whose(token: &TokenLine) -> String {
    let applications = token.applications.iter().map(|name| printable(name));
    let names: Vec<String> = match &token.account {
        Some(number) => vec![printable(number)],
        None => applications.collect(),
    };
    if names.is_empty() {
        return "-".to_owned();
    }
    names.join(" ")
}

async fn add_token(client: &Client, arguments: &AddTokenArguments) -> Result<()> {
    let made = client
        .create_token(&json!({
            "name": arguments.name,
            "scope": arguments.scope,
            "account_number": arguments.account_id,
            "context": arguments.context,
            "user": arguments.user,
            "login": arguments.login,
            "applications": arguments.applications,
            "expires_at": arguments.expires.map(|time| time.to_string()),
        }))
        .await?;
    if arguments.json {
        return print_json(&made);
    }
    print(&format!("{}\n", made.secret))
}

async fn change_token(client: &Client, arguments: &ChangeTokenArguments) -> Result<()> {
    let mut fields = Map::new();
    if let Some(name) = &arguments.name {
        fields.insert("name".to_owned(), json!(name));
    }
    if arguments.no_applications || !arguments.applications.is_empty() {
        fields.insert("applications".to_owned(), json!(arguments.applications));
    }
    if arguments.no_expiry || arguments.expires.is_some() {
        fields.insert(
            "expires_at".to_owned(),
            json!(arguments.expires.map(|time| time.to_string())),
        );
    }
    ensure!(
        !fields.is_empty(),
        "nothing is to change: see `dovecast tokens change --help`"
    );
    let changed = client
        .change_token(arguments.token, &Value::Object(fields))
        .await?;
    if arguments.json {
        return print_json(&changed);
    }
    print(&format!("the token {} is changed\n", changed.id))
}

async fn remove_token(client: &Client, arguments: &TokenArguments) -> Result<()> {
    client.delete_token(arguments.token).await?;
    if arguments.json {
        return print_json(&json!({"removed": arguments.token}));
    }
    print(&format!("the token {} is deleted\n", arguments.token))
}
