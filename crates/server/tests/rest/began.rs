//! What is shown of an endpoint's last attempt: the one that began last, whenever the others end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::process::poll_until;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, account, send, shows};
use crate::setup::{User, World, cases, unique};

cases![an_attempt_that_fails_late_is_not_the_last_one];

/// The next request to a receiver, read to its end, and its connection.
fn request(listener: &TcpListener) -> Result<TcpStream> {
    let accepted = poll_until(ARRIVAL, || match listener.accept() {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        accepted => Some(accepted),
    });
    let (stream, _) = accepted.context("no request")??;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ARRIVAL))?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "half a request");
        if let Some(digits) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = digits.trim().parse()?;
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    Ok(reader.into_inner())
}

/// Waits until an attempt at the endpoint has failed.
fn failed(user: &User<'_>, id: &str) -> Result<()> {
    let path = format!("/endpoints/{id}/attempts");
    let failed = poll_until(ARRIVAL, || {
        let attempts = user.get(&path).ok()?.json["data"].clone();
        let mut attempts = attempts.as_array()?.iter();
        let has_failed = attempts.any(|one| one["attributes"]["delivered"] == false);
        has_failed.then_some(())
    });
    failed.with_context(|| format!("{:?}", user.get(&path)))
}

fn an_attempt_that_fails_late_is_not_the_last_one(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/", listener.local_addr()?);
    // Nothing is tried again while this lasts.
    let fields = json!({"name": unique("endpoint"), "url": url, "filter": {},
        "timeout_seconds": 45, "retry_delays": [3600]});
    let id = user.endpoint(&fields)?;
    send(&world.server, &number, &[])?;
    let unanswered = request(&listener)?;
    send(&world.server, &number, &[])?;
    let mut answered = request(&listener)?;
    answered.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    let success = json!("success");
    let before = shows(&user, &id, "last_delivery_status", &success)?;
    drop(unanswered);
    failed(&user, &id)?;
    let after = shows(&user, &id, "last_delivery_status", &success)?;
    ensure!(
        after["first_failure_time"] == Value::Null
            && after["last_delivery_time"] == before["last_delivery_time"],
        "{before}, {after}"
    );
    Ok(())
}
