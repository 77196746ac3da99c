//! Ids of records: a mail user has none of those that the server makes, and who knows them keeps
//! nothing out of the log.

use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{MAIL_USER, all_lost, event, lost, sent, sent_with_ids, server};

/// Whose mails are reported.
const ANNA: &str = "anna@example.org";
/// UIDs of mails whose ids somebody knows before they come.
const UIDS: RangeInclusive<u32> = 2..=50;

/// Ids of the form that the server makes of what it takes in are nobody else's.
pub(crate) fn no_id_of_the_servers_own_is_taken(dir: &Path) -> Result<()> {
    let server = server(dir, &format!("allow = ['{MAIL_USER}']"))?;
    let own = uuid::Builder::from_custom_bytes([7; 16]).into_uuid();
    let value = event("alice");
    let record = ("dovecot", "alice", &*value);
    let news = sent_with_ids(dir, std::iter::once((own, record)))?;
    let reason = format!("the relay does not take them: the id {own} is one of dovecast's own");
    ensure!(lost(&news) == Some((1, &*reason)), "{news:?}");
    // The record itself is one like others.
    let news = sent(dir, &[record])?;
    ensure!(news.is_empty(), "{news:?}");
    ensure!(server.values("dovecot")? == [value]);
    Ok(())
}

/// Reports mails of Anna, as Dovecot's own driver does.
fn report_mails(server: &Server) -> Result<()> {
    let login = format!("Basic {}", STANDARD.encode("dovecot:s3cret"));
    for uid in UIDS {
        let mail = json!({"user": ANNA, "event": "messageNew", "folder": "INBOX",
            "imap-uidvalidity": 1, "imap-uid": uid});
        let path = format!("/preliminary/http-notify/v1/notify?of={ANNA}");
        let request = Request::new("PUT", &path)
            .header("Authorization", &login)
            .header("Content-Type", "application/json")
            .body(mail.to_string());
        let answer = server.ask(&request)?;
        ensure!(answer.status == 200, "{uid}: {answer:?}");
    }
    Ok(())
}

/// UIDs of the events that are in the log, and their ids.
fn reported(server: &Server) -> Result<Vec<(u64, Uuid)>> {
    let mut found = Vec::new();
    for record in server.records("dovecot")? {
        let record: Value = serde_json::from_str(&record)?;
        let headers = record["headers"].as_array().context("no headers")?;
        let mut named = headers
            .iter()
            .filter(|header| header["name"] == "dovecast-id");
        let id = named.next().and_then(|header| header["value"].as_str());
        let event: Value = serde_json::from_str(record["value"].as_str().context("no text")?)?;
        let uid = event["uid"].as_u64().context("no UID")?;
        found.push((uid, id.context("no id")?.parse()?));
    }
    found.sort_unstable();
    Ok(found)
}

/// Appends records with these ids to a topic, over the control socket; gives what is answered.
fn append(server: &Server, topic: &str, ids: &[Uuid]) -> Result<String> {
    let records = ids.iter().map(
        |id| json!({"topic": topic, "key": ANNA, "value": "{}", "timestamp_ms": 0, "id": id.to_string()}),
    );
    let body = json!({"records": records.collect::<Vec<_>>()}).to_string();
    let mut stream = UnixStream::connect(server.control_socket())?;
    write!(
        stream,
        "POST /v1/records HTTP/1.1\r\nHost: dovecast\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Who knows the ids of mails before they come, and has them in the log, keeps none of them out.
pub(crate) fn no_mail_is_kept_out_by_its_id(dir: &Path) -> Result<()> {
    let key = dir.join("ox.key");
    let ox = format!(
        "[ox]\nuser = 'dovecot'\npassword = 's3cret'\nkey_file = '{}'",
        key.display()
    );
    // One with the same key makes the same ids.
    let other = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let other = other.config(&ox).start()?;
    report_mails(&other)?;
    let foretold = reported(&other)?;
    ensure!(foretold.len() == UIDS.count(), "{foretold:?}");
    let ids: Vec<Uuid> = foretold.iter().map(|(_, id)| *id).collect();

    let section = format!("allow = ['{MAIL_USER}']\ntopics = ['dovecot', 'junk']\n{ox}");
    let server = server(dir, &section)?;
    for topic in ["junk", "dovecot"] {
        let records = ids.iter().map(|id| (*id, (topic, ANNA, "{}")));
        let news = sent_with_ids(dir, records)?;
        ensure!(all_lost(&news) == ids.len() as u64, "{topic}: {news:?}");
    }
    // Whoever can do more than a mail user has them in another topic.
    let said = append(&server, "junk", &ids)?;
    let all = format!("\"appended\":{}", ids.len());
    ensure!(said.contains(&all), "{said}");
    report_mails(&server)?;
    let arrived = reported(&server)?;
    ensure!(arrived == foretold, "{arrived:?}");
    Ok(())
}
