//! `GET /ws`.

use dovecast_testkit::PATIENCE;
use dovecast_testkit::http::Request;
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::client::{World, head};

const WS: &str = "/api/push/v1/ws";
const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

/// A client.
struct Window(WebSocketStream<TcpStream>);

impl Window {
    async fn open(world: &World, query: &str) -> Self {
        let mut reader = world.connect(&format!("GET {WS}?{query} HTTP/1.1\r\n{UPGRADE}"));
        let (status, head) = head(&mut reader);
        assert_eq!(status, 101, "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="));
        // What stands behind the head already would be lost.
        let ahead = reader.buffer().to_vec();
        let stream = reader.into_inner();
        stream.set_nonblocking(true).expect("a mode");
        let stream = TcpStream::from_std(stream).expect("a stream");
        Self(WebSocketStream::from_partially_read(stream, ahead, Role::Client, None).await)
    }

    /// The next message but pings.
    async fn next(&mut self) -> Message {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.0.next()).await;
            let next = next.expect("in time").expect("a message").expect("read");
            if !next.is_ping() {
                return next;
            }
        }
    }

    async fn json(&mut self) -> Value {
        let message = self.next().await.into_text().expect("a text");
        serde_json::from_str(&message).expect("JSON")
    }
}

#[tokio::test]
async fn messages_are_text_frames_and_cursors_go_on_from_the_log() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let query = format!("session={token}&topics=mail:*&content=ids");
    let mut window = Window::open(&world, &query).await;
    world.mail("12@3", 900);
    world.mail("11@3", 1);
    let told = window.json().await;
    let id = told["id"].as_str().expect("a cursor").to_owned();
    let person = json!({"context": "3", "user": "11"});
    let expected = json!({"topic": "mail:new", "id": id,
        "data": {"person": person, "mailbox": "INBOX", "uidvalidity": 7, "uid": 1, "unseen": 4}});
    assert_eq!(told, expected);
    drop(window);
    world.mail("11@3", 2);
    let mut window = Window::open(&world, &format!("{query}&last_event_id={id}")).await;
    world.mail("11@3", 3);
    for uid in [2, 3] {
        assert_eq!(window.json().await["data"]["uid"], uid);
    }
}

#[tokio::test]
async fn a_request_that_is_no_web_socket_is_told_what_is() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let answer = world
        .server
        .ask(&Request::get(&format!("{WS}?session={token}")));
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 426);
    assert!(
        answer
            .headers
            .contains(&("upgrade".to_owned(), "websocket".to_owned()))
    );
    let mut refused = world.connect(&format!("GET {WS}?session=dps_x HTTP/1.1\r\n{UPGRADE}"));
    assert_eq!(head(&mut refused).0, 401);
    world.streams(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_lives_by_pongs_and_ends_with_its_token() {
    // Longer than the time that a request's head has, and as long as an answer may take on a
    // machine that is busy.
    let world = World::with("ping_seconds = 5", "header_timeout_seconds = 1");
    let (token, id) = world.token("3", "11");
    let mut window = Window::open(&world, &format!("session={token}")).await;
    let silent = Window::open(&world, &format!("session={token}")).await;
    // One answers pings while it is read, the other is not read.
    let read = tokio::spawn(async move { (window.next().await, window) });
    world.counted("stream_silent", 1);
    world.streams(1);
    world.mail("11@3", 1);
    let (told, mut window) = read.await.expect("read");
    assert!(told.is_text(), "{told:?}");
    world.delete_token(&id);
    let Message::Close(Some(frame)) = window.next().await else {
        panic!("the stream goes on");
    };
    assert_eq!(&*frame.reason, "the session has ended");
    drop(silent);
}

#[tokio::test]
async fn what_a_client_sends_is_bounded() {
    use futures_util::SinkExt;
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let mut window = Window::open(&world, &format!("session={token}")).await;
    window.0.send(Message::text("hello")).await.expect("sent");
    world.mail("11@3", 1);
    assert_eq!(window.json().await["data"]["uid"], 1);
    let long = Message::text("x".repeat(100_000));
    // It may be refused before all of it is sent.
    let _ = window.0.send(long).await;
    world.streams(0);
}
