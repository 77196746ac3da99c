//! `[push_notification.NAME]`: drivers that get the events of all accounts, with the options that
//! they have in Dovecot. Nothing of their values is shown: passwords are among them.

use std::collections::BTreeMap;

use anyhow::Result;
use dovecast_drivers::configured::options::Written;
use dovecast_drivers::configured::{Block, ConfiguredDriver, Surroundings};
use dovecast_drivers::http::sockets::Sockets;
use serde::{Deserialize, Deserializer, de};

use super::Config;

/// Blocks by their names.
pub(crate) type PushNotification = BTreeMap<String, Block>;

#[derive(Deserialize)]
struct Section {
    driver: Option<String>,
    push_notification_driver: Option<String>,
    #[serde(default)]
    plugin: BTreeMap<String, Value>,
    #[serde(flatten)]
    options: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Truth(bool),
    Number(i64),
}

impl Value {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Truth(truth) => (if truth { "yes" } else { "no" }).to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// Reads all blocks. What their options mean is checked with [`Config::configured_drivers`].
pub(super) fn read<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<PushNotification, D::Error> {
    // What is no value of an option is not shown.
    let sections = BTreeMap::<String, Section>::deserialize(deserializer).map_err(|_| {
        de::Error::custom("this is no block [push_notification.NAME]: its options are text, numbers and booleans, and `plugin` is a table of them")
    })?;
    let block = |(name, section): (String, Section)| {
        let driver = section.driver.or(section.push_notification_driver);
        let driver = driver.ok_or_else(|| {
            de::Error::custom(format!("[push_notification.{name}] driver: is missing"))
        })?;
        let written = |(key, value): (String, Value)| match value {
            Value::Truth(truth) => (key, Written::Truth(truth)),
            value => (key, Written::Text(value.text())),
        };
        let block = Block {
            driver,
            options: section.options.into_iter().map(written).collect(),
            plugin: section
                .plugin
                .into_iter()
                .map(|(key, value)| (key, value.text()))
                .collect(),
            name: name.clone(),
        };
        Ok((name, block))
    };
    sections.into_iter().map(block).collect()
}

impl Config {
    /// The drivers of the configuration.
    pub(crate) fn configured_drivers(&self, sockets: &Sockets) -> Result<Vec<ConfiguredDriver>> {
        let surroundings = Surroundings {
            sockets: sockets.clone(),
        };
        let blocks = self.push_notification.values();
        let made = blocks.map(|block| Ok(block.make(&surroundings)?));
        made.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_shows_is_a_configuration() {
        let page = include_str!("../../../../docs/drivers/dovecot.md");
        let (_, shown) = page.split_once("```toml\n").expect("an example");
        let (shown, _) = shown.split_once("```").expect("its end");
        let config = Config::parse(shown).expect("a configuration");
        let drivers = config.configured_drivers(&Sockets::default());
        let drivers = drivers.expect("drivers");
        let kinds: Vec<_> = drivers.iter().map(|driver| driver.kind).collect();
        assert_eq!(kinds, ["ox", "dlog", "ox"]);
    }

    #[test]
    fn what_is_wrong_names_block_and_key() {
        for (text, expected) in [
            (
                "[push_notification.a]\nurl = 'http://h/'",
                "[push_notification.a] driver: is missing",
            ),
            (
                "[push_notification.a]\ndriver = 'ox'\nurl = []",
                "this is no block [push_notification.NAME]",
            ),
        ] {
            let error = Config::parse(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        let config = Config::parse("[push_notification.a]\ndriver = 'ox'\nurl_ = 'x'");
        let config = config.expect("a configuration");
        let error = config.configured_drivers(&Sockets::default());
        let error = error.expect_err("an unknown option").to_string();
        assert!(
            error.starts_with("[push_notification.a] url_: unknown option"),
            "{error}"
        );
    }
}
