//! What one party of this host may use up: topics, the log, the spill directory, its addresses,
//! memory. Whoever has nothing to do with it goes on beside it.

#[cfg(feature = "kafka")]
mod memory;
mod namespace;
mod own_address;
mod retention;
mod several_addresses;
mod spills;
mod taken_by_clients;
mod topics;

use anyhow::{Result, ensure};
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::clock::now_ms;
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::server::{Builder, Server};
use uuid::Uuid;

fn builder() -> Builder {
    Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"))
}

/// A record that is a transaction of its own.
fn record<'a>(topic: &'a str, key: &'a str, value: &'a str) -> WireRecord<'a> {
    WireRecord {
        topic,
        key: key.as_bytes(),
        value: value.as_bytes(),
        time_ms: u64::try_from(now_ms()).unwrap_or_default(),
        id: Uuid::now_v7(),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    }
}

fn event(user: &str, uid: u32) -> String {
    format!(
        r#"{{"user":"{user}","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":{uid}}}"#
    )
}

/// Sends a notification to the account of a token.
fn send(server: &Server, token: &str, message: &str) -> Result<()> {
    let body =
        format!(r#"{{"application":"a","event_type":"e","level":null,"message":"{message}"}}"#);
    let answer = post(server, token, "messages", &body)?;
    ensure!(answer.status == 201, "{answer:?}");
    Ok(())
}

fn post(server: &Server, token: &str, path: &str, body: &str) -> Result<Answer> {
    let request = Request::new("POST", &format!("/api/hooks/{path}"))
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/json")
        .body(body);
    server.ask(&request)
}
