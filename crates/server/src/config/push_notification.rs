//! `[push_notification.NAME]`: drivers that get the events of all accounts, with the options that
//! they have in Dovecot. Nothing of their values is shown: passwords are among them. The URL of a
//! driver `ox` may stand elsewhere, as it has a password.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use dovecast_drivers::configured::options::Written;
use dovecast_drivers::configured::{Block, ConfiguredDriver, LUA_ATTEMPT_LIMIT, Surroundings};
use dovecast_drivers::http::sockets::Sockets;
use serde::{Deserialize, Deserializer, de};

use super::Config;
use super::drivers::OWN_PROGRAM;
use super::elsewhere::{Absent, Elsewhere};
use crate::cli::LUA_HOST;

/// What the section says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PushNotification {
    /// Blocks by their names.
    blocks: BTreeMap<String, Block>,
    /// The script of all blocks with the driver `lua` that name none.
    lua_script_file: Option<String>,
}

/// Keys of the script of all blocks; they are no names of blocks then.
const SCRIPT_FILE: [&str; 2] = ["lua_script_file", "push_notification_lua_script_file"];

/// Options that say where the one without the ending stands.
const ELSEWHERE: [&str; 3] = ["ox_url_file", "push_notification_ox_url_file", "url_file"];
/// A URL in the place of one that may be absent and is.
const STAND_IN: &str = "http://localhost/";

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Text(String),
    Section(Box<Section>),
}

#[derive(Deserialize)]
struct Section {
    driver: Option<String>,
    push_notification_driver: Option<String>,
    #[serde(default)]
    plugin: BTreeMap<String, Value>,
    #[serde(alias = "settings", alias = "push_notification_lua_settings")]
    lua_settings: Option<BTreeMap<String, Value>>,
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
    let entries = BTreeMap::<String, Entry>::deserialize(deserializer).map_err(|_| {
        de::Error::custom("this is no block [push_notification.NAME]: its options are text, numbers and booleans, and `plugin` and `lua_settings` are tables of them")
    })?;
    let mut read = PushNotification::default();
    let mut sections = Vec::new();
    for (name, entry) in entries {
        match entry {
            Entry::Section(section) => sections.push((name, *section)),
            Entry::Text(script) if SCRIPT_FILE.contains(&&*name) => {
                read.lua_script_file = Some(script);
            }
            Entry::Text(_) => {
                let what = format!(
                    "[push_notification] {name}: unknown key, expected `{}` or blocks [push_notification.NAME]",
                    SCRIPT_FILE[0]
                );
                return Err(de::Error::custom(what));
            }
        }
    }
    let texts = |values: BTreeMap<String, Value>| {
        let texts = values.into_iter().map(|(key, value)| (key, value.text()));
        texts.collect()
    };
    let block = |(name, section): (String, Section)| {
        let driver = section.driver.or(section.push_notification_driver);
        let written = |(key, value): (String, Value)| match value {
            Value::Truth(truth) => (key, Written::Truth(truth)),
            value => (key, Written::Text(value.text())),
        };
        let block = Block {
            // As in Dovecot 2.4.
            driver: driver.unwrap_or_else(|| name.clone()),
            options: section.options.into_iter().map(written).collect(),
            plugin: texts(section.plugin),
            settings: section.lua_settings.map(texts),
            name: name.clone(),
        };
        (name, block)
    };
    read.blocks = sections.into_iter().map(block).collect();
    Ok(read)
}

impl Config {
    /// The drivers of the configuration; what stands elsewhere is read.
    pub(crate) fn configured_drivers(&self, sockets: &Sockets) -> Result<Vec<ConfiguredDriver>> {
        self.configured_drivers_with(sockets, Absent::Refused)
    }

    /// As [`Config::configured_drivers`].
    pub(super) fn configured_drivers_with(
        &self,
        sockets: &Sockets,
        absent: Absent,
    ) -> Result<Vec<ConfiguredDriver>> {
        let surroundings = Surroundings {
            sockets: sockets.clone(),
            lua_host: [OWN_PROGRAM, LUA_HOST].map(OsString::from).into(),
            lua_script_file: self.push_notification.lua_script_file.clone(),
            lua_attempt_limit: LUA_ATTEMPT_LIMIT,
        };
        let blocks = self.push_notification.blocks.values();
        let made = blocks.map(|block| Ok(fetched(block, absent)?.make(&surroundings)?));
        made.collect()
    }
}

/// The block with what stands elsewhere.
fn fetched(block: &Block, absent: Absent) -> Result<Block> {
    let mut block = block.clone();
    for key in ELSEWHERE {
        let Some(place) = block.options.remove(key) else {
            continue;
        };
        let place_of = || format!("[push_notification.{}] {key}", block.name);
        let Written::Text(place) = place else {
            anyhow::bail!("{}: this is not a place, expected a text", place_of());
        };
        let place = Elsewhere::checked(&place);
        let place = place.map_err(|error| anyhow::anyhow!("{}: {error}", place_of()))?;
        let value = place.read_or(absent, STAND_IN).with_context(place_of)?;
        let plain = key.trim_end_matches("_file");
        ensure!(
            !block.options.contains_key(plain),
            "{}: `{plain}` is there, too",
            place_of()
        );
        block.options.insert(plain.to_owned(), Written::Text(value));
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use dovecast_drivers::configured::option_names;

    use super::*;

    const PAGES: [&str; 2] = [
        include_str!("../../../../docs/drivers/dovecot.md"),
        include_str!("../../../../docs/drivers/lua.md"),
    ];

    /// The configurations that a page shows.
    fn shown(page: &str) -> Vec<&str> {
        let parts = page.split("```toml\n").skip(1);
        parts
            .map(|part| part.split_once("```").expect("its end").0)
            .collect()
    }

    #[test]
    fn what_the_page_shows_is_a_configuration_and_every_option_is_shown() {
        let [page, _] = PAGES;
        let dir = tempfile::tempdir().expect("a directory");
        let here = format!("{}/", dir.path().display());
        // Whatever the system trusts.
        let authority = include_str!("../../../drivers/tests/webhook/certificates/authority.pem");
        let url = "https://login:password@ox.example.org/notify";
        for (name, text) in [("ca.pem", authority), ("ox.url", url)] {
            std::fs::write(dir.path().join(name), text).expect("a file");
        }
        let mut kinds = Vec::new();
        for example in shown(page) {
            let config = Config::parse(&example.replace("/etc/dovecast/", &here));
            let config = config.expect(example);
            let drivers = config.configured_drivers(&Sockets::default());
            kinds.extend(drivers.expect(example).iter().map(|driver| driver.kind));
        }
        let expected = ["ox", "dlog", "ox", "ox", "ox", "dlog", "ox", "ox", "ox"];
        assert_eq!(kinds, expected);
        let table = page.lines().filter(|line| line.starts_with("| `"));
        let options = table.flat_map(|row| row.split('|').skip(1).take(2));
        let options: Vec<_> = options.filter_map(|cell| cell.split('`').nth(1)).collect();
        assert!(options.contains(&"ox_url") && options.contains(&"max_retries"));
        let all = shown(page).concat();
        for option in options {
            let is_shown = [format!("\n{option} = "), format!(" {option}")];
            let is_shown = is_shown.iter().any(|text| all.contains(text))
                || all.contains(&format!(":{option}="));
            assert!(is_shown, "no example of `{option}`");
        }
    }

    /// Keys that the examples have in blocks of a kind, as they are written there.
    fn keys_shown(kind: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for example in PAGES.into_iter().flat_map(shown) {
            let file: toml::Table = toml::from_str(example).expect(example);
            let section = file.get("push_notification");
            let section = section.and_then(toml::Value::as_table).expect(example);
            for (name, block) in section {
                let Some(block) = block.as_table() else {
                    continue;
                };
                let drivers = ["driver", "push_notification_driver"];
                let driver = drivers.iter().find_map(|key| block.get(*key)?.as_str());
                let driver = driver.unwrap_or(name);
                let (of, behind) = driver.split_once(':').unwrap_or((driver, ""));
                if of == kind {
                    let behind = behind.split_ascii_whitespace();
                    let behind = behind.filter_map(|option| option.split('=').next());
                    keys.extend(behind.map(str::to_owned));
                    keys.extend(block.keys().cloned());
                }
            }
        }
        keys
    }

    #[test]
    fn each_name_of_an_option_has_an_example() {
        for (kind, name) in option_names() {
            let keys = keys_shown(kind);
            let of_kind = format!("{kind}_");
            let is_it = |key: &String| {
                let bare = key.strip_prefix("push_notification_").unwrap_or(key);
                bare.strip_prefix(&of_kind).unwrap_or(bare) == name
            };
            assert!(keys.iter().any(is_it), "no `{name}` of {kind} in {keys:?}");
        }
        let spellings = ["url", "ox_url", "push_notification_ox_url"];
        let (ox, dlog) = (keys_shown("ox"), keys_shown("dlog"));
        for key in spellings.iter().chain(&ELSEWHERE) {
            assert!(ox.iter().any(|shown| shown == key), "no `{key}` in {ox:?}");
        }
        assert_eq!(dlog, ["driver"]);
    }

    #[cfg(feature = "lua")]
    #[test]
    fn what_the_page_of_lua_shows_is_a_configuration_and_every_option_is_shown() {
        let [_, page] = PAGES;
        let dir = tempfile::tempdir().expect("a directory");
        for script in ["push.lua", "all.lua"] {
            std::fs::write(dir.path().join(script), "").expect("a script");
        }
        let all = shown(page).concat();
        for example in shown(page) {
            let here = format!("{}/", dir.path().display());
            let config = Config::parse(&example.replace("/etc/dovecast/", &here));
            let drivers = config
                .expect(example)
                .configured_drivers(&Sockets::default());
            for driver in drivers.expect(example) {
                assert_eq!(driver.kind, "lua");
            }
            // The files are not there.
            let config = Config::parse(example).expect(example);
            let error = config.configured_drivers(&Sockets::default());
            let error = error.expect_err("no script").to_string();
            assert!(error.contains("Lua script '/etc/dovecast/"), "{error}");
        }
        for option in [
            "lua:file=",
            "lua_file",
            "\nlua_script_file",
            "push_notification_lua_script_file",
            "lua_settings",
            "plugin =",
            "lua_time_limit_seconds",
            "lua_memory_limit_mb",
            "dovecot =",
        ] {
            assert!(all.contains(option), "no example of `{option}`");
        }
    }

    #[test]
    fn the_url_of_a_driver_may_stand_elsewhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("url");
        std::fs::write(&file, "http://a:geheim@h/n\n").expect("a file");
        let made = |options: &str| {
            let text = format!("[push_notification.a]\ndriver = 'ox'\n{options}");
            let config = Config::parse(&text).expect("a configuration");
            let drivers = config.configured_drivers(&Sockets::default());
            drivers
                .map(|drivers| drivers.len())
                .map_err(|error| format!("{error:#}"))
        };
        for key in ELSEWHERE {
            assert_eq!(made(&format!("{key} = '{}'", file.display())), Ok(1));
        }
        for (options, expected) in [
            (
                format!("ox_url = 'http://h/'\nox_url_file = '{}'", file.display()),
                "[push_notification.a] ox_url_file: `ox_url` is there, too",
            ),
            (
                "ox_url_file = '/no/such/file'".to_owned(),
                "[push_notification.a] ox_url_file: cannot read `/no/such/file`",
            ),
            (
                "ox_url_file = true".to_owned(),
                "[push_notification.a] ox_url_file: this is not a place",
            ),
        ] {
            let error = made(&options).expect_err(expected);
            assert!(error.starts_with(expected), "{error}");
        }
        std::fs::write(&file, "geheim").expect("a file");
        let error = made(&format!("ox_url_file = '{}'", file.display()));
        let error = error.expect_err("no URL");
        assert!(
            error.starts_with("[push_notification.a] ox_url: Invalid") && !error.contains("geheim"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_names_block_and_key() {
        for (text, expected) in [
            (
                "[push_notification.a]\ndriver = 'ox'\nurl = []",
                "this is no block [push_notification.NAME]",
            ),
            (
                "[push_notification]\nlua_script = '/x'",
                "[push_notification] lua_script: unknown key, expected `lua_script_file`",
            ),
        ] {
            let error = Config::parse(text).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
        for (text, expected) in [
            (
                "[push_notification.a]\ndriver = 'ox'\nurl_ = 'x'",
                "[push_notification.a] url_: unknown option",
            ),
            (
                "[push_notification.a]\nurl = 'http://h/'",
                "[push_notification.a] driver: Unknown push notification driver: a, expected one of",
            ),
        ] {
            let config = Config::parse(text).expect("a configuration");
            let error = config.configured_drivers(&Sockets::default());
            let error = error.expect_err("no driver").to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_block_that_names_no_driver_has_its_name() {
        let config = Config::parse(
            "[push_notification.ox]\nox_url = 'http://h/'\n[push_notification.dlog]\n",
        );
        let config = config.expect("a configuration");
        let drivers = config.configured_drivers(&Sockets::default());
        let drivers = drivers.expect("drivers");
        let kinds: Vec<_> = drivers.iter().map(|driver| driver.kind).collect();
        assert_eq!(kinds, ["dlog", "ox"]);
    }
}
