//! `/socket.io/appsuite/`, as clients of Engine.IO 3 and 4 speak it.

use std::io::BufRead;

use dovecast_testkit::PATIENCE;
use dovecast_testkit::clock::now_ms;
use dovecast_testkit::http::{Answer, Request};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::client::{World, head};

const PATH: &str = "/socket.io/appsuite/";
const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

/// Mails that a client has missed: more than are read ahead of it.
const MISSED: u32 = 200;

/// What the original sends of [`World::mail`].
fn expected(uid: &str) -> Value {
    json!(["ox:mail:new", {"folder": "default0/INBOX", "id": uid, "email": "alice@barfoo.org",
        "displayname": "Alice", "subject": "Lunch?", "unread": 4, "teaser": "At noon"}])
}

struct Window(WebSocketStream<TcpStream>);

impl Window {
    async fn open(world: &World, query: &str) -> Self {
        let mut reader = world.connect(&format!(
            "GET {PATH}?{query}&transport=websocket HTTP/1.1\r\n{UPGRADE}"
        ));
        let (status, head) = head(&mut reader);
        assert_eq!(status, 101, "{head}");
        // What stands behind the head already would be lost.
        let ahead = reader.buffer().to_vec();
        let stream = reader.into_inner();
        stream.set_nonblocking(true).expect("a mode");
        let stream = TcpStream::from_std(stream).expect("a stream");
        Self(WebSocketStream::from_partially_read(stream, ahead, Role::Client, None).await)
    }

    async fn next(&mut self) -> String {
        let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
        let next = next.expect("in time").expect("a message").expect("read");
        next.into_text().expect("a text").to_string()
    }

    async fn say(&mut self, packet: &str) {
        self.0.send(Message::text(packet)).await.expect("sent");
    }
}

/// The JSON behind the type of a packet.
fn json_of(packet: &str, kind: &str) -> Value {
    let text = packet
        .strip_prefix(kind)
        .unwrap_or_else(|| panic!("{packet} is no {kind}"));
    serde_json::from_str(text).expect("JSON")
}

fn poll(world: &World, query: &str, body: Option<&str>) -> Answer {
    let path = format!("{PATH}?transport=polling&{query}");
    let request = match body {
        Some(body) => Request::new("POST", &path).body(body),
        None => Request::get(&path),
    };
    world.server.ask(&request).expect("an answer")
}

#[tokio::test]
async fn windows_of_both_versions_get_the_fields_of_the_original() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    for (version, uid) in [("3", 113), ("4", 114)] {
        let mut window = Window::open(&world, &format!("EIO={version}&session={token}")).await;
        let open = json_of(&window.next().await, "0");
        assert!(open["sid"].is_string());
        assert_eq!(open["upgrades"], json!([]));
        assert_eq!(
            (&open["pingInterval"], &open["pingTimeout"]),
            (&json!(25000), &json!(5000))
        );
        if version == "4" {
            window.say("40").await;
            assert!(json_of(&window.next().await, "40")["sid"].is_string());
        } else {
            assert_eq!(window.next().await, "40");
            window.say("2probe").await;
            assert_eq!(window.next().await, "3probe");
        }
        world.mail("12@3", 900);
        world.mail("11@3", uid);
        assert_eq!(
            json_of(&window.next().await, "42"),
            expected(&uid.to_string())
        );
        window.say("1").await;
        world.streams(0);
    }
}

#[tokio::test]
async fn a_server_pings_version_four_and_cuts_who_does_not_answer() {
    // As long as an answer may take on a machine that is busy.
    let world = World::start("ping_seconds = 5");
    let (token, _) = world.token("3", "11");
    let mut window = Window::open(&world, &format!("EIO=4&session={token}")).await;
    assert!(window.next().await.starts_with('0'));
    assert_eq!(window.next().await, "2");
    window.say("3").await;
    assert_eq!(window.next().await, "2");
    world.streams(0);
    world.counted("stream_silent", 1);
}

#[tokio::test]
async fn a_window_of_version_three_has_the_timeout_beyond_its_interval() {
    let world = World::start("ping_seconds = 1");
    let (token, _) = world.token("3", "11");
    let mut pings = Window::open(&world, &format!("EIO=3&session={token}")).await;
    // The other is to answer a ping before the next one.
    let silent = Window::open(&world, &format!("EIO=4&session={token}")).await;
    assert!(pings.next().await.starts_with('0'));
    assert_eq!(pings.next().await, "40");
    pings.say("2").await;
    assert_eq!(pings.next().await, "3");
    world.counted("stream_silent", 1);
    world.streams(1);
    drop((pings, silent));
}

#[tokio::test]
async fn windows_that_never_connect_keep_nobody_from_catching_up() {
    let world = World::start("ping_seconds = 3600");
    let ((token, _), (other, _)) = (world.token("3", "11"), world.token("3", "12"));
    let since = now_ms();
    missed(&world, "11@3", &token);
    world.mail("12@3", 900);
    let mut windows = Vec::new();
    for _ in 0..8 {
        let query = format!("EIO=4&session={token}&last_event_id={since}");
        let mut window = Window::open(&world, &query).await;
        assert!(window.next().await.starts_with('0'));
        windows.push(window);
    }
    catches_up(&world, &other, since);
    // One that connects late is told all of it.
    let mut window = windows.pop().expect("a window");
    window.say("40").await;
    assert!(window.next().await.starts_with("40"));
    for _ in 0..MISSED {
        assert_eq!(json_of(&window.next().await, "42"), expected("1"));
    }
}

#[test]
fn clients_that_poll_no_more_keep_nobody_from_catching_up() {
    let world = World::start("ping_seconds = 3600");
    let (other, _) = world.token("3", "12");
    let since = now_ms();
    world.mail("12@3", 900);
    for person in 20..24 {
        let (token, _) = world.token("3", &person.to_string());
        missed(&world, &format!("{person}@3"), &token);
        for _ in 0..2 {
            let query = format!("EIO=3&session={token}");
            let first = poll(&world, &format!("{query}&last_event_id={since}"), None);
            let (_, sid) = first.body.split_once("\"sid\":\"").expect("a name");
            let (sid, _) = sid.split_once('"').expect("a name");
            // It asks once, and is told some of it.
            let told = poll(&world, &format!("{query}&sid={sid}"), None);
            assert!(told.body.contains("42["), "{}", told.body);
        }
    }
    catches_up(&world, &other, since);
}

/// A stream of 12@3 is told what that person has missed.
fn catches_up(world: &World, token: &str, since: i64) {
    let query = format!("session={token}&last_event_id={since}");
    assert!(lines(world, &query).any(|line| line.contains("\"uid\":900,")));
}

/// So that a client misses mails: they are in the log, and the server has read them.
fn missed(world: &World, login: &str, token: &str) {
    let told = lines(world, &format!("session={token}"));
    world.mails(login, MISSED);
    let told = told.filter(|line| line.contains("\"uid\":1,"));
    assert_eq!(told.take(MISSED as usize).count(), MISSED as usize);
}

/// Lines of a stream of server-sent events.
fn lines(world: &World, query: &str) -> impl Iterator<Item = String> + use<> {
    let mut reader = world.connect(&format!("GET /api/push/v1/events?{query} HTTP/1.1"));
    assert_eq!(head(&mut reader).0, 200);
    reader.lines().map(|line| line.expect("a line"))
}

#[test]
fn a_poll_on_which_nothing_is_told_is_answered_in_the_time_of_its_request() {
    let world = World::with("", "request_timeout_seconds = 2");
    let (token, _) = world.token("3", "11");
    let query = format!("EIO=3&session={token}");
    let first = poll(&world, &query, None);
    let (_, sid) = first.body.split_once("\"sid\":\"").expect("a name");
    let (sid, _) = sid.split_once('"').expect("a name");
    let told = poll(&world, &format!("{query}&sid={sid}"), None);
    assert_eq!((told.status, told.body.as_str()), (200, "1:6"));
}

#[test]
fn polls_of_both_versions_get_the_fields_of_the_original() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let (other, _) = world.token("3", "12");
    for version in ["3", "4"] {
        let query = format!("EIO={version}&session={token}");
        let first = poll(&world, &query, None);
        assert_eq!(first.status, 200, "{}", first.body);
        let open = match version {
            "3" => {
                // Each packet has its length before it.
                let body = first.body.strip_suffix("2:40").expect("a packet more");
                let (length, packet) = body.split_once(':').expect("a length");
                assert_eq!(length, packet.len().to_string());
                json_of(packet, "0")
            }
            _ => json_of(&first.body, "0"),
        };
        assert_eq!(open["upgrades"], json!([]));
        let sid = open["sid"].as_str().expect("a name");
        let query = format!("{query}&sid={sid}");
        if version == "4" {
            assert_eq!(poll(&world, &query, Some("40")).body, "ok");
            assert!(poll(&world, &query, None).body.starts_with("40{"));
        } else {
            assert_eq!(poll(&world, &query, Some("1:2")).body, "ok");
            assert_eq!(poll(&world, &query, None).body, "1:3");
        }
        for uid in [1, 2] {
            world.mail("11@3", uid);
        }
        let mut told = Vec::new();
        while told.len() < 2 {
            let body = poll(&world, &query, None).body;
            let packets: Vec<&str> = match version {
                "4" => body.split('\u{1e}').collect(),
                _ => body
                    .split("42[")
                    .skip(1)
                    .map(|text| &text[..=text.rfind(']').expect("an end")])
                    .collect(),
            };
            for packet in packets {
                let packet = packet.strip_prefix("42[").unwrap_or(packet);
                told.push(json_of(&format!("[{packet}"), ""));
            }
        }
        assert_eq!(told, [expected("1"), expected("2")]);
        // The name of a stream is good for its person only.
        let theirs = format!("EIO={version}&session={other}&sid={sid}");
        assert_eq!(poll(&world, &theirs, None).status, 400);
        world.streams(1);
        let close = if version == "4" { "1" } else { "1:1" };
        assert_eq!(poll(&world, &query, Some(close)).body, "ok");
        world.streams(0);
        assert_eq!(poll(&world, &query, None).status, 400);
    }
}

#[test]
fn a_client_that_polls_leaves_by_saying_so() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let query = format!("EIO=4&session={token}");
    let open = json_of(&poll(&world, &query, None).body, "0");
    let query = format!("{query}&sid={}", open["sid"].as_str().expect("a name"));
    world.streams(1);
    assert_eq!(poll(&world, &query, Some("1")).body, "ok");
    world.streams(0);
}

#[test]
fn other_versions_transports_and_sessions_are_refused() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    for (query, status) in [
        ("EIO=2&transport=polling&session=TOKEN", 400),
        ("transport=polling&session=TOKEN", 400),
        ("EIO=2&transport=websocket&session=dps_x", 400),
        ("EIO=4&transport=flash&session=TOKEN", 400),
        ("EIO=4&transport=polling&session=TOKEN&sid=none", 400),
        ("EIO=4&transport=websocket&session=TOKEN&sid=none", 400),
        ("EIO=4&transport=websocket&session=TOKEN", 426),
        ("EIO=4&transport=polling&session=dps_x", 401),
        ("EIO=3&transport=websocket&session=dps_x", 401),
        ("EIO=4&transport=polling", 401),
    ] {
        let path = format!("{PATH}?{}", query.replace("TOKEN", &token));
        let answer = world.server.ask(&Request::get(&path)).expect("an answer");
        assert_eq!(answer.status, status, "{query}: {}", answer.body);
    }
    world.streams(0);
}
