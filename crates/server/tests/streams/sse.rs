//! `GET /events`.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;

use dovecast_testkit::http::Request;
use serde_json::{Value, json};
use socket2::{SockFilter, SockRef};

use super::client::{World, head};

const EVENTS: &str = "/api/push/v1/events";

/// A client.
struct Events(BufReader<TcpStream>);

/// An event as a browser reads it.
#[derive(Debug, PartialEq)]
struct Event {
    id: String,
    topic: String,
    data: Value,
}

impl Events {
    fn open(world: &World, query: &str, last: Option<&str>) -> Self {
        let last = last.map(|id| format!("\r\nlast-event-id: {id}"));
        let last = last.unwrap_or_default();
        let mut reader = world.connect(&format!("GET {EVENTS}?{query} HTTP/1.1{last}"));
        let (status, head) = head(&mut reader);
        assert_eq!(status, 200, "{head}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        Self(reader)
    }

    /// The next field, without the framing of chunks; `None`: the end.
    fn field(&mut self) -> Option<(String, String)> {
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            if let Some((name, value)) = line.trim_end().split_once(':') {
                return Some((name.to_owned(), value.trim().to_owned()));
            }
        }
    }

    fn next(&mut self) -> Option<Event> {
        let (mut id, mut topic) = (String::new(), String::new());
        loop {
            match self.field()? {
                (name, value) if name == "id" => id = value,
                (name, value) if name == "event" => topic = value,
                (name, value) if name == "data" => {
                    // One that is cut ends anywhere.
                    let data = serde_json::from_str(&value).ok()?;
                    return Some(Event { id, topic, data });
                }
                _ => {}
            }
        }
    }

    fn uid(&mut self) -> u64 {
        let event = self.next().expect("an event");
        event.data["uid"].as_u64().expect("a uid")
    }

    fn has_ended(&mut self) -> bool {
        self.next().is_none()
    }

    /// From now on nothing that is sent to it is even acknowledged, as by a host that lost its
    /// network.
    fn hears_nothing(&self) {
        const DROP_ALL: SockFilter = SockFilter::new(0x06, 0, 0, 0);
        let socket = SockRef::from(self.0.get_ref());
        socket.attach_filter(&[DROP_ALL]).expect("a filter");
    }
}

#[test]
fn a_stream_tells_its_person_and_nobody_else() {
    let world = World::start("");
    let ((mine, _), (other, _)) = (world.token("3", "11"), world.token("3", "12"));
    let mut all = Events::open(&world, &format!("session={mine}"), None);
    let query = format!("session={mine}&topics=ox:mail:new&content=snippet");
    let mut ox = Events::open(&world, &query, None);
    let mut others = Events::open(&world, &format!("session={other}"), None);
    world.mail("11@3", 113);
    let told = all.next().expect("an event");
    assert_eq!(told.topic, "mail:new");
    let expected = json!({"person": {"context": "3", "user": "11"}, "mailbox": "INBOX", "uidvalidity": 7,
        "uid": 113, "from": "Alice <alice@barfoo.org>", "subject": "Lunch?", "unseen": 4});
    assert_eq!(told.data, expected);
    let told = ox.next().expect("an event");
    assert_eq!(told.topic, "ox:mail:new");
    let expected = json!({"folder": "default0/INBOX", "id": "113", "email": "alice@barfoo.org", "displayname": "Alice",
        "subject": "Lunch?", "unread": 4, "teaser": "At noon"});
    assert_eq!(told.data, expected);
    // What `ox:mail:new` does not fit is not told there; the first that others hear is their own.
    let flags = json!({"user": "11@3", "mailbox": "INBOX", "event": "FlagsSet", "uidvalidity": 7, "uid": 113, "flags": ["\\Seen"]});
    world.event(&flags, 1);
    world.mail("11@3", 114);
    world.mail("12@3", 5);
    assert_eq!(all.next().expect("an event").topic, "mail:flags");
    assert_eq!(all.uid(), 114);
    assert_eq!(ox.next().expect("an event").data["id"], "114");
    assert_eq!(others.uid(), 5);
    world.counted("wrong_person", 0);
}

#[test]
fn who_comes_back_is_told_what_it_has_missed_once_and_in_order() {
    let mut world = World::start("");
    let (token, _) = world.token("3", "11");
    let query = format!("session={token}");
    let mut events = Events::open(&world, &query, None);
    let (name, beginning) = events.field().expect("a cursor");
    assert_eq!(name, "id");
    world.mail("11@3", 1);
    let first = events.next().expect("an event");
    drop(events);
    world.streams(0);
    world.mail("11@3", 2);
    world.mail("12@3", 900);
    world.mail("11@3", 3);
    let mut events = Events::open(&world, &query, Some(&first.id));
    world.mail("11@3", 4);
    assert_eq!([events.uid(), events.uid(), events.uid()], [2, 3, 4]);
    // Who was told nothing yet has missed nothing either; a server that was killed is no matter.
    world.server.kill().expect("killed");
    world.server.start_again().expect("started");
    let mut events = Events::open(&world, &query, Some(&beginning));
    world.mail("11@3", 5);
    let uids: Vec<u64> = (0..5).map(|_| events.uid()).collect();
    assert_eq!(uids, [1, 2, 3, 4, 5]);
}

#[test]
fn who_comes_back_and_leaves_again_at_once_has_missed_nothing() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let query = format!("session={token}");
    let mut events = Events::open(&world, &query, None);
    world.mail("11@3", 1);
    let first = events.next().expect("an event").id;
    drop(events);
    world.mail("11@3", 2);
    let mut events = Events::open(&world, &query, Some(&first));
    // The cursor it begins with is what the client knows so far, until it was told what it missed.
    let (name, cursor) = events.field().expect("a cursor");
    assert_eq!((&*name, &cursor), ("id", &first));
    let second = events.next().expect("an event");
    assert_eq!(second.data["uid"], 2);
    let mut fields = std::iter::from_fn(|| events.field());
    let (_, later) = fields.find(|(name, _)| name == "id").expect("a cursor");
    assert_ne!(later, second.id);
    let mut events = Events::open(&world, &query, Some(&later));
    world.mail("11@3", 3);
    // What is told again so is no matter.
    while events.uid() != 3 {}
}

#[test]
fn a_log_that_has_been_begun_anew_is_told_as_a_gap() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let query = format!("session={token}");
    world.mail("11@3", 1);
    let mut events = Events::open(&world, &query, None);
    world.mail("11@3", 2);
    let id = events.next().expect("an event").id;
    let mut parts: Vec<&str> = id.split('.').collect();
    parts[2] = "4000000";
    let mut events = Events::open(&world, &query, Some(&parts.join(".")));
    assert_eq!(events.next().expect("a gap").topic, "stream:gap");
    world.mail("11@3", 3);
    assert_eq!(events.uid(), 3);
    // What is older than five hours is not told.
    parts[0] = "1000";
    let mut events = Events::open(&world, &query, Some(&parts.join(".")));
    assert_eq!(events.next().expect("a gap").topic, "stream:gap");
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    for (query, status, detail) in [
        ("", 401, "`Authorization: Bearer TOKEN` should be provided"),
        ("session=dps_none", 401, "The session is not valid"),
        ("session=TOKEN&topics=mail:nwe", 422, "has `mail:nwe`"),
        (
            "session=TOKEN&content=all",
            422,
            "is none of ids, envelope and snippet",
        ),
        ("session=TOKEN&last_event_id=x", 422, "is no `id`"),
    ] {
        let path = format!("{EVENTS}?{}", query.replace("TOKEN", &token));
        let answer = world.server.ask(&Request::get(&path)).expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.body);
        let said: Value = serde_json::from_str(&answer.body).expect("JSON");
        let said = said["errors"][0]["detail"].as_str().expect("a detail");
        assert!(said.contains(detail), "{said}");
    }
    // A token in the query is for streams alone.
    let path = format!("/api/push/v1/subscriptions?session={token}");
    let answer = world.server.ask(&Request::get(&path)).expect("an answer");
    assert_eq!(answer.status, 401);
}

#[test]
fn streams_have_places_of_their_own_by_person_and_in_all() {
    // Six places among requests, far fewer than there are streams.
    let world = World::with(
        "max_streams = 12\nmax_streams_total = 20",
        "max_connections = 10",
    );
    let tokens = [world.token("3", "11").0, world.token("3", "12").0];
    let open = |token: &str| Events::open(&world, &format!("session={token}"), None);
    let mut held: Vec<Events> = (0..12).map(|_| open(&tokens[0])).collect();
    let refused = |token: &str| {
        let request = Request::get(&format!("{EVENTS}?session={token}"));
        world.server.ask(&request).expect("an answer").status
    };
    assert_eq!(refused(&tokens[0]), 429);
    held.extend((0..8).map(|_| open(&tokens[1])));
    assert_eq!(refused(&tokens[1]), 503);
    world.counted("stream_refused", 2);
    world.streams(20);
    // Requests are answered all the same.
    assert_eq!(world.server.get("/healthz").expect("an answer").0, 200);
    held.truncate(19);
    world.streams(19);
    held.push(open(&tokens[1]));
    world.mail("12@3", 1);
    assert_eq!(held[12].uid(), 1);
}

#[test]
fn a_stream_ends_with_its_token_and_with_the_server() {
    let mut world = World::start("ping_seconds = 1");
    let ((token, id), (other, _)) = (world.token("3", "11"), world.token("3", "11"));
    let mut ends = Events::open(&world, &format!("session={token}"), None);
    let mut stays = Events::open(&world, &format!("session={other}"), None);
    world.delete_token(&id);
    assert!(ends.has_ended());
    world.mail("11@3", 1);
    assert_eq!(stays.uid(), 1);
    assert!(world.server.stop().expect("stopped").success());
    assert!(stays.has_ended());
}

#[test]
fn a_stream_is_pinged_while_nothing_is_told() {
    let world = World::start("ping_seconds = 1");
    let (token, _) = world.token("3", "11");
    let mut events = Events::open(&world, &format!("session={token}"), None);
    assert_eq!(events.field().expect("a cursor").0, "id");
    // Where a cursor says exactly how far the stream is, a ping is that cursor.
    world.mail("11@3", 1);
    let told = events.next().expect("an event");
    let place = |cursor: &str| cursor.split_once('.').map(|(_, place)| place.to_owned());
    let mut pinged = events.field().expect("a ping");
    while pinged.0 != "id" {
        pinged = events.field().expect("a ping");
    }
    assert_eq!(place(&pinged.1), place(&told.id));
    drop(events);
    world.mail("11@3", 2);
    let mut again = Events::open(&world, &format!("session={token}"), Some(&pinged.1));
    assert_eq!(again.uid(), 2);
}

#[test]
fn a_client_that_is_gone_without_a_word_leaves_its_place() {
    let world = World::with("ping_seconds = 1", "request_timeout_seconds = 3");
    let (token, _) = world.token("3", "11");
    let gone = Events::open(&world, &format!("session={token}"), None);
    world.streams(1);
    gone.hears_nothing();
    world.streams(0);
}

#[test]
fn a_reader_that_does_not_read_is_cut_and_goes_on_from_the_log() {
    let world = World::start("");
    let (token, _) = world.token("3", "11");
    let query = format!("session={token}");
    let mut slow = Events::open(&world, &query, None);
    let mut quick = Events::open(&world, &query, None);
    // More than sockets hold, with texts as long as they may be.
    let long = "x".repeat(300);
    let event = json!({"user": "11@3", "mailbox": long, "event": "MessageNew", "uidvalidity": 7, "uid": 1,
        "from": long, "subject": long});
    let mut sent = 0;
    while world
        .server
        .metric("dovecast_push_total{of=\"stream_cut\"}")
        .expect("a metric")
        == 0.0
    {
        world.event(&event, 200);
        for _ in 0..200 {
            assert_eq!(quick.uid(), 1);
        }
        sent += 200;
        assert!(sent < 100_000, "no stream was cut");
    }
    world.streams(1);
    let mut last = None;
    let mut had = 0;
    while let Some(event) = slow.next() {
        had += 1;
        last = Some(event.id);
    }
    let mut again = Events::open(&world, &query, last.as_deref());
    for _ in had..sent {
        assert_eq!(again.uid(), 1);
    }
}
