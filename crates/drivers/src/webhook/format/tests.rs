//! What each service is sent of a mail and of another notification.

use bytes::Bytes;
use dovecast_dispatch::driver::Part;
use dovecast_notification::{DOVECOT, Notification, NotificationId};
use serde_json::json;
use uuid::Uuid;

use super::*;

const ID: &str = "msg_1";

/// What a future gives that waits for nothing.
fn made<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(future)
}

fn delivery(application: &str, event_type: &str, level: Option<&str>, message: &Value) -> Delivery {
    let notification = Notification {
        id: NotificationId(Uuid::from_u128(1)),
        application: application.into(),
        event_type: event_type.into(),
        level: level.map(Into::into),
        account: "1002".into(),
        timestamp: Bytes::from_static(b"\"2026-11-20T12:34:56Z\""),
        message: message.to_string().into(),
        key: (application == DOVECOT).then(|| Bytes::from_static(b"ann@example.org")),
        headers: Vec::new(),
    };
    Delivery {
        note: String::new(),
        id: ID.to_owned(),
        number: 1,
        notifications: vec![notification.into()],
        part: Part::WHOLE,
    }
}

/// A mail whose sender tries to ring everybody and to break out of every form.
fn mail() -> Delivery {
    let message = json!({
        "user": "ann@example.org", "mailbox": "INBOX",
        "fromDisplayName": "Bob \"B\"", "subjectDecoded": "<!channel> @all & </p>",
        "snippet": "At\nnoon? \\u0000 {{ id }}",
    });
    delivery(DOVECOT, "MessageNew", None, &message)
}

fn bill() -> Delivery {
    delivery("billing", "overdue", Some("critical"), &json!("Pay."))
}

fn format(name: &str, parameters: &[(&str, &str)]) -> Format {
    let parameters = parameters.iter();
    let options = FormatOptions {
        preset: Some(Preset::get(name).expect(name)),
        parameters: parameters
            .map(|(name, value)| ((*name).to_owned(), Value::from(*value)))
            .collect(),
        ..FormatOptions::default()
    };
    Format::new(&options)
        .expect(name)
        .expect("a preset has a template")
}

#[track_caller]
fn check(name: &str, parameters: &[(&str, &str)], of_mail: &Value, of_bill: &Value) {
    let format = format(name, parameters);
    for (delivery, expected) in [(mail(), of_mail), (bill(), of_bill)] {
        let body = made(format.body(&delivery)).expect(name);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body, *expected, "{name}");
    }
}

#[test]
fn chats_are_told_in_their_markup_and_nobody_is_called() {
    check(
        "slack",
        &[],
        &json!({"text": "*Bob \"B\": &lt;!channel&gt; @all &amp; &lt;/p&gt;*\nAt\nnoon? \\u0000 {{ id }}"}),
        &json!({"text": "*billing: overdue (critical)*\nPay."}),
    );
    check(
        "discord",
        &[],
        &json!({
            "content": "**Bob \"B\": <!channel> @all & </p>**\nAt\nnoon? \\u0000 {{ id }}",
            "allowed_mentions": {"parse": []},
        }),
        &json!({"content": "**billing: overdue (critical)**\nPay.", "allowed_mentions": {"parse": []}}),
    );
    let quiet = "Bob \"B\": <\u{200b}!channel> @\u{200b}all & <\u{200b}/p>";
    check(
        "mattermost",
        &[("channel", "town")],
        &json!({"text": format!("**{quiet}**\nAt\nnoon? \\u0000 {{{{ id }}}}"), "channel": "town"}),
        &json!({"text": "**billing: overdue (critical)**\nPay.", "channel": "town"}),
    );
    check(
        "google-chat",
        &[],
        &json!({"text": format!("*{quiet}*\nAt\nnoon? \\u0000 {{{{ id }}}}")}),
        &json!({"text": "*billing: overdue (critical)*\nPay."}),
    );
    let card = |title: &str, text: &str| {
        json!({"type": "message", "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard", "version": "1.4",
                "body": [
                    {"type": "TextBlock", "weight": "bolder", "wrap": true, "text": title},
                    {"type": "TextBlock", "wrap": true, "text": text},
                ],
            },
        }]})
    };
    check(
        "teams",
        &[],
        &card(
            "Bob \"B\": <!channel> @all & </p>",
            "At\nnoon? \\u0000 {{ id }}",
        ),
        &card("billing: overdue (critical)", "Pay."),
    );
}

#[test]
fn phones_and_alerts_are_told_how_bad_it_is() {
    let (title, text) = (
        "Bob \"B\": <!channel> @all & </p>",
        "At\nnoon? \\u0000 {{ id }}",
    );
    check(
        "ntfy",
        &[("topic", "t")],
        &json!({"topic": "t", "title": title, "message": text, "priority": 3}),
        &json!({"topic": "t", "title": "billing: overdue (critical)", "message": "Pay.", "priority": 5}),
    );
    check(
        "gotify",
        &[("token", "s3cret")],
        &json!({"title": title, "message": text, "priority": 4}),
        &json!({"title": "billing: overdue (critical)", "message": "Pay.", "priority": 8}),
    );
    check(
        "pagerduty",
        &[("routing_key", "s3cret")],
        &json!({
            "routing_key": "s3cret", "event_action": "trigger", "dedup_key": ID,
            "payload": {
                "summary": title, "source": "ann@example.org", "severity": "info",
                "component": "dovecot", "class": "MessageNew", "custom_details": {"text": text},
            },
        }),
        &json!({
            "routing_key": "s3cret", "event_action": "trigger", "dedup_key": ID,
            "payload": {
                "summary": "billing: overdue (critical)", "source": "1002", "severity": "critical",
                "component": "billing", "class": "overdue", "custom_details": {"text": "Pay."},
            },
        }),
    );
    check(
        "servicenow",
        &[],
        &json!({"records": [{
            "source": "dovecast", "event_class": "dovecot", "type": "MessageNew",
            "node": "ann@example.org", "message_key": ID, "severity": "5",
            "description": format!("{title}\n{text}"),
        }]}),
        &json!({"records": [{
            "source": "dovecast", "event_class": "billing", "type": "overdue", "node": "1002",
            "message_key": ID, "severity": "1", "description": "billing: overdue (critical)\nPay.",
        }]}),
    );
    check(
        "sms",
        &[("to", "+49151")],
        &json!({"to": "+49151", "text": format!("{title}\n{text}")}),
        &json!({"to": "+49151", "text": "billing: overdue (critical)\nPay."}),
    );
}

#[test]
fn splunk_is_told_all_there_is() {
    let format = format("splunk", &[("token", "s3cret")]);
    let body = made(format.body(&bill())).expect("a body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        body["event"],
        json!({
            "id": ID, "application": "billing", "event_type": "overdue", "level": "critical",
            "account_id": "1002", "timestamp": "2026-11-20T12:34:56Z", "message": "Pay.",
        })
    );
}

#[test]
fn twilio_is_sent_a_form() {
    let format = format("twilio", &[("to", "+49151"), ("from", "+1")]);
    let body = made(format.body(&bill())).expect("a body");
    assert_eq!(
        std::str::from_utf8(&body),
        Ok("To=%2B49151&From=%2B1&Body=billing%3A+overdue+%28critical%29%0APay.")
    );
}

#[test]
fn a_service_knows_the_sender_by_a_header_that_is_a_secret() {
    for (name, header, value) in [
        ("splunk", "authorization", "Splunk s3cret"),
        ("gotify", "x-gotify-key", "s3cret"),
    ] {
        let mut options = FormatOptions {
            preset: Some(Preset::get(name).expect(name)),
            ..FormatOptions::default()
        };
        options
            .parameters
            .insert("token".to_owned(), "s3cret".into());
        let (found, sent) = Format::header(&options).expect(name).expect(name);
        assert_eq!(
            (found.as_str(), sent.as_bytes()),
            (header, value.as_bytes())
        );
        assert!(sent.is_sensitive());
        options
            .parameters
            .insert("token".to_owned(), "s3cret\n".into());
        let error = Format::header(&options).expect_err(name).to_string();
        assert_eq!(error, "`token` cannot be sent in a header");
    }
}
