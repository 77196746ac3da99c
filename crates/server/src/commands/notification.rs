//! The notification that the options of a command line make.

use anyhow::{Context, Result};
use dovecast_notification::outbox::NewNotification;
use dovecast_operations::BENCHMARK_APPLICATION;
use serde_json::value::to_raw_value;

use crate::cli::NotificationArguments;

/// Application of a notification for tests.
const APPLICATION: &str = "TestApp";
const EVENT_TYPE: &str = "TestEvent";
const LEVEL: &str = "Info";
const MESSAGE: &str = "Hello world!";

/// JSON of the notification; `None`: the command line names none.
pub(super) fn render(
    arguments: &NotificationArguments,
    count: u32,
    now: jiff::Timestamp,
) -> Result<Option<String>> {
    let Some(account_id) = &arguments.account_id else {
        return Ok(None);
    };
    let is_test = arguments.application.is_none();
    let message = match &arguments.message_json {
        // As it was written, digit by digit.
        Some(json) => json.clone(),
        None => to_raw_value(arguments.message.as_deref().unwrap_or(MESSAGE))
            .context("cannot write the message")?,
    };
    let notification = NewNotification {
        application: arguments.application.as_deref().unwrap_or(if count > 1 {
            BENCHMARK_APPLICATION
        } else {
            APPLICATION
        }),
        event_type: arguments.event_type.as_deref().unwrap_or(EVENT_TYPE),
        level: arguments
            .level
            .as_deref()
            .or_else(|| is_test.then_some(LEVEL)),
        account_id,
        timestamp: format!("{:.3}", arguments.timestamp.unwrap_or(now)),
        message,
    };
    let json = serde_json::to_string(&notification).context("cannot write the notification")?;
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn check(line: &[&str], expected: &str) {
        let words = ["dovecast", "send"].iter().chain(line);
        let arguments = Arguments::try_parse_from(words).expect("a command line");
        let Command::Send(send) = arguments.command else {
            panic!("another command");
        };
        let now = jiff::Timestamp::from_millisecond(1_795_210_528_120).expect("a time");
        let json = render(&send.notification, send.count, now).expect("JSON");
        assert_eq!(json.as_deref(), Some(expected));
    }

    #[test]
    fn an_account_alone_gets_a_test() {
        check(
            &["-u", "7"],
            r#"{"application":"TestApp","event_type":"TestEvent","level":"Info","account_id":"7","timestamp":"2026-11-20T21:35:28.120Z","message":"Hello world!"}"#,
        );
        check(
            &["-u7", "--count=2"],
            r#"{"application":"BenchmarkApp","event_type":"TestEvent","level":"Info","account_id":"7","timestamp":"2026-11-20T21:35:28.120Z","message":"Hello world!"}"#,
        );
        check(
            &["-u7", "-aApp", "-eNew", "-lHigh", "-m", "Hi"],
            r#"{"application":"App","event_type":"New","level":"High","account_id":"7","timestamp":"2026-11-20T21:35:28.120Z","message":"Hi"}"#,
        );
    }

    #[test]
    fn json_of_a_message_stays_as_it_was_written() {
        for json in [
            r#"{"n":123456789012345678901234567890}"#,
            r#"{"n":0.1000000000000000055511151231257827}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"n":-0}"#,
            r#"{"n":1E5}"#,
            r#"{"a":1,"a":2}"#,
            r#"{ "a" : "\u0000\ud83d\/" }"#,
            "1e400",
        ] {
            let expected = format!(
                r#"{{"application":"TestApp","event_type":"TestEvent","level":"Info","account_id":"7","timestamp":"2026-11-20T21:35:28.120Z","message":{json}}}"#
            );
            check(&["-u7", "--message-json", json], &expected);
        }
    }

    #[test]
    fn a_notification_has_exactly_six_fields() {
        check(
            &[
                "--application",
                "App",
                "--event-type",
                "New",
                "--account-id",
                "7",
            ],
            r#"{"application":"App","event_type":"New","level":null,"account_id":"7","timestamp":"2026-11-20T21:35:28.120Z","message":"Hello world!"}"#,
        );
        check(
            &[
                "--application=App",
                "--event-type=New",
                "--level=Info",
                "--account-id=7",
                "--timestamp=2026-01-02T03:04:05+01:00",
                r#"--message-json={"a":[1]}"#,
            ],
            r#"{"application":"App","event_type":"New","level":"Info","account_id":"7","timestamp":"2026-01-02T02:04:05.000Z","message":{"a":[1]}}"#,
        );
    }
}
