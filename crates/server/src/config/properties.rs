//! Properties of librdkafka. Their values are never printed. The value of `NAME_file` says where
//! the value of `NAME` stands: librdkafka has no property that ends so.

use std::collections::BTreeMap;
use std::fmt;

use super::elsewhere::Elsewhere;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

/// Behind the name of a property whose value is in a file.
const FROM_FILE: &str = "_file";

/// By name.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Properties;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of librdkafka properties")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties, A::Error> {
                let mut properties = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, toml::Value>()? {
                    let Some(text) = text_of(value) else {
                        return Err(de::Error::custom(format!(
                            "property `{name}` is neither text nor a number nor a boolean"
                        )));
                    };
                    let (name, text) = match name.strip_suffix(FROM_FILE) {
                        Some(of) => (
                            of.to_owned(),
                            of_file(of, &text).map_err(de::Error::custom)?,
                        ),
                        None => (name, text),
                    };
                    if properties.contains_key(&name) {
                        return Err(de::Error::custom(format!(
                            "property `{name}` is there twice, by itself and from a file"
                        )));
                    }
                    properties.insert(name, text);
                }
                Ok(Properties(properties))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// The value of a property that stands elsewhere.
fn of_file(property: &str, place: &str) -> Result<String, String> {
    let read = Elsewhere::parse(place).read();
    read.map_err(|error| format!("the file of property `{property}` cannot be read: {error:#}"))
}

fn text_of(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}
