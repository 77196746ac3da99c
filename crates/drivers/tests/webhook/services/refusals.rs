//! What each service refuses, and what becomes of the delivery: a dead letter when it would be
//! refused again, another attempt when it may be taken later.

use dovecast_dispatch::driver::Outcome;
use dovecast_testkit::endpoint::{Answer, ScriptedEndpoint};

use super::*;

/// The service, what is wrong, the status of its answer and a word of it.
const REFUSED: &str = r#"
discord     | url /token /other                                   | 401 | 50027
discord     | url /1/ /2/                                         | 404 | 10015
discord     | body {"content": ""}                                | 400 | 50006
discord     | long 2001 {"content": "LONG"}                       | 400 | MAX_LENGTH
discord     | type text/plain                                     | 400 | 50035
google-chat | url key=k key=z                                     | 400 | INVALID_ARGUMENT
google-chat | url token=t token=z                                 | 401 | UNAUTHENTICATED
google-chat | url AAAA BBBB                                       | 404 | NOT_FOUND
google-chat | body {"text": ""}                                   | 400 | INVALID_ARGUMENT
google-chat | long 4097 {"text": "LONG"}                          | 400 | INVALID_ARGUMENT
gotify      | parameter token A                                   | 401 | Unauthorized
gotify      | url /message /messages                              | 404 | Not Found
gotify      | body {"message": "", "priority": 4}                 | 400 | Bad Request
mattermost  | url /xxx /xxy                                       | 400 | incoming_webhook.invalid
mattermost  | parameter channel nowhere                           | 404 | incoming_webhook.channel
mattermost  | body {"text": ""}                                   | 400 | incoming_webhook.text
mattermost  | type text/plain                                     | 400 | incoming_webhook.parse
ntfy        | parameter topic a b                                 | 400 | 40009
ntfy        | parameter topic a/b                                 | 400 | 40009
ntfy        | parameter topic aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa | 400 | 40009
ntfy        | parameter topic locked                              | 403 | 40301
ntfy        | body {"topic": "a", "priority": 6}                  | 400 | 40007
ntfy        | long 4097 {"topic": "a", "priority": 1, "message": "LONG"} | 400 | 40014
ntfy        | long 8192 {"topic": "a", "title": "LONG"}           | 413 | 41303
ntfy        | type text/plain                                     | 400 | 40024
pagerduty   | parameter routing_key A                             | 400 | routing key
pagerduty   | url /enqueue /queue                                 | 404 |
pagerduty   | body {"routing_key": {{ parameters.routing_key }}, "payload": {"severity": "bad"}} | 400 | severity
pagerduty   | long 1025 {"routing_key": {{ parameters.routing_key }}, "event_action": "trigger", "dedup_key": "a", "payload": {"summary": "LONG", "source": "a", "severity": "info"}} | 400 | too long
servicenow  | password wrong                                      | 401 | Not Authenticated
servicenow  | url /jsonv2 /jsonv1                                 | 400 | any resource
servicenow  | body {"records": []}                                | 400 | Invalid records
servicenow  | long 4001 {"records": [{"source": "a", "event_class": "a", "type": "a", "node": "a", "message_key": "a", "severity": "5", "description": "LONG"}]} | 400 | Invalid records
slack       | url /B/x /B/y                                       | 403 | invalid_token
slack       | url /B/x /C/x                                       | 404 | no_service
slack       | url /T/B /U/B                                       | 404 | no_team
slack       | body {"text": ""}                                   | 400 | no_text
slack       | type text/plain                                     | 400 | invalid_payload
slack       | long 40001 {"text": "LONG"}                         | 400 | msg_too_long
sms         | url /send /sent                                     | 404 |
sms         | long 460 {"to": "1", "text": "LONG"}                | 422 |
sms         | body {"to": "1", "text": ""}                        | 422 |
splunk      | parameter token A                                   | 403 | "code":4
splunk      | url /event /events                                  | 404 | not found
splunk      | body {}                                             | 400 | "code":12
splunk      | body {"event": ""}                                  | 400 | "code":13
splunk      | type text/plain                                     | 400 | "code":6
teams       | url sig=s sig=z                                     | 401 | Authorization
teams       | url /workflows/1 /workflows/2                       | 404 | WorkflowNotFound
teams       | body {"text": "Hi"}                                 | 400 | SchemaMismatch
teams       | long 28672 {"text": "LONG"}                         | 413 | TooLarge
twilio      | password wrong                                      | 401 | 20003
twilio      | url /AC1/ /AC2/                                     | 404 | 20404
twilio      | parameter to +15005550001                           | 400 | 21211
twilio      | parameter to +15005550004                           | 400 | 21610
twilio      | body {"From": "+1", "Body": "a"}                    | 400 | 21604
twilio      | body {"To": "+1", "Body": "a"}                      | 400 | 21603
twilio      | body {"To": "+1", "From": "+1"}                     | 400 | 21602
twilio      | long 1601 {"To": "+1", "From": "+1", "Body": "LONG"} | 400 | 21617
"#;

/// Makes an endpoint wrong.
fn change(options: &mut WebhookOptions, what: &str) {
    let (kind, rest) = what.split_once(' ').expect(what);
    let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
    let format = &mut options.format;
    match kind {
        "url" => {
            assert!(options.url.contains(first), "{}", options.url);
            options.url = options.url.replace(first, second);
        }
        "parameter" => {
            let before = format.parameters.insert(first.to_owned(), second.into());
            assert!(before.is_some(), "no parameter {first}");
        }
        "password" => {
            let login = Authorization::Basic("USER".to_owned(), rest.to_owned());
            options.authorization = Some(login);
        }
        "type" => format.content_type = Some(rest.to_owned()),
        "body" => format.template = Some(rest.to_owned()),
        "long" => {
            let characters = first.parse().expect(first);
            format.template = Some(second.replace("LONG", &"m".repeat(characters)));
        }
        other => panic!("no change {other}"),
    }
}

#[tokio::test]
async fn what_a_service_refuses_is_a_dead_letter() {
    for row in REFUSED.trim().lines() {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, what, status, word] = columns[..] else {
            panic!("{row}");
        };
        let mut stand_in = StandIn::start(service(name).expect(name));
        change(&mut stand_in.options, what);
        let attempt = stand_in.deliver(&crate::delivery()).await;
        let said = stand_in.said();
        assert_eq!(said.status.to_string(), status, "{row}: {said:?}");
        assert!(said.body.contains(word), "{row}: {said:?}");
        let is_dead = matches!(attempt.outcome, Outcome::Refused { .. });
        assert!(is_dead, "{row}: {attempt:?}");
    }
}

#[tokio::test]
async fn each_service_takes_what_is_as_it_wants_it() {
    for service in &SERVICES {
        let stand_in = StandIn::start(service);
        let attempt = stand_in.deliver(&crate::delivery()).await;
        let said = stand_in.said();
        assert_eq!(attempt.outcome, Outcome::Delivered, "{said:?}");
        let begin = format!("\n{} ", service.preset);
        assert!(REFUSED.contains(&begin), "nothing is refused:{begin}");
    }
}

#[tokio::test]
async fn a_channel_that_was_archived_wants_nothing_more() {
    let mut stand_in = StandIn::start(service("slack").expect("slack"));
    change(&mut stand_in.options, "url /B/x /archived/x");
    let attempt = stand_in.deliver(&crate::delivery()).await;
    let is_gone = matches!(attempt.outcome, Outcome::Gone { .. });
    assert!(is_gone, "{attempt:?}");
    assert_eq!(stand_in.said().body, "channel_is_archived");
}

#[tokio::test]
async fn a_service_that_is_asked_too_often_is_asked_again() {
    for service in &SERVICES {
        let (status, body) = service.too_much;
        let stand_in = StandIn::saying(service, status, body);
        let attempt = stand_in.deliver(&crate::delivery()).await;
        let is_later = matches!(attempt.outcome, Outcome::Failed { .. });
        assert!(is_later, "{}: {attempt:?}", service.preset);
    }
}

#[tokio::test]
async fn an_error_in_a_success_is_one_however_the_connection_ends() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\nno_text",
        "HTTP/1.1 200 OK\r\n\r\nno_text",
        "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nno_text",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nno_text\r\n0\r\n\r\n",
    ] {
        let receiver = ScriptedEndpoint::start([Answer::Last(answer)]).expect("an endpoint");
        let slack = service("slack").expect("slack");
        let options = by_example(slack, &receiver.url(""));
        let attempt = sender(&options).deliver(&crate::delivery()).await;
        let is_dead = matches!(attempt.outcome, Outcome::Refused { .. });
        assert!(is_dead, "{answer:?}: {attempt:?}");
    }
}
