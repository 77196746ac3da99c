//! `dovecast import-dovecot [FILE|-]`: the part of dovecast.toml that does what the drivers of
//! Dovecot's plugin push_notification do, of what `doveconf -n` of 2.3 or of 2.4 prints.
//!
//! Reads lines, not the whole language of Dovecot's configuration: `doveconf` prints one setting or
//! one brace a line. What it does not know it says in comments.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::cli::ImportDovecotArguments;

/// What the plugin has to add to events for these drivers.
const PLUGIN: &str =
    "detail=full keyword_prefix= metadata=/private/vendor/vendor.dovecot/http-notify";
/// Drivers that are here, too.
const KNOWN: [&str; 3] = ["dlog", "lua", "ox"];

/// Reads the configuration of a Dovecot, and prints the part of ours.
pub(super) fn run(arguments: &ImportDovecotArguments) -> Result<()> {
    let text = super::input(&arguments.file)?;
    super::print(&imported(&String::from_utf8_lossy(&text)))
}

/// A driver, as Dovecot has it.
#[derive(Debug, Default)]
struct Found {
    name: String,
    driver: String,
    options: Vec<(String, String)>,
    /// What 2.4 gives to a script (`lua_settings { ... }`).
    settings: Option<BTreeMap<String, String>>,
}

/// What was found in a configuration.
#[derive(Debug, Default)]
struct Configuration {
    drivers: Vec<Found>,
    /// Other settings of the section `plugin` of 2.3.
    plugin: BTreeMap<String, String>,
}

/// The part of dovecast.toml.
fn imported(text: &str) -> String {
    let found = read(text);
    let mut out = String::new();
    let mut line = |text: &str| {
        out.push_str(text);
        out.push('\n');
    };
    if found.drivers.is_empty() {
        line("# There is no driver of push_notification in this configuration.");
        return out;
    }
    line(
        "# Drivers of Dovecot's plugin push_notification, for dovecast.toml. In Dovecot these go, and one takes their place:",
    );
    line(
        "#   2.3: plugin { push_notification_driver = kafka:DETAILS }   2.4: push_notification dovecast { driver = kafka ... }",
    );
    line(&format!(
        "# with transport=relay, and the options: {PLUGIN} userdb=uid,gid,home"
    ));
    for driver in &found.drivers {
        line("");
        line(&block(driver, &found.plugin));
    }
    out
}

fn block(found: &Found, plugin: &BTreeMap<String, String>) -> String {
    let kind = found.driver.split(':').next().unwrap_or_default();
    let mut block = String::new();
    let mut line = |text: String| {
        block.push_str(&text);
        block.push('\n');
    };
    if kind == "kafka" {
        line(format!(
            "# {}: the driver `kafka` is dovecast's own plugin, it stays in Dovecot.",
            found.name
        ));
        return block;
    }
    if !KNOWN.contains(&kind) {
        line(format!(
            "# {}: there is no driver `{kind}` here, it stays in Dovecot.",
            found.name
        ));
        return block;
    }
    line(format!("[push_notification.{}]", found.name));
    line(format!("driver = {}", quoted(&found.driver)));
    for (key, value) in &found.options {
        line(format!("{key} = {}", quoted(value)));
    }
    if let Some(settings) = &found.settings {
        line(format!("lua_settings = {}", table(settings)));
    }
    if kind == "lua" && !plugin.is_empty() {
        line("# What the script may ask for with plugin_getenv().".to_owned());
        line(format!("plugin = {}", table(plugin)));
    }
    block.truncate(block.trim_end().len());
    block
}

/// A table of TOML in one line. Names of Dovecot's settings may have dots in them.
fn table(settings: &BTreeMap<String, String>) -> String {
    let settings = settings
        .iter()
        .map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)));
    format!("{{ {} }}", settings.collect::<Vec<_>>().join(", "))
}

/// A text of TOML: a basic string, in which what is special is escaped.
fn quoted(text: &str) -> String {
    let escaped = |character: char| match character {
        '"' | '\\' => format!("\\{character}"),
        control if control.is_control() => format!("\\u{:04X}", u32::from(control)),
        character => character.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}

fn read(text: &str) -> Configuration {
    let mut found = Configuration::default();
    // Names of the blocks that are open, the outermost first.
    let mut open: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line == "}" {
            open.pop();
        } else if let Some(head) = line.strip_suffix('{') {
            open.push(head.trim().to_owned());
            if let Some(name) = notification(&open) {
                found.drivers.push(Found {
                    name: name.to_owned(),
                    // A driver that is not named has the name of its block.
                    driver: name.to_owned(),
                    ..Found::default()
                });
            } else if head.trim().ends_with("lua_settings")
                && is_in_driver(&open)
                && let Some(driver) = found.drivers.last_mut()
            {
                driver.settings.get_or_insert_default();
            }
        } else if let Some((key, value)) = line.split_once('=') {
            setting(&mut found, &open, (key.trim(), value.trim()));
        }
    }
    found
}

/// Name of the block of 2.4 that is open, if it is one of a driver.
fn notification(open: &[String]) -> Option<&str> {
    let block = open.last()?.strip_prefix("push_notification ")?;
    Some(block.trim().trim_matches('"'))
}

/// Whether a block of 2.4 of a driver is open.
fn is_in_driver(open: &[String]) -> bool {
    open.iter()
        .any(|head| head.starts_with("push_notification "))
}

/// A value, which may stand in quotes.
fn unquoted(value: &str) -> String {
    match value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
    {
        Some(value) => value.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

fn setting(found: &mut Configuration, open: &[String], (key, value): (&str, &str)) {
    let of_block = is_in_driver(open);
    let of_script = open
        .last()
        .is_some_and(|head| head.ends_with("lua_settings"));
    if of_block
        && of_script
        && let Some(driver) = found.drivers.last_mut()
    {
        let settings = driver.settings.get_or_insert_default();
        settings.insert(unquoted(key), unquoted(value));
    } else if of_block && let Some(driver) = found.drivers.last_mut() {
        // Doveconf prints the whole names.
        let bare = key.strip_prefix("push_notification_").unwrap_or(key);
        match bare {
            "driver" => driver.driver = unquoted(value),
            "name" => {}
            _ => driver.options.push((bare.to_owned(), unquoted(value))),
        }
    } else if open.last().is_some_and(|head| head == "plugin") {
        let value = unquoted(value);
        let value = value.as_str();
        match key.strip_prefix("push_notification_driver") {
            Some(number) if number.chars().all(|digit| digit.is_ascii_digit()) => {
                let kind = value.split(':').next().unwrap_or_default();
                let number = if number.is_empty() { "1" } else { number };
                found.drivers.push(Found {
                    name: format!("{kind}{number}"),
                    // 2.3 expands variables in it: what is doubled there is one here.
                    driver: value.replace("%%", "%"),
                    ..Found::default()
                });
            }
            _ => {
                found.plugin.insert(key.to_owned(), value.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "# 2.3.19.1: /etc/dovecot/dovecot.conf\nmail_plugins = notify push_notification\nplugin {\n  push_lua_url = http://127.0.0.1:9000/handler\n  push_notification_driver = ox:url=http://login:p%%40ss@h:8009/n user_from_metadata\n  push_notification_driver2 = lua:file=/etc/dovecot/push.lua\n  push_notification_driver3 = kafka:topic=a\n}\nprotocol lmtp {\n  mail_plugins = notify\n}\n";
    const NEW: &str = "# 2.4.1\npush_notification ox1 {\n  driver = ox\n  ox_url = http://h/n\n  push_notification_ox_cache_ttl = 10 secs\n}\npush_notification dlog {\n}\npush_notification other {\n  driver = mine\n}\npush_notification script {\n  driver = lua\n  lua_file = \"/etc/dovecot/my \\\"push\\\".lua\"\n  lua_settings {\n    web.url = http://h/\n  }\n}\n";

    #[test]
    fn drivers_of_either_dovecot_become_blocks() {
        let old = imported(OLD);
        for expected in [
            "[push_notification.ox1]\ndriver = \"ox:url=http://login:p%40ss@h:8009/n user_from_metadata\"\n",
            "[push_notification.lua2]\ndriver = \"lua:file=/etc/dovecot/push.lua\"\n",
            "plugin = { \"push_lua_url\" = \"http://127.0.0.1:9000/handler\" }",
            "# kafka3: the driver `kafka` is dovecast's own plugin, it stays in Dovecot.",
            "detail=full keyword_prefix= metadata=/private/vendor/vendor.dovecot/http-notify",
        ] {
            assert!(old.contains(expected), "{expected} in {old}");
        }
        let new = imported(NEW);
        for expected in [
            "[push_notification.ox1]\ndriver = \"ox\"\nox_url = \"http://h/n\"\nox_cache_ttl = \"10 secs\"\n",
            "[push_notification.dlog]\ndriver = \"dlog\"",
            "# other: there is no driver `mine` here, it stays in Dovecot.",
            "driver = \"lua\"\nlua_file = \"/etc/dovecot/my \\\"push\\\".lua\"\nlua_settings = { \"web.url\" = \"http://h/\" }",
        ] {
            assert!(new.contains(expected), "{expected} in {new}");
        }
        assert!(imported("mail_plugins = x\n").starts_with("# There is no driver"));
        // What was imported of 2.4 is a configuration.
        assert!(crate::config::Config::parse(&new).is_ok(), "{new}");
    }
}
