//! A name with two addresses, the first of which says nothing: what is sent to it gets to the
//! second, and what gets to neither says which were tried.
//!
//! The name stands in a file of hosts that only this test reads, which only root can see to.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use dovecast_testkit::silent::SilentPlace;
use nix::sched::CloneFlags;

use crate::namespace::{self, answer_one};
use crate::{builder, post, send};

const NAME: &str = "several.example";
/// In the order in which the system sorts them (RFC 6724, rule 9): connections come from the first.
const FIRST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// An endpoint of the account of a token that gets everything; its id.
fn endpoint(server: &Server, token: &str, port: u16, timeout_seconds: u32) -> Result<String> {
    let body = format!(
        r#"{{"endpoint":{{"name":"{port}","url":"http://{NAME}:{port}/","timeout_seconds":{timeout_seconds},"filter":{{}}}}}}"#
    );
    let answer = post(server, token, "endpoints", &body)?;
    ensure!(answer.status == 201, "{answer:?}");
    let json: serde_json::Value = serde_json::from_str(&answer.body)?;
    let id = json["data"]["id"].as_str().context("no id")?;
    Ok(id.to_owned())
}

/// What is tried by a thread that is in the namespaces, as all is that it starts.
fn in_namespaces() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let hosts = dir.path().join("hosts");
    let lines = format!("127.0.0.1 localhost\n{FIRST} {NAME}\n{SECOND} {NAME}\n");
    fs::write(&hosts, lines)?;
    // What is mounted here is seen nowhere else.
    namespace::run("mount --make-rprivate /")?;
    namespace::run(&format!("mount --bind {} /etc/hosts", hosts.display()))?;
    let server = builder()
        // Of all lines with a name, as Debian's /etc/host.conf has it.
        .env("RESOLV_MULTI", "on")
        .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
        .start()?;
    let token = server.account_token("1")?;

    let first = SilentPlace::at(FIRST, 0)?;
    let port = first.address().port();
    let listener = TcpListener::bind((SECOND, port))?;
    endpoint(&server, &token, port, 45)?;
    send(&server, &token, "to the second")?;
    let request = answer_one(&listener)?;
    ensure!(request.starts_with("POST / HTTP/1.1\r\n"), "{request}");

    let first = SilentPlace::at(FIRST, 0)?;
    let port = first.address().port();
    let second = SilentPlace::at(SECOND, port)?;
    let id = endpoint(&server, &token, port, 1)?;
    send(&server, &token, "to neither")?;
    let told = format!("no connection to {}, {}", first.address(), second.address());
    let found = poll_until(PATIENCE, || {
        let attempts = server.run(["attempts", &id, "--json"]).ok()?;
        attempts.contains(&told).then_some(())
    });
    found.with_context(|| format!("{told}: {:?}", server.run(["attempts", &id, "--json"])))
}

#[test]
fn the_next_address_of_a_name_is_tried_and_a_failure_names_them_all() -> Result<()> {
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    namespace::enter("a name with several addresses", namespaces, in_namespaces)
}
