//! What `doveconf -n` prints: drivers of push_notification, and the settings that belong to them.
//!
//! Reads lines, not the whole language of Dovecot's configuration: `doveconf` prints one setting or
//! one brace a line.

use std::collections::{BTreeMap, BTreeSet};

/// The section of 2.4 about TLS where Dovecot is the client.
const TLS: &str = "ssl_client";
/// What doveconf prints instead of a password, unless it is told to show it: of that in a URL, and
/// of the value of a setting whose name ends in `_password`, `_key`, `_secret` or `_nonce`.
const HIDDEN: [&str; 2] = ["#hidden_use-P_to_show#", "# hidden, use -P to show it"];

/// Options of 2.4 that doveconf prints without the name of their driver where that is the name of
/// the section that they are in, too.
const SHORT: [(&str, &[&str]); 2] = [
    ("ox", &["url", "cache_ttl", "user_from_metadata"]),
    ("lua", &["file"]),
];

/// Which Dovecot a configuration is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Series {
    #[default]
    V2_3,
    V2_4,
}

/// A driver, as Dovecot has it.
#[derive(Debug, Default)]
pub(super) struct Driver {
    /// Name of the block that it becomes.
    pub(super) name: String,
    /// Name of the kind.
    pub(super) kind: String,
    /// Options with their values as they were written; `None`: there is no `=`, as 2.3 allows.
    pub(super) options: Vec<(String, Option<String>)>,
    /// What 2.4 gives to a script (`lua_settings { ... }`).
    pub(super) settings: Option<BTreeMap<String, String>>,
    /// What is to be said of it.
    pub(super) notes: Vec<String>,
}

/// What was found in a configuration.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    pub(super) series: Series,
    pub(super) drivers: Vec<Driver>,
    /// Settings of the section `plugin` of 2.3 that name no driver.
    pub(super) plugin: BTreeMap<String, String>,
    /// Settings of all drivers, outside of their blocks.
    pub(super) globals: BTreeMap<String, String>,
    /// `lua_settings { ... }` of all scripts.
    pub(super) settings: Option<BTreeMap<String, String>>,
    /// What is to be said of what is no driver here.
    pub(super) notes: Vec<String>,
}

impl Driver {
    /// Gives options the names that say of which driver they are: that is known when all of the
    /// block was read.
    fn name_options_in_full(&mut self) {
        let kind = self.kind.to_ascii_lowercase();
        for (key, _) in &mut self.options {
            if let Some(full) = in_full(&kind, key) {
                *key = full;
            }
        }
    }
}

/// The whole name of an option that was written without its driver's.
fn in_full(kind: &str, key: &str) -> Option<String> {
    let (_, short) = SHORT.iter().find(|(of, _)| *of == kind)?;
    short.contains(&key).then(|| format!("{kind}_{key}"))
}

impl Configuration {
    /// Two blocks of one name are no configuration.
    pub(super) fn make_names_unique(&mut self) {
        let mut taken = BTreeSet::new();
        for driver in &mut self.drivers {
            let mut name = driver.name.clone();
            let mut number = 2;
            while !taken.insert(name.clone()) {
                name = format!("{}_{number}", driver.name);
                number += 1;
            }
            if name != driver.name {
                let note = format!("Another driver is called {}, too.", driver.name);
                driver.notes.push(note);
                driver.name = name;
            }
        }
    }
}

/// Whether doveconf hides something in a value.
pub(super) fn is_hidden(value: &str) -> bool {
    HIDDEN.iter().any(|mark| value.contains(mark))
}

/// Reads what `doveconf -n` has printed.
pub(super) fn read(text: &str) -> Configuration {
    let mut found = Configuration::default();
    // What of the section `plugin` names drivers, as it was written.
    let mut named: BTreeMap<String, String> = BTreeMap::new();
    // Names of the sections that are open, the outermost first.
    let mut open: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A value may end with a brace; the name of a setting is one word.
        let of_setting = line.split_once('=').map(|(key, value)| (key.trim(), value));
        let of_setting = of_setting.filter(|(key, _)| !key.contains(' '));
        if line == "}" {
            open.pop();
        } else if let Some((key, value)) = of_setting {
            let (key, value) = (unquoted(key), unquoted(value.trim()));
            if open.last().is_some_and(|head| head == "plugin") {
                of_plugin(&mut found, &mut named, &open, (key, value));
            } else {
                setting(&mut found, &open, key, value);
            }
        } else if let Some(head) = line.strip_suffix('{') {
            open.push(head.trim().to_owned());
            begin(&mut found, &open);
        }
    }
    for driver in &mut found.drivers {
        driver.name_options_in_full();
    }
    for base in ["push_notification_driver", "push_notification_backend"] {
        // The second is the older name, which counts where there is none of the first.
        if found.drivers.is_empty() {
            numbered(&mut found, &named, base);
        }
    }
    found
}

/// Name of the block of 2.4 of a driver, if one is open.
fn block(open: &[String]) -> Option<&str> {
    let heads = open.iter();
    let mut names = heads.filter_map(|head| head.strip_prefix("push_notification "));
    names.next().map(|name| name.trim().trim_matches('"'))
}

fn is_of_script(open: &[String]) -> bool {
    let last = open.last();
    last.is_some_and(|head| head.ends_with("lua_settings"))
}

/// A section begins.
fn begin(found: &mut Configuration, open: &[String]) {
    let Some(name) = block(open) else {
        if is_of_script(open) && open.len() == 1 {
            found.settings.get_or_insert_default();
        }
        return;
    };
    let is_head = open
        .last()
        .is_some_and(|head| head.starts_with("push_notification "));
    if is_head {
        found.series = Series::V2_4;
        let mut driver = Driver {
            name: name.to_owned(),
            // A driver that is not named has the name of its block.
            kind: name.to_owned(),
            ..Driver::default()
        };
        if let [place, _] = open {
            let note = format!("In Dovecot it is in `{place}`; here it gets the events of all.");
            driver.notes.push(note);
        }
        found.drivers.push(driver);
    } else if is_of_script(open)
        && let Some(driver) = found.drivers.last_mut()
    {
        driver.settings.get_or_insert_default();
    }
}

/// A setting that stands in no section `plugin`.
fn setting(found: &mut Configuration, open: &[String], key: String, value: String) {
    // Doveconf prints the whole names, or short ones: in sections, without their names.
    let is_of_tls = open.last().is_some_and(|head| head == TLS);
    let bare = match key.strip_prefix("push_notification_") {
        Some(bare) => bare.to_owned(),
        None if is_of_tls && !key.starts_with("ssl_") => format!("{TLS}_{key}"),
        None => key.clone(),
    };
    if block(open).is_some() {
        let Some(driver) = found.drivers.last_mut() else {
            return;
        };
        if is_of_script(open) {
            driver.settings.get_or_insert_default().insert(key, value);
        } else {
            match &*bare {
                "driver" => driver.kind = value,
                "name" => {}
                _ => driver.options.push((bare, Some(value))),
            }
        }
        return;
    }
    match open {
        [] => drop(found.globals.insert(bare, value)),
        [head] if head == TLS => drop(found.globals.insert(bare, value)),
        [head] if ["push_notification_ox", "push_notification_lua"].contains(&&**head) => {
            let kind = head.strip_prefix("push_notification_").unwrap_or(head);
            let full = in_full(kind, &bare).unwrap_or(bare);
            found.globals.insert(full, value);
        }
        [_] if is_of_script(open) => {
            found.settings.get_or_insert_default().insert(key, value);
        }
        _ => {}
    }
}

/// A setting of a section `plugin` of 2.3.
fn of_plugin(
    found: &mut Configuration,
    named: &mut BTreeMap<String, String>,
    open: &[String],
    (key, value): (String, String),
) {
    let names_driver = ["push_notification_driver", "push_notification_backend"]
        .iter()
        .any(|base| key.starts_with(base));
    match (open, names_driver) {
        ([_], true) => drop(named.insert(key, value)),
        ([_], false) => drop(found.plugin.insert(key, value)),
        ([place, ..], true) => {
            let note = format!(
                "{key} of `{place}` is not taken over: here drivers get the events of all."
            );
            found.notes.push(note);
        }
        _ => {}
    }
}

/// The drivers of 2.3: one without a number, then 2, 3 and so on up to the first gap.
fn numbered(found: &mut Configuration, named: &BTreeMap<String, String>, base: &str) {
    let mut reached = BTreeSet::new();
    let mut key = base.to_owned();
    let mut number = 1;
    while let Some(value) = named.get(&key).filter(|value| !value.is_empty()) {
        let (kind, options) = value.split_once(':').unwrap_or((value, ""));
        let option = |option: &str| match option.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (option.to_owned(), None),
        };
        found.drivers.push(Driver {
            name: format!("{kind}{number}"),
            kind: kind.to_owned(),
            options: options.split_ascii_whitespace().map(option).collect(),
            ..Driver::default()
        });
        reached.insert(key);
        number += 1;
        key = format!("{base}{number}");
    }
    for other in named.keys() {
        if other.starts_with(base) && !reached.contains(other) {
            let note = format!(
                "{other} is not taken over: Dovecot does not come to it, there is no {key}."
            );
            found.notes.push(note);
        }
    }
}

/// A text, which may stand in quotes.
fn unquoted(text: &str) -> String {
    let inside = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let Some(inside) = inside else {
        return text.to_owned();
    };
    let mut plain = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            character => plain.push(character),
        }
    }
    plain
}
