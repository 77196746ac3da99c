//! An endpoint whose secrets cannot be opened: it is paused and counted, costs others nothing, and
//! gets everything once they can be opened.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;
const METRIC: &str = "dovecast_dispatch_locked_endpoints";

fn sealed(server: &Server) -> Result<rusqlite::Connection> {
    let path = server.data_dir().join("state.db");
    Ok(rusqlite::Connection::open(path)?)
}

fn send(server: &Server, token: &str, message: &str) -> Result<()> {
    let body = format!(
        r#"{{"application":"dovecot","event_type":"MessageNew","level":null,"message":"{message}"}}"#
    );
    let request = Request::new("POST", "/api/hooks/messages")
        .header("authorization", &format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(body);
    let answer = server.ask(&request)?;
    ensure!(answer.status == 201, "{answer:?}");
    Ok(())
}

#[test]
fn an_endpoint_whose_secrets_cannot_be_opened_is_counted_and_gets_all_later() -> Result<()> {
    let (locked, other) = (HookEndpoint::start()?, HookEndpoint::start()?);
    let mut server = Server::builder()
        .binary(env!("CARGO_BIN_EXE_dovecast"))
        .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
        .start()?;
    let token = server.account_token("1")?;
    let id = server.endpoint(&token, ("locked", &locked.url()), "true")?;
    server.endpoint(&token, ("other", &other.url()), "true")?;
    ensure!(server.metric(METRIC)? < 0.5);
    server.stop()?;
    let database = sealed(&server)?;
    let before: String =
        database.query_row("SELECT sealed FROM endpoint WHERE id = ?1", [&id], |row| {
            row.get(0)
        })?;
    let put = "UPDATE endpoint SET sealed = ?1 WHERE id = ?2";
    let mut broken = before.clone();
    let last = broken.pop().context("nothing is sealed")?;
    broken.push(if last == 'A' { 'B' } else { 'A' });
    database.execute(put, [&broken, &id])?;
    drop(database);

    server.start_again()?;
    ensure!((0.5..1.5).contains(&server.metric(METRIC)?));
    send(&server, &token, "first")?;
    other.wait_for(1, PATIENCE)?;
    ensure!(locked.count() == 0, "it was delivered without its secret");
    server.stop()?;
    sealed(&server)?.execute(put, [&before, &id])?;

    server.start_again()?;
    ensure!(server.metric(METRIC)? < 0.5);
    let hooks = locked.wait_for(1, PATIENCE)?;
    ensure!(hooks.len() == 1, "{hooks:?}");
    poll_until(PATIENCE, || (other.count() == 1).then_some(()))
        .context("the other one has it twice")?;
    Ok(())
}
