//! Where webhooks may go: to a network at the ports that are named, and what an account learns of
//! what listens there.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::loopback;
use dovecast_testkit::silent::SilentPlace;
use serde_json::json;

use crate::setup::{World, bearer, cases, text, unique};

cases![
    a_network_is_allowed_at_the_port_that_its_entry_names,
    what_refuses_and_what_says_nothing_are_told_of_in_the_same_words,
];

fn a_network_is_allowed_at_the_port_that_its_entry_names(world: &World) -> Result<()> {
    let (named, other) = (HookEndpoint::start()?, HookEndpoint::start()?);
    let url = named.url();
    let place = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split('/').next());
    let place = place.context("no address")?;
    let config = format!("[dispatch]\nallowed_networks = ['{place}']");
    let server = world.fresh()?.0.config(&config).start()?;
    let user = bearer(&server, &server.account_token("1")?);
    for (name, sink, status) in [("named", &named, 204), ("other", &other, 502)] {
        let endpoint = json!({"endpoint": {"name": name, "url": sink.url(), "filter": {}}});
        let made = user.post("/endpoints", &endpoint)?.with(201)?;
        let warnings = made.json["meta"]["warnings"].to_string();
        let is_warned = warnings.contains("allowed_networks");
        ensure!(is_warned == (status == 502), "{name}: {made:?}");
        let id = text(&made.json["data"]["id"])?;
        let said = user
            .post(&format!("/endpoints/{id}/test"), &json!({}))?
            .with(status)?;
        let is_named = said.answer.body.contains("allowed_networks");
        ensure!(is_named == (status == 502), "{name}: {said:?}");
    }
    ensure!(named.count() == 1 && other.count() == 0);
    Ok(())
}

/// Else `/test` would be a scanner of ports, within the networks that are allowed.
fn what_refuses_and_what_says_nothing_are_told_of_in_the_same_words(world: &World) -> Result<()> {
    let refusing = SocketAddr::from((loopback::unique_address(), 9_999));
    let silent = SilentPlace::at(Ipv4Addr::LOCALHOST, 0)?;
    let user = world.account();
    let mut told = Vec::new();
    for address in [refusing, silent.address()] {
        let url = format!("http://{address}/");
        let fields = json!({"name": unique("endpoint"), "url": url, "timeout_seconds": 1});
        let id = user.endpoint(&fields)?;
        let said = user
            .post(&format!("/endpoints/{id}/test"), &json!({}))?
            .with(502)?;
        let detail = text(&said.json["errors"][0]["detail"])?;
        ensure!(detail == format!("no connection to {address}"), "{said:?}");
        told.push(said.answer.body.replace(&address.to_string(), "ADDRESS"));
    }
    ensure!(told[0] == told[1], "{told:?}");
    Ok(())
}
