//! A window of live events (SSE) with a log in Kafka: its node is killed, and it goes on at another
//! one with its cursor, told of everything once.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::cases::cases;
use crate::cluster::{PARTITIONS, PATIENCE, Services};

cases![a_window_whose_node_is_killed_goes_on_at_another_one];

/// A client of `GET /events`.
struct Window(BufReader<TcpStream>);

/// What comes on it.
#[derive(Debug, PartialEq)]
enum Told {
    /// UID of a new mail, and the cursor.
    Mail(u64, String),
    /// A cursor alone.
    Cursor(String),
}

impl Window {
    fn open(node: &Server, token: &str, cursor: Option<&str>) -> Result<Self> {
        let mut stream = TcpStream::connect(node.address()?)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let cursor = cursor.map(|id| format!("last-event-id: {id}\r\n"));
        let cursor = cursor.unwrap_or_default();
        write!(
            stream,
            "GET /api/push/v1/events?session={token} HTTP/1.1\r\nhost: localhost\r\n{cursor}\r\n"
        )?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The next cursor or mail; heads, the framing of chunks and comments are passed over.
    fn next(&mut self) -> Result<Told> {
        let (mut id, mut is_mail) = (None, false);
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "the stream has ended");
            let line = line.trim_end();
            if let Some(text) = line.strip_prefix("id: ") {
                id = Some(text.to_owned());
            } else if let Some(topic) = line.strip_prefix("event: ") {
                ensure!(topic == "mail:new", "{line}");
                is_mail = true;
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data)?;
                ensure!(data["person"]["user"] == "11", "{data}");
                let uid = data["uid"].as_u64().context("no UID")?;
                return Ok(Told::Mail(uid, id.context("no cursor")?));
            } else if line.is_empty()
                && !is_mail
                && let Some(id) = id.take()
            {
                return Ok(Told::Cursor(id));
            }
        }
    }

    /// The next mail, and its cursor.
    fn mail(&mut self) -> Result<(u64, String)> {
        loop {
            if let Told::Mail(uid, cursor) = self.next()? {
                return Ok((uid, cursor));
            }
        }
    }
}

const TOPIC: &str = "streams";

fn send(node: &Server, user: &str, uid: u64) -> Result<()> {
    let event = json!({"user": user, "mailbox": "INBOX", "event": "MessageNew", "uidvalidity": 7, "uid": uid});
    let event = event.to_string();
    node.run(["send", "--topic", TOPIC, "--key", user, &event])?;
    Ok(())
}

fn a_window_whose_node_is_killed_goes_on_at_another_one(services: &mut Services) -> Result<()> {
    services.kafka.create_topic(TOPIC, PARTITIONS)?;
    let database = services.postgres.database()?;
    let mut nodes = Vec::new();
    for number in 0..2 {
        let more = format!("event_topics = ['{TOPIC}']\n[mail_push]\nping_seconds = 1\n");
        let node = services.node(number, (TOPIC, &database), &more)?;
        nodes.push(node.start()?);
    }
    let wanted = json!({"token": {"name": "t", "scope": "person", "context": "3", "user": "11"}});
    let request = Request::new("POST", "/api/hooks/tokens")
        .header(
            "Authorization",
            &format!("Bearer {}", nodes[0].admin_token()?),
        )
        .header("Content-Type", "application/json")
        .body(wanted.to_string());
    let made: Value = serde_json::from_str(&nodes[0].ask(&request)?.body)?;
    let token = made["meta"]["token"].as_str().context("no token")?;

    let mut window = Window::open(&nodes[0], token, None)?;
    window.next()?;
    send(&nodes[1], "12@3", 1)?;
    send(&nodes[1], "11@3", 1)?;
    let (uid, cursor) = window.mail()?;
    ensure!(uid == 1, "{uid}");
    nodes[0].kill()?;
    for uid in [2, 3] {
        send(&nodes[1], "12@3", uid)?;
        send(&nodes[1], "11@3", uid)?;
    }
    let mut window = Window::open(&nodes[1], token, Some(&cursor))?;
    ensure!(window.mail()?.0 == 2);
    let (uid, last) = window.mail()?;
    ensure!(uid == 3, "{uid}");
    // While nothing is told the cursor goes on with what others are told in its partition, and is
    // good for all that comes.
    let idle = loop {
        match window.next()? {
            Told::Cursor(cursor) if cursor.contains('.') => break cursor,
            Told::Cursor(_) => {}
            Told::Mail(uid, _) => anyhow::bail!("{uid} is told again"),
        }
    };
    let place = |cursor: &str| cursor.split_once('.').map(|(_, place)| place.to_owned());
    ensure!(place(&idle) == place(&last), "{idle} behind {last}");
    drop(window);
    send(&nodes[1], "11@3", 4)?;
    let mut window = Window::open(&nodes[1], token, Some(&idle))?;
    ensure!(window.mail()?.0 == 4);
    Ok(())
}
