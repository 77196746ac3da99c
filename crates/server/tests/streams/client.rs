//! A server with persons, and clients of its streams.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use dovecast_testkit::PATIENCE;
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

/// What tests ask.
pub(crate) struct World {
    pub(crate) server: Server,
    admin: String,
}

impl World {
    pub(crate) fn start(mail_push: &str) -> Self {
        Self::with(mail_push, "")
    }

    pub(crate) fn with(mail_push: &str, http: &str) -> Self {
        let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
        let builder = builder
            .http(http)
            .config(&format!("[mail_push]\n{mail_push}"));
        let server = builder.start().expect("a server");
        let admin = server.admin_token().expect("a token");
        Self { server, admin }
    }

    /// A token of a person, and the id with which it is deleted.
    pub(crate) fn token(&self, context: &str, user: &str) -> (String, String) {
        let body =
            json!({"token": {"name": "test", "scope": "person", "context": context, "user": user}});
        let made = self.admin("POST", "/api/hooks/tokens", Some(&body), 201);
        let made: Value = serde_json::from_str(&made).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let secret = &made["meta"]["token"];
        (text(secret), text(&made["data"]["id"]))
    }

    pub(crate) fn delete_token(&self, id: &str) {
        self.admin("DELETE", &format!("/api/hooks/tokens/{id}"), None, 204);
    }

    fn admin(&self, method: &str, path: &str, body: Option<&Value>, status: u16) -> String {
        let mut request = Request::new(method, path)
            .header("authorization", &format!("Bearer {}", self.admin))
            .header("content-type", "application/json");
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = self.server.ask(&request).expect("an answer");
        assert_eq!(answer.status, status, "{}", answer.body);
        answer.body
    }

    /// New mail for a login.
    pub(crate) fn mail(&self, login: &str, uid: u32) {
        self.event(&new_mail(login, uid), 1);
    }

    /// New mails for a login, all of one uid.
    pub(crate) fn mails(&self, login: &str, count: u32) {
        self.event(&new_mail(login, 1), count);
    }

    /// An event, so many times.
    pub(crate) fn event(&self, event: &Value, count: u32) {
        let (event, count) = (event.to_string(), count.to_string());
        let sent = self
            .server
            .run(["send", "--event", "--count", &count, &event]);
        sent.expect("an event in the log");
    }

    /// A connection on which a request was sent.
    pub(crate) fn connect(&self, head: &str) -> BufReader<TcpStream> {
        let mut stream =
            TcpStream::connect(self.server.address().expect("an address")).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let request = format!("{head}\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        BufReader::new(stream)
    }

    /// Waits until so many streams are open.
    pub(crate) fn streams(&self, count: u32) {
        self.metric("dovecast_push_streams", count);
    }

    pub(crate) fn counted(&self, of: &str, count: u32) {
        self.metric(&format!("dovecast_push_total{{of=\"{of}\"}}"), count);
    }

    fn metric(&self, sample: &str, count: u32) {
        let counted = self.server.metric_is(sample, |found| {
            found.to_bits() == f64::from(count).to_bits()
        });
        counted.expect("counted");
    }
}

fn new_mail(login: &str, uid: u32) -> Value {
    json!({
        "user": login, "mailbox": "INBOX", "event": "MessageNew", "uidvalidity": 7, "uid": uid,
        "from": "Alice <alice@barfoo.org>", "subject": "Lunch?", "snippet": "At noon", "unseen": 4,
    })
}

/// An answer's status and its headers, in one text.
pub(crate) fn head(reader: &mut BufReader<TcpStream>) -> (u16, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "{head}");
    }
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
    (status.expect("a status"), head.to_lowercase())
}
