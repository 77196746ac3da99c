//! A public address that is this host's own: what listens there is often meant for the host alone,
//! so no webhook goes there unless the configuration says so.
//!
//! The address is that of a network namespace of the test's, which only root can make.

use std::net::TcpListener;
use std::thread;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::server::Server;
use nix::sched::CloneFlags;

use crate::namespace::{self, answer_one};
use crate::{builder, post};

/// A public address, of somebody else's outside of the namespace.
const OWN: &str = "8.8.8.8";

/// An endpoint of the account of a token, with what was said of it.
fn endpoint(server: &Server, token: &str, url: &str) -> Result<(String, String)> {
    let body = format!(r#"{{"endpoint":{{"name":"e","url":"{url}","filter":{{}}}}}}"#);
    let answer = post(server, token, "endpoints", &body)?;
    ensure!(answer.status == 201, "{answer:?}");
    let json: serde_json::Value = serde_json::from_str(&answer.body)?;
    let id = json["data"]["id"].as_str().context("no id")?;
    Ok((id.to_owned(), json["meta"]["warnings"].to_string()))
}

/// What is tried by a thread that is in the namespace, as all is that it starts.
fn in_namespace() -> Result<()> {
    namespace::run(&format!("ip address add {OWN}/32 dev lo"))?;
    let listener = TcpListener::bind((OWN, 0))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let server = builder().start()?;
    let token = server.account_token("1")?;
    let (id, warnings) = endpoint(&server, &token, &url)?;
    ensure!(
        warnings.contains("`[dispatch] allowed_networks`"),
        "{warnings}"
    );
    let said = post(&server, &token, &format!("endpoints/{id}/test"), "")?;
    ensure!(
        said.status == 502 && said.body.contains("allowed_networks"),
        "{said:?}"
    );
    listener.set_nonblocking(true)?;
    let came = listener.accept();
    ensure!(came.is_err(), "somebody was let through: {came:?}");
    // Nobody learns whether anything listens there.
    drop(listener);
    let of_nothing = post(&server, &token, &format!("endpoints/{id}/test"), "")?;
    ensure!(
        of_nothing.body == said.body,
        "{said:?} is not {of_nothing:?}"
    );
    drop(server);

    let allowed = format!("[dispatch]\nallowed_networks = ['{OWN}']");
    let server = builder().config(&allowed).start()?;
    let token = server.account_token("1")?;
    let listener = TcpListener::bind((OWN, 0))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let answering = thread::spawn(move || answer_one(&listener));
    let (id, warnings) = endpoint(&server, &token, &url)?;
    ensure!(!warnings.contains("allowed_networks"), "{warnings}");
    let said = post(&server, &token, &format!("endpoints/{id}/test"), "")?;
    ensure!(said.status == 204, "{said:?}");
    answering.join().expect("no panic")?;
    Ok(())
}

#[test]
fn nothing_goes_to_a_public_address_of_this_host() -> Result<()> {
    namespace::enter(
        "an address of this host",
        CloneFlags::CLONE_NEWNET,
        in_namespace,
    )
}
