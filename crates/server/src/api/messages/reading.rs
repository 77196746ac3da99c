//! One notification, read from the JSON that it came in.
//!
//! The JSON is gone through once for its fields. The message is any JSON (RFC 8259), and stays the
//! bytes that it was: numbers of any size, halves of surrogate pairs and NUL are its sender's and
//! its receivers' business. What of the others goes into the database is checked for that.

use std::borrow::Cow;
use std::fmt;

use dovecast_notification::outbox::NewNotification;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::error::{ApiError, ErrorObject, Errors};
use crate::api::times;
use dovecast_operations::{Sender, account_number};

/// What an error says about a character that PostgreSQL stores in no text; both stores take the
/// same.
const NUL: &str = "a string contains a NUL character";

/// Reads a notification; `what` is how errors name the JSON: the body, or a part of it.
pub(in crate::api) fn read<'a>(
    json: &'a [u8],
    what: &str,
    sender: &Sender,
    now: Timestamp,
) -> Result<NewNotification<String, &'a RawValue>, ApiError> {
    let not_json = |error| ApiError::bad_request(format!("{what} is not JSON: {error}"));
    if json.trim_ascii_start().first() != Some(&b'{') {
        let _: IgnoredAny = serde_json::from_slice(json).map_err(not_json)?;
        return Err(ApiError::bad_request(format!("{what} is not an object")));
    }
    let Fields { known, unknown } = serde_json::from_slice(json).map_err(not_json)?;
    let mut errors = Errors::default();
    for name in unknown {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        errors.push(ErrorObject::at(pointer, "is not a field of a notification"));
    }
    let [
        application,
        event_type,
        level,
        timestamp,
        message,
        account_id,
    ] = known;
    let value = |raw: Option<&RawValue>| raw.map(value).transpose();
    let (application, event_type) = (value(application)?, value(event_type)?);
    let (level, timestamp) = (value(level)?, value(timestamp)?);
    let mut noted = |name: &str, read: Result<String, &str>| {
        read.map_err(|detail| errors.push(ErrorObject::at(format!("/{name}"), detail)))
            .ok()
    };
    let application = noted("application", filled(application));
    let event_type = noted("event_type", filled(event_type));
    let level = match level {
        Some(Value::Null) => Some(None),
        None => noted("level", Err("is missing (null for none)")).map(Some),
        value => noted("level", filled(value)).map(Some),
    };
    let timestamp = noted("timestamp", time(timestamp, now));
    let account_id = match account_id {
        Some(raw) if is_integer(raw) => {
            noted("account_id", account_number(raw.get()).map(str::to_owned))
        }
        raw => noted("account_id", account(value(raw)?, sender)),
    };
    if message.is_none() {
        noted("message", Err("is missing"));
    }
    let (Some(application), Some(event_type), Some(level)) = (application, event_type, level)
    else {
        return Err(ApiError::invalid(errors));
    };
    let (Some(timestamp), Some(account_id), Some(message), true) =
        (timestamp, account_id, message, errors.is_empty())
    else {
        return Err(ApiError::invalid(errors));
    };
    let may_send = sender.may_send(&application, &account_id);
    may_send.map_err(ApiError::forbidden)?;
    Ok(NewNotification {
        application,
        event_type,
        level,
        account_id,
        timestamp,
        message,
    })
}

/// Fields of a notification as they stand in the JSON; of several of one name the last counts.
#[derive(Default)]
struct Fields<'a> {
    /// In the order of [`NAMES`].
    known: [Option<&'a RawValue>; NAMES.len()],
    /// Names that are no field's, as many as an answer has errors.
    unknown: Vec<String>,
}

const NAMES: [&str; 6] = dovecast_notification::outbox::FIELDS;

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a notification")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Name(name)) = map.next_key()? {
                    let raw: &'de RawValue = map.next_value()?;
                    match NAMES.iter().position(|known| *known == name) {
                        Some(place) => fields.known[place] = Some(raw),
                        None if fields.unknown.len() < Errors::MAX_SHOWN => {
                            fields.unknown.push(name.into_owned());
                        }
                        None => {}
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Reading)
    }
}

/// Name of a field, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value that is expected to be short.
fn value(raw: &RawValue) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_str(raw.get()).map_err(ApiError::bad_request)?;
    if super::super::body::has_nul(&value) {
        return Err(ApiError::bad_request(NUL));
    }
    Ok(value)
}

fn filled(value: Option<Value>) -> Result<String, &'static str> {
    match value {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text),
        None | Some(Value::Null | Value::String(_)) => Err("can't be blank"),
        Some(_) => Err("is not a string"),
    }
}

fn time(value: Option<Value>, now: Timestamp) -> Result<String, &'static str> {
    let time = match value {
        None => Ok(now),
        Some(Value::String(text)) => times::read(&text),
        Some(_) => Err(times::NO_TIME),
    };
    time.map(|time| format!("{time:.3}"))
}

/// Whether a value is a number that can name an account: one of any length, of which no digit may
/// be lost on the way.
fn is_integer(raw: &RawValue) -> bool {
    raw.get().bytes().all(|byte| byte.is_ascii_digit())
}

/// Number of the account, where it is no JSON number.
fn account(value: Option<Value>, sender: &Sender) -> Result<String, &'static str> {
    match (value, sender) {
        (None, Sender::Account(account)) => Ok(account.number.clone()),
        (value, _) => account_number(&filled(value)?).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> (u16, String) {
        let message = format!(
            r#"{{"application":"a","event_type":"e","level":null,"message":{json},"account_id":"1"}}"#
        );
        let now = Timestamp::UNIX_EPOCH;
        match read(message.as_bytes(), "the body", &Sender::Anybody, now) {
            Ok(read) => (201, read.message.get().to_owned()),
            Err(ApiError::Authentication(reason)) => (401, reason),
            Err(error) => {
                let (status, errors, _) = error.into_parts();
                (status.as_u16(), errors[0].detail.clone())
            }
        }
    }

    #[test]
    fn a_message_stays_as_it_is() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        for json in [
            "null",
            "[]",
            r#"{"a":{"a":[1e2,-0.0,12345678901234567890123]},"a":"\u00e4\ud83d\ude00\/"}"#,
            r#""\u0000""#,
            r#"[{"a\u0000":1}]"#,
            r#"{"a":["\ud83d"]}"#,
            "[1e999,-1E-999]",
            deep.as_str(),
        ] {
            assert_eq!(status(json), (201, json.to_owned()));
        }
        for json in ["[1,]", "nil", "01", "\"\t\"", "\"\\x\"", "1 2", ""] {
            let (status, said) = status(json);
            assert!(
                status == 400 && said.contains("is not JSON"),
                "{json}: {said}"
            );
        }
    }

    #[test]
    fn a_time_may_have_more_digits_than_are_kept() {
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", Ok("2026-01-02T03:04:05.000Z")),
            (
                "2026-01-02T03:04:05.1239999999999+00:00",
                Ok("2026-01-02T03:04:05.123Z"),
            ),
            (
                "2026-01-02T03:04:05.0000000001Z",
                Ok("2026-01-02T03:04:05.000Z"),
            ),
            ("2026-01-02T03:04:05.Z", Err("is not an RFC 3339 time")),
        ] {
            let read = time(Some(text.into()), Timestamp::UNIX_EPOCH);
            assert_eq!(read.as_deref().map_err(|error| *error), expected, "{text}");
        }
    }

    #[test]
    fn what_the_database_stores_has_no_nul_and_no_digit_is_lost() {
        let read = |account: &str, level: &str| {
            let json = format!(
                r#"{{"application":"a","event_type":"e","level":{level},"message":1,"account_id":{account}}}"#
            );
            let read = read(
                json.as_bytes(),
                "the body",
                &Sender::Anybody,
                Timestamp::UNIX_EPOCH,
            );
            read.map(|read| read.account_id)
                .map_err(|error| format!("{error:?}"))
        };
        for number in ["123456789012345678901", "123456789012345678902", "7"] {
            assert_eq!(read(number, "null").as_deref(), Ok(number));
        }
        for (account, level) in [("1.5", "null"), ("1e3", "null"), ("-1", "null")] {
            let said = read(account, level).expect_err("refused");
            assert!(said.contains("is not a string"), "{said}");
        }
        let (longest, longer) = ("1".repeat(255), "1".repeat(256));
        assert_eq!(read(&longest, "null").as_ref(), Ok(&longest));
        for account in [longer.clone(), format!("\"{longer}\"")] {
            let said = read(&account, "null").expect_err("refused");
            assert!(said.contains("is too long"), "{said}");
        }
        for (account, level) in [(r#""a\u0000""#, "null"), ("1", r#""a\u0000""#)] {
            assert!(read(account, level).expect_err("refused").contains(NUL));
        }
    }
}
