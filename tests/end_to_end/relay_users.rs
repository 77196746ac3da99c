//! One LMTP process that serves users of several user ids while the relay is away and after it has
//! come: what is of one user is in no file and on no connection of another.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::Installation;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use serde_json::Value;

use crate::case::cases;
use crate::setup::{ARRIVAL, with_plugin};
use crate::story::{MAIL, lost};

cases![mail_of_users_with_ids_of_their_own_is_in_files_and_on_connections_of_their_own];

const USERS: [(&str, u32); 2] = [("anna", 61_001), ("ben", 61_002)];
/// Whose mails come, one after the other over one connection.
const RECIPIENTS: [&str; 3] = ["anna", "ben", "anna"];

/// Owners of the spill files, each with what is in its files.
fn spilled(dir: &Path) -> Result<BTreeMap<u32, String>> {
    let mut found: BTreeMap<u32, String> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let bytes = fs::read(&path)?;
        let text = found.entry(fs::metadata(&path)?.uid()).or_default();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    Ok(found)
}

/// Users of the events in the log, each with the user id of the process that has sent it.
fn arrived(server: &Server) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for record in server.records("dovecot")? {
        let record: Value = serde_json::from_str(&record)?;
        let text = record["value"].as_str().context("no text")?;
        let event: Value = serde_json::from_str(text)?;
        let headers = record["headers"].as_array().context("no headers")?;
        let uid = headers
            .iter()
            .find(|header| header["name"] == "dovecast-uid");
        let uid = uid.and_then(|header| header["value"].as_str());
        found.push((
            event["user"].as_str().context("no user")?.to_owned(),
            uid.context("no user id")?.to_owned(),
        ));
    }
    Ok(found)
}

fn mail_of_users_with_ids_of_their_own_is_in_files_and_on_connections_of_their_own(
    on: Installation,
) -> Result<()> {
    let mut builder = with_plugin(on, Build::Dev)?
        .relay()
        .driver("kafka:events=MessageNew");
    for (name, uid) in USERS {
        builder = builder.user_with_uid(name, uid);
    }
    let dovecot = builder.start()?;
    let dir = dovecot.relay_dir();
    let mut server = Server::builder()
        .relay(dir.join("relay.sock"), dir.join("spill"))
        .config("allow = [\"61001-61002\"]")
        .prepare()?;
    let mut lmtp = dovecot.lmtp()?;
    for recipient in RECIPIENTS {
        lmtp.deliver_ok("bob@sender.example", &[recipient], MAIL)?;
    }
    let files = spilled(&dir.join("spill"))?;
    for (name, uid) in USERS {
        let own = files.get(&uid).with_context(|| format!("{files:?}"))?;
        let users = USERS.map(|(user, _)| own.contains(&format!("\"user\":\"{user}\"")));
        let expected = USERS.map(|(user, _)| user == name);
        ensure!(users == expected, "{uid} has {own}");
    }
    ensure!(files.len() == USERS.len(), "{files:?}");
    server.start_again()?;
    for recipient in RECIPIENTS {
        lmtp.deliver_ok("bob@sender.example", &[recipient], MAIL)?;
    }
    lmtp.quit()?;
    let all = 2 * RECIPIENTS.len();
    let come = process::poll_until(ARRIVAL, || {
        arrived(&server).ok().filter(|come| come.len() >= all)
    });
    let come = come.with_context(|| format!("{:?}: {}", arrived(&server), server.server_log()))?;
    ensure!(come.len() == all, "{come:?}");
    for (user, uid) in come {
        let own = USERS.iter().find(|(name, _)| *name == user);
        let own = own.with_context(|| format!("nobody's: {user}"))?.1;
        ensure!(uid == own.to_string(), "{user}: {uid}");
    }
    ensure!(lost(&dovecot.log()) == 0, "events are lost");
    Ok(())
}
