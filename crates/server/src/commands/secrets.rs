//! `dovecast secrets`: the keys that secrets in the store are sealed with.

use anyhow::Result;

use super::deliveries::{print_json, rows};
use super::lists::aligned;
use super::print;
use crate::cli::{JsonArguments, SecretsSubject};
use crate::control::client::Client;

pub(super) async fn run(client: &Client, subject: &SecretsSubject) -> Result<()> {
    match subject {
        SecretsSubject::List(arguments) => list(client, arguments).await,
        SecretsSubject::Rotate(arguments) => rotate(client, arguments).await,
    }
}

async fn list(client: &Client, arguments: &JsonArguments) -> Result<()> {
    let keys = client.secret_keys().await?;
    if arguments.json {
        return print_json(&keys);
    }
    let mut table = rows(["KEY", "STATE", "HERE", "ROWS"]);
    for key in keys {
        let state = match (key.current, key.retired_ms, key.rows) {
            (true, ..) => "current",
            (false, Some(_), _) => "retired",
            (false, None, 0) => "unused",
            (false, None, _) => "being replaced",
        };
        let here = if key.here { "yes" } else { "no" };
        table.push([
            key.id,
            state.to_owned(),
            here.to_owned(),
            key.rows.to_string(),
        ]);
    }
    print(&aligned(&table, 4))
}

async fn rotate(client: &Client, arguments: &JsonArguments) -> Result<()> {
    let done = client.rotate_secret_key().await?;
    if arguments.json {
        return print_json(&done);
    }
    let mut lines = vec![format!(
        "secrets that are sealed anew: {}, with the key {}",
        done.sealed, done.key
    )];
    if done.damaged > 0 {
        lines.push(format!(
            "{} cannot be opened with their key, the log of the server names them; their key stays",
            done.damaged
        ));
    }
    if !done.retired.is_empty() {
        lines.push(format!(
            "retired, and kept in its place until the next rotation: {}",
            done.retired.join(" ")
        ));
    }
    if !done.taken_out.is_empty() {
        lines.push(format!(
            "retired before, and taken out of their place: {}",
            done.taken_out.join(" ")
        ));
    }
    if let Some(why) = done.kept {
        lines.push(format!(
            "keys that were retired before are still in their place: {why}"
        ));
    }
    lines.push("back the keys up before you rely on a new backup of the database".to_owned());
    print(&(lines.join("\n") + "\n"))
}
