//! A registration in YAML, in which ids, names and titles are the text as it stands.
//!
//! YAML makes a number of `007`, and a truth of `on`, where nothing says that a text is meant. Here
//! their places are read as texts; elsewhere nothing is expected that has another type.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Most events of the parser that aliases of YAML may stand for.
const MAX_REPLAYED: usize = 20_000;
/// Most bytes that aliases of YAML may stand for: each event is at most as long as the body.
const MAX_REPLAYED_BYTES: usize = 64 * 1024 * 1024;

/// Reads a body; the error is that of the reader of YAML, with line and column.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    // The budget of the reader counts what aliases stand for, not how long it is; at most it is the
    // body each time.
    let replayed = MAX_REPLAYED.min(MAX_REPLAYED_BYTES / bytes.len().max(1));
    let limits = serde_saphyr::alias_limits! { max_total_replayed_events: replayed };
    let options = serde_saphyr::options! { alias_limits: limits };
    let read = serde_saphyr::from_slice_with_options(bytes, options);
    read.map(|Body(value)| value)
        .map_err(|error| error.to_string())
}

struct Body(Value);

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Part::Body.deserialize(deserializer).map(Self)
    }
}

/// A part of a registration.
#[derive(Clone, Copy)]
enum Part {
    Body,
    /// The application, an event type or a level.
    Described,
    /// A list of such.
    List,
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a registration")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let value = match (self, &*key) {
                (Self::Body, "application") => access.next_value_seed(Self::Described)?,
                (Self::Body, "event_types") | (Self::Described, "levels") => {
                    access.next_value_seed(Self::List)?
                }
                (Self::Described, "id" | "name" | "title") => {
                    let text: Option<String> = access.next_value()?;
                    text.map_or(Value::Null, Value::String)
                }
                _ => access.next_value()?,
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(Self::Described)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_the_text_as_it_stands() {
        for text in [
            "007",
            "1e3",
            "0x1F",
            "0o17",
            "1_000",
            "1.10",
            "+1",
            "-0",
            "yes",
            "on",
            "off",
            "No",
            "true",
            "True",
            ".inf",
            ".nan",
            "2026-11-20",
            "12:30:45",
            "123456789012345678901234567890",
        ] {
            let yaml = format!(
                "application: {{name: {text}, title: {text}}}\nevent_types:\n  - id: {text}\n    title: t\n    levels:\n      - {{id: {text}, title: '{text}'}}\n"
            );
            let expected = json!({
                "application": {"name": text, "title": text},
                "event_types": [{"id": text, "title": "t", "levels": [{"id": text, "title": text}]}],
            });
            assert_eq!(read(yaml.as_bytes()), Ok(expected), "{text}");
        }
        // What is no text is none, and quotes make one of it.
        for (text, expected) in [
            ("~", Value::Null),
            ("null", Value::Null),
            ("", Value::Null),
            ("'null'", json!("null")),
            ("\"~\"", json!("~")),
        ] {
            let yaml = format!("application:\n  name: {text}\n");
            let expected = json!({"application": {"name": expected}});
            assert_eq!(read(yaml.as_bytes()), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_registration_is_read_for_what_it_is() {
        for (yaml, expected) in [
            ("7", json!(7)),
            ("[a, 1]", json!(["a", 1])),
            ("application: 7", json!({"application": 7})),
            ("event_types: {a: 1}", json!({"event_types": {"a": 1}})),
            ("other: {id: 7}", json!({"other": {"id": 7}})),
        ] {
            assert_eq!(read(yaml.as_bytes()), Ok(expected), "{yaml}");
        }
        assert!(read(b"application: {name: [a]}").is_err());
    }

    #[test]
    fn aliases_may_not_multiply_a_long_text() {
        let yaml = |chars: usize, aliases: usize| {
            // The reader wants some anchors for many aliases.
            let anchors: Vec<String> = (0..aliases).map(|number| format!("&a{number} 1")).collect();
            format!(
                "a: &a \"{}\"\nb: [{}]\nc: [{}]\n",
                "x".repeat(chars),
                anchors.join(","),
                vec!["*a"; aliases].join(",")
            )
        };
        assert!(read(yaml(100, 1000).as_bytes()).is_ok());
        assert!(read(yaml(800_000, 1000).as_bytes()).is_err());
    }
}
