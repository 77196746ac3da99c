//! One notification, read from the JSON that it came in.
//!
//! The JSON is gone through once for its fields; the message stays the bytes that it was, and is
//! checked without being built.

use std::borrow::Cow;
use std::fmt;

use dovecast_notification::outbox::NewNotification;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::api::error::{ApiError, ErrorObject, Errors};
use dovecast_operations::Sender;

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
    let account_id = value(account_id)?;
    if let Some(message) = message {
        check(message, what)?;
    }
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
    let account_id = noted("account_id", account(account_id, sender));
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
    if let Sender::Account(account) = sender
        && account.number != account_id
    {
        return Err(ApiError::forbidden(
            "This token sends notifications for its own account only",
        ));
    }
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
    check(raw, "the body")?;
    serde_json::from_str(raw.get()).map_err(ApiError::bad_request)
}

/// Refuses what JSON can spell and not everybody can read or store: halves of surrogate pairs,
/// numbers that are out of range, nesting without end, NUL characters.
fn check(raw: &RawValue, what: &str) -> Result<(), ApiError> {
    serde_json::from_str(raw.get())
        .map(|Readable| ())
        .map_err(|error| {
            if error.is_data() {
                ApiError::bad_request(NUL)
            } else {
                ApiError::bad_request(format!("{what} is not JSON: {error}"))
            }
        })
}

/// JSON that was read to the end, of which nothing is kept.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Readable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Readable, E> {
        if text.contains('\0') {
            return Err(E::custom(NUL));
        }
        Ok(Readable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Readable, A::Error> {
        while let Some(Readable) = items.next_element()? {}
        Ok(Readable)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Readable, A::Error> {
        while let Some((Readable, Readable)) = fields.next_entry()? {}
        Ok(Readable)
    }
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
        Some(Value::String(text)) => text.parse().map_err(drop),
        Some(_) => Err(()),
    };
    match time {
        Ok(time) => Ok(format!("{time:.3}")),
        Err(()) => Err("is not an RFC 3339 time"),
    }
}

/// Number of the account. Some senders write it as a JSON number.
fn account(value: Option<Value>, sender: &Sender) -> Result<String, &'static str> {
    match (value, sender) {
        (None, Sender::Account(account)) => Ok(account.number.clone()),
        (Some(Value::Number(number)), _) => Ok(number.to_string()),
        (value, _) => filled(value),
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
            Err(ApiError::Errors(status, errors)) => (status.as_u16(), errors[0].detail.clone()),
        }
    }

    #[test]
    fn a_message_stays_as_it_is_or_is_refused() {
        for json in [
            "null",
            "[]",
            r#"{"a":{"a":[1e2,-0.0,12345678901234567890123]},"a":"\u00e4\ud83d\ude00\/"}"#,
        ] {
            assert_eq!(status(json), (201, json.to_owned()));
        }
        let deep = "[".repeat(200) + &"]".repeat(200);
        for (json, reason) in [
            (r#""\u0000""#, NUL),
            (r#"[{"a\u0000":1}]"#, NUL),
            (r#"{"a":["\ud83d"]}"#, "hex escape"),
            ("[1e999]", "number out of range"),
            (&*deep, "recursion limit"),
            ("[1,]", "expected value"),
        ] {
            let (status, said) = status(json);
            assert!(status == 400 && said.contains(reason), "{json}: {said}");
        }
    }
}
