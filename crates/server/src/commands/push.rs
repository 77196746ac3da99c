//! `dovecast push`: devices of a person, tested, listed, and why one did not ring.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::deliveries::{print_json, rows, time};
use super::lists::aligned;
use super::pretty::printable;
use super::print;
use crate::cli::{PushAct, PushDevicesArguments};
use crate::control::client::Client;
use crate::control::json::{DeviceLine, PushDevices};

pub(super) async fn run(client: &Client, act: &PushAct) -> Result<ExitCode> {
    match act {
        PushAct::Test(of) => return test(client, of).await,
        PushAct::Devices(of) => devices(client, of).await?,
        PushAct::Why(of) => why(client, of).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn named(of: &PushDevicesArguments) -> PushDevices {
    PushDevices {
        context: of.context.clone(),
        user: of.user.clone(),
        client: of.client.clone(),
    }
}

/// Fails where there is nothing to speak of.
fn must_have<T>(found: &[T], of: &PushDevicesArguments) -> Result<()> {
    if !found.is_empty() {
        return Ok(());
    }
    let (user, context) = (printable(&of.user), printable(&of.context));
    match &of.client {
        Some(client) => bail!(
            "user {user} in context {context} has no device of the client `{}`",
            printable(client)
        ),
        None => bail!("user {user} in context {context} has no device"),
    }
}

/// Ends with 1 unless each device's service has accepted the test.
async fn test(client: &Client, of: &PushDevicesArguments) -> Result<ExitCode> {
    let tested = client.test_devices(&named(of)).await?;
    must_have(&tested, of)?;
    if of.json {
        print_json(&tested)?;
    } else {
        let mut table = rows(["CLIENT", "TRANSPORT", "TOKEN", "ACCEPTED", "ANSWER"]);
        for one in &tested {
            let accepted = if one.accepted { "yes" } else { "no" };
            table.push([
                one.device.client.clone(),
                one.device.transport.clone(),
                token(&one.device),
                accepted.to_owned(),
                one.answer.clone(),
            ]);
        }
        print(&aligned(&table, 5))?;
    }
    Ok(if tested.iter().all(|one| one.accepted) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn devices(client: &Client, of: &PushDevicesArguments) -> Result<()> {
    let devices = client.devices(&named(of)).await?;
    if of.json {
        return print_json(&devices);
    }
    must_have(&devices, of)?;
    let mut table = rows([
        "ID",
        "CLIENT",
        "TRANSPORT",
        "TOKEN",
        "TOPICS",
        "EXPIRES",
        "ANSWERED",
        "ANSWER",
    ]);
    for device in &devices {
        let answer = device.answer.as_ref();
        let status = answer.and_then(|answer| answer.status);
        let words = [
            status.map(|status| status.to_string()),
            answer.map(|answer| answer.reason.clone()),
        ];
        let words: Vec<String> = words.into_iter().flatten().collect();
        table.push([
            device.id.clone(),
            device.client.clone(),
            device.transport.clone(),
            token(device),
            device.topics.join(","),
            time(device.expires_ms),
            time(answer.map(|answer| answer.time_ms)),
            if words.is_empty() {
                "-".to_owned()
            } else {
                words.join(" ")
            },
        ]);
    }
    print(&aligned(&table, 8))
}

async fn why(client: &Client, of: &PushDevicesArguments) -> Result<()> {
    let silent = client.why_silent(&named(of)).await?;
    if of.json {
        return print_json(&silent);
    }
    let mut lines: Vec<String> = silent.person.iter().map(|line| printable(line)).collect();
    for one in &silent.devices {
        let (name, transport) = (printable(&one.device.client), &one.device.transport);
        let token = printable(&token(&one.device));
        lines.push(format!(
            "device of client `{name}`, {transport}, token {token}"
        ));
        for hop in &one.hops {
            lines.push(format!("  {}", printable(hop)));
        }
    }
    print(&(lines.join("\n") + "\n"))?;
    must_have(&silent.devices, of)
}

/// The end of a token, as all of it that is shown.
fn token(device: &DeviceLine) -> String {
    format!("...{}", device.last_four)
}
