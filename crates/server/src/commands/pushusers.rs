//! `dovecast pushusers`: whose mailboxes are heard and which clients are registered, in the texts
//! of Open-Xchange's command of this name.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serde_json::json;

use super::deliveries::print_json;
use super::pretty::printable;
use super::{print, wait};
use crate::basic;
use crate::cli::PushUsersArguments;
use crate::control::client::{Client, HttpPlace, NoServer, NotLetIn};
use crate::control::json::{PushPerson, PushRegistration};

/// Ends a `--strict` command that has found no such registration.
const NO_REGISTRATION: u8 = 3;
/// Ends a command whose user or password is refused, as the original's -1.
const NOT_LET_IN: u8 = 255;

pub(super) fn run(
    arguments: &PushUsersArguments,
    client: impl FnOnce() -> Result<Client>,
) -> Result<ExitCode> {
    if let Some(text) = arguments.fault() {
        crate::say_last(text);
        return Ok(ExitCode::FAILURE);
    }
    let client = match (&arguments.server, arguments.port) {
        (None, None) => client()?,
        (server, port) => Client::over_http(elsewhere(server.as_deref(), port, arguments)?),
    };
    let ended = wait(async {
        let asked = ask(&client, arguments);
        match arguments.timeout() {
            None => asked.await,
            Some(most) => {
                let asked = tokio::time::timeout(most, asked).await;
                let seconds = most.as_secs();
                asked.with_context(|| format!("no answer within {seconds} seconds"))?
            }
        }
    });
    match ended {
        Err(error) if error.is::<NotLetIn>() => {
            crate::say_last(format!("dovecast: {error:#}\n"));
            Ok(ExitCode::from(NOT_LET_IN))
        }
        Err(error) if error.is::<NoServer>() => Err(error.context("Unable to connect to server")),
        ended => ended,
    }
}

/// The server that the command line names, asked as its administrator.
fn elsewhere(
    server: Option<&str>,
    port: Option<u16>,
    arguments: &PushUsersArguments,
) -> Result<HttpPlace> {
    let user = arguments.adminuser.as_deref().unwrap_or_default();
    let password = arguments.adminpass.as_deref().unwrap_or_default();
    HttpPlace::new(
        server.unwrap_or("localhost"),
        port,
        basic::header(user, password),
    )
}

async fn ask(client: &Client, arguments: &PushUsersArguments) -> Result<ExitCode> {
    let (context, user) = (&arguments.context, &arguments.user);
    match (context, user, &arguments.client) {
        (Some(context), Some(user), Some(name)) if arguments.unregister => {
            let what = PushRegistration {
                context: context.clone(),
                user: user.clone(),
                client: name.clone(),
            };
            return unregister(client, &what, arguments).await;
        }
        (Some(context), Some(user), _) if arguments.explain => {
            let person = PushPerson {
                context: context.clone(),
                user: user.clone(),
            };
            explain(client, &person, arguments.json).await?;
        }
        _ if arguments.list_client_registrations => clients(client, arguments.json).await?,
        _ => users(client, arguments.json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn users(client: &Client, is_json: bool) -> Result<()> {
    let users = client.push_users().await?;
    if is_json {
        return print_json(&users);
    }
    if users.is_empty() {
        return print("No running push users on this node.\n");
    }
    let row = |one| -> [String; 3] {
        let crate::control::json::PushUserLine {
            context,
            user,
            permanent,
            ..
        } = one;
        [context, user, permanent.to_string()]
    };
    print(&table(
        ["Context", "User", "Permanent"],
        users.into_iter().map(row),
    ))
}

async fn clients(client: &Client, is_json: bool) -> Result<()> {
    let clients = client.push_clients().await?;
    if is_json {
        return print_json(&clients);
    }
    if clients.is_empty() {
        return print("No registered push users.\n");
    }
    let rows = clients
        .into_iter()
        .map(|one| [one.context, one.user, one.client]);
    print(&table(["Context", "User", "Client"], rows))
}

async fn unregister(
    client: &Client,
    what: &PushRegistration,
    arguments: &PushUsersArguments,
) -> Result<ExitCode> {
    let deleted = client.unregister(what).await?;
    if arguments.json {
        let (context, user, client) = (&what.context, &what.user, &what.client);
        print_json(
            &json!({"context": context, "user": user, "client": client, "deleted": deleted > 0}),
        )?;
    } else {
        let said = if deleted > 0 {
            "Push registration successfully deleted"
        } else {
            "No such push registration"
        };
        let [context, user, client] =
            [&what.context, &what.user, &what.client].map(|text| printable(text));
        print(&format!(
            "{said} for user {user} in context {context} for client '{client}'\n"
        ))?;
    }
    if deleted == 0 && arguments.strict {
        return Ok(ExitCode::from(NO_REGISTRATION));
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(client: &Client, person: &PushPerson, is_json: bool) -> Result<()> {
    let explained = client.explain_listener(person).await?;
    if is_json {
        return print_json(&explained);
    }
    let lines = explained.steps.iter().map(|step| printable(step) + "\n");
    print(&lines.collect::<String>())
}

/// A table of Open-Xchange's: the first column at the right, the others at the left and as wide as
/// their longest cell, one blank between.
fn table(head: [&str; 3], rows: impl Iterator<Item = [String; 3]>) -> String {
    // Names are others': nothing of them steers a terminal.
    let rows = rows.map(|row| row.map(|cell| printable(&cell)));
    let rows: Vec<[String; 3]> = std::iter::once(head.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let [first, second, third] = [0, 1, 2].map(width);
    let lines = rows
        .iter()
        .map(|[a, b, c]| format!("{a:>first$} {b:<second$} {c:<third$}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell_with_a_blank_between() {
        let rows = [["1", "249", "true"], ["12345678", "40200", "fal\u{1b}se"]];
        let rows = rows.map(|row| row.map(str::to_owned));
        assert_eq!(
            table(["Context", "User", "Permanent"], rows.into_iter()),
            " Context User  Permanent\n       1 249   true     \n12345678 40200 fal\u{fffd}se   \n"
        );
    }
}
