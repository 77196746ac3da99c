//! Properties of librdkafka. Their values are never printed. The value of `NAME_file` says where
//! the value of `NAME` stands, which is read when a client is made: librdkafka has no property that
//! ends so.

use std::collections::BTreeMap;
use std::fmt;

#[cfg(feature = "kafka")]
use anyhow::Context;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

#[cfg(feature = "kafka")]
use super::elsewhere::Absent;
use super::elsewhere::Elsewhere;

/// Behind the name of a property whose value stands elsewhere.
const FROM_FILE: &str = "_file";
/// What the names of properties about logins begin with; librdkafka refuses a login without a
/// password.
#[cfg(feature = "kafka")]
const OF_LOGINS: &str = "sasl.";
/// Passwords of keys: librdkafka reads the key as soon as a client is made.
#[cfg(feature = "kafka")]
const OF_KEYS: [&str; 2] = ["ssl.key.password", "ssl.keystore.password"];
/// What the names of properties begin with that say where a key is.
#[cfg(feature = "kafka")]
const KEYS: [&str; 2] = ["ssl.key.", "ssl.keystore."];

/// Values by the names of their properties, and the places of those that stand elsewhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    here: BTreeMap<String, String>,
    elsewhere: BTreeMap<String, Elsewhere>,
}

#[cfg(feature = "kafka")]
impl Properties {
    /// All names and values; `section` is where the properties are in the file. A check goes on
    /// without what it cannot have: a login gets another password, and a key is left out.
    pub(super) fn read(
        &self,
        section: &str,
        absent: Absent,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let mut values = self.here.clone();
        let mut left_out = Vec::new();
        for (name, place) in &self.elsewhere {
            match place.read() {
                Err(_) if absent == Absent::Replaced => left_out.push(name),
                read => {
                    let setting = || format!("`{name}{FROM_FILE}` of [{section}]");
                    values.insert(name.clone(), read.with_context(setting)?);
                }
            }
        }
        for name in left_out {
            if OF_KEYS.contains(&&**name) {
                values.retain(|other, _| !KEYS.iter().any(|key| other.starts_with(key)));
            } else if name.starts_with(OF_LOGINS) {
                values.insert(name.clone(), "x".to_owned());
            }
        }
        Ok(values.into_iter().collect())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.here.keys().chain(self.elsewhere.keys());
        f.debug_set().entries(names).finish()
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
                let mut properties = Properties::default();
                while let Some((name, value)) = map.next_entry::<String, toml::Value>()? {
                    let Some(text) = text_of(value) else {
                        return Err(de::Error::custom(format!(
                            "property `{name}` is neither text nor a number nor a boolean"
                        )));
                    };
                    properties.add(&name, text).map_err(de::Error::custom)?;
                }
                Ok(properties)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

impl Properties {
    /// Adds a property as it is written in the file.
    fn add(&mut self, written: &str, text: String) -> Result<(), String> {
        let name = written.strip_suffix(FROM_FILE).unwrap_or(written);
        if self.here.contains_key(name) || self.elsewhere.contains_key(name) {
            return Err(format!(
                "property `{name}` is there twice, by itself and from a file"
            ));
        }
        if name == written {
            self.here.insert(name.to_owned(), text);
        } else {
            let place = Elsewhere::checked(&text);
            let place = place.map_err(|error| format!("property `{written}`: {error}"))?;
            self.elsewhere.insert(name.to_owned(), place);
        }
        Ok(())
    }
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

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_property_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for (text, expected) in [
            ("s3cret", "s3cret"),
            ("s3 cret\r\n", "s3 cret"),
            ("a\n\n", "a\n"),
        ] {
            std::fs::write(file.path(), text).expect("written");
            let path = file.path().display();
            for section in ["kafka", "kafka_clusters.c"] {
                let brokers = "brokers = ['a:1']";
                let properties = format!("'sasl.password_file' = '{path}'");
                let text = format!("[{section}]\n{brokers}\n[{section}.properties]\n{properties}");
                let config = Config::parse(&text).expect("a configuration");
                assert!(!format!("{config:?}").contains("s3"), "{config:?}");
                let found = properties_of(&config, section, Absent::Refused).expect(section);
                assert_eq!(found, [("sasl.password".to_owned(), expected.to_owned())]);
            }
            let twice = format!("[kafka.properties]\n'a' = 's3cret'\n'a_file' = '{path}'");
            let error = Config::parse(&twice).expect_err("twice");
            assert!(error.contains("property `a` is there twice"), "{error}");
            assert!(!error.contains("s3"), "{error}");
        }
    }

    fn properties_of(
        config: &Config,
        section: &str,
        absent: Absent,
    ) -> Result<Vec<(String, String)>, String> {
        let properties = match section {
            "kafka" => config
                .kafka_options_with(absent)
                .map(|kafka| kafka.properties),
            _ => crate::config::clusters::options(&config.kafka_clusters, absent)
                .map(|mut all| all.remove(0).kafka.properties),
        };
        properties.map_err(|error| format!("{error:#}"))
    }

    /// A command that needs no Kafka runs where the password of one is not, and a check goes on.
    #[test]
    fn a_property_that_stands_elsewhere_is_read_by_who_needs_it() {
        for section in ["kafka", "kafka_clusters.c"] {
            for (place, expected) in [
                ("/no/such/file", "cannot read `/no/such/file`: No such file"),
                ("env:DOVECAST_NOT_SET", "`DOVECAST_NOT_SET`: it is not set"),
                ("credential:copies", "credential `copies`"),
            ] {
                let text = format!(
                    "[{section}]\nbrokers = ['a:1']\n[{section}.properties]\n'ssl.key.location' = '/k'\n'ssl.key.password_file' = '{place}'\n'sasl.password_file' = '{place}'"
                );
                let config = Config::parse(&text).expect(&text);
                let error = properties_of(&config, section, Absent::Refused).expect_err(&text);
                let named = format!("`sasl.password_file` of [{section}.properties]: ");
                assert!(
                    error.starts_with(&named) && error.contains(expected),
                    "{error}"
                );
                let found = properties_of(&config, section, Absent::Replaced).expect(&text);
                assert_eq!(found, [("sasl.password".to_owned(), "x".to_owned())]);
            }
        }
    }
}
