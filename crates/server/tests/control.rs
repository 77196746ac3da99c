//! The control socket, as programs of the host use it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use dovecast_testkit::server::Server;

/// Status and body of a request.
fn ask(server: &Server, request: &str, body: &str) -> (String, String) {
    let mut stream = UnixStream::connect(server.control_socket()).expect("connect");
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: dovecast\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_request_that_makes_no_sense_is_answered_with_what_is_wrong() {
    let server = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = server.start().expect("a server");
    let post = "POST /v1/records";
    #[rustfmt::skip]
    let cases = [
        ("GET /v2", "", "404", "nothing of this name"),
        ("GET /v1/records", "", "400", "missing field `topic`"),
        ("GET /v1/records?topic=t&from=noon", "", "400", "`noon` is none of `beginning`, `end`, `last:N` and an RFC 3339 time"),
        ("GET /v1/records?topic=t&from=end&till=end", "", "400", "unknown field `till`"),
        (post, "{", "400", "EOF"),
        (post, r#"{"records":[{"topic":"t"}]}"#, "422", "missing field `value`"),
        (post, r#"{"records":[{"topic":"t","value":"v","timestamp_ms":0,"offset":1}]}"#, "422", "unknown field `offset`"),
        (post, r#"{"records":[{"topic":"t","value":{"base64":"?"},"timestamp_ms":0}]}"#, "400", "not base64"),
        (post, r#"{"records":[{"topic":"t","value":"v","timestamp_ms":0,"id":"7"}]}"#, "422", "id"),
    ];
    for (request, body, status, expected) in cases {
        let (answered, text) = ask(&server, request, body);
        assert_eq!(answered, status, "{request} {body}: {text}");
        let error: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let error = error["error"].as_str().expect("an error");
        assert!(error.contains(expected), "{request} {body}: {error}");
    }
}

#[test]
fn a_record_that_comes_again_with_its_id_is_a_duplicate() {
    let server = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = server.start().expect("a server");
    let body = r#"{"records":[{"topic":"t","key":"k","value":{"base64":"/wA="},"timestamp_ms":5,"id":"01890a5d-ac96-774b-bcce-b302099a8057"}]}"#;
    for expected in [
        r#"{"appended":1,"duplicates":0,"refused":0}"#,
        r#"{"appended":0,"duplicates":1,"refused":0}"#,
    ] {
        assert_eq!(
            ask(&server, "POST /v1/records", body),
            ("200".to_owned(), expected.to_owned())
        );
    }
    let records = server.records("t").expect("records");
    assert_eq!(records.len(), 1);
    assert!(
        records[0].contains(r#""timestamp_ms":5,"key":"k","headers":[],"value":{"base64":"/wA="}"#),
        "{records:?}"
    );
}

/// Whoever has used the id of another's record in a topic of his own keeps that record out of no
/// other topic.
#[test]
fn an_id_that_one_topic_has_is_new_in_another() {
    let server = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = server.start().expect("a server");
    for topic in ["t", "u"] {
        let body = format!(
            r#"{{"records":[{{"topic":"{topic}","key":"k","value":"v","timestamp_ms":5,"id":"01890a5d-ac96-774b-bcce-b302099a8057"}}]}}"#
        );
        let appended = r#"{"appended":1,"duplicates":0,"refused":0}"#;
        assert_eq!(
            ask(&server, "POST /v1/records", &body),
            ("200".to_owned(), appended.to_owned())
        );
        assert_eq!(server.values(topic).expect("values"), ["v"]);
    }
}
