//! `dovecast apps` and `dovecast tokens`: what is registered, and who may ask.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::deliveries::{print_json, rows, time};
use super::input;
use super::lists::aligned;
use super::pretty::printable;
use super::print;
use crate::cli::{
    AddTokenArguments, AppsAct, AppsArguments, JsonArguments, NamedArguments, RegisterArguments,
    TokenArguments, TokensAct, TokensArguments,
};
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

pub(super) async fn tokens(client: &Client, arguments: &TokensArguments) -> Result<()> {
    match &arguments.act {
        None => list_tokens(client, &arguments.list).await,
        Some(TokensAct::List(list)) => list_tokens(client, list).await,
        Some(TokensAct::Add(add)) => add_token(client, add).await,
        Some(TokensAct::Remove(token)) => remove_token(client, token).await,
    }
}

async fn list_tokens(client: &Client, arguments: &JsonArguments) -> Result<()> {
    let lines = client.tokens().await?;
    if arguments.json {
        return print_json(&lines);
    }
    let mut table = rows(["TOKEN", "NAME", "SCOPE", "ACCOUNT", "ENDS WITH", "CREATED"]);
    for token in lines {
        let account = token.account.as_deref().map(printable);
        table.push([
            token.id.to_string(),
            printable(&token.name),
            token.scope,
            account.unwrap_or_else(|| "-".to_owned()),
            token.last_four,
            time(Some(token.created_ms)),
        ]);
    }
    print(&aligned(&table, 6))
}

async fn add_token(client: &Client, arguments: &AddTokenArguments) -> Result<()> {
    let made = client
        .create_token(&json!({
            "name": arguments.name,
            "scope": arguments.scope,
            "account_number": arguments.account_id,
        }))
        .await?;
    if arguments.json {
        return print_json(&made);
    }
    print(&format!("{}\n", made.secret))
}

async fn remove_token(client: &Client, arguments: &TokenArguments) -> Result<()> {
    client.delete_token(arguments.token).await?;
    if arguments.json {
        return print_json(&json!({"removed": arguments.token}));
    }
    print(&format!("the token {} is deleted\n", arguments.token))
}
