//! A driver of Dovecot's as a block of dovecast.toml that the server takes: what it refuses of one
//! is a comment, with the reason.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use dovecast_drivers::configured::options::{OptionError, Written, read_time};
use dovecast_drivers::configured::{Block, BlockError, LUA_ATTEMPT_LIMIT, Surroundings};
use dovecast_drivers::http::sockets::Sockets;

use super::comments;
use super::read::{Configuration, Driver, Series, is_hidden};

/// Drivers that are here, too.
const KNOWN: [&str; 3] = ["dlog", "lua", "ox"];
/// Keys of the script of 2.3's section `plugin` and of 2.4's settings.
const SCRIPT_FILE: &str = "push_notification_lua_script_file";
/// The script of 2.3's plugin `mail_lua`.
const MAIL_SCRIPT: &str = "mail_lua_script";
/// What to do about a password that is not there.
const UNHIDE: &str = "doveconf hides a password in it, `doveconf -nP` shows it";
/// Longest time of all tries of a request: an attempt is ended after a minute.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(50);

/// The block of a driver, or the comment that says why there is none.
pub(super) fn imported(driver: &Driver, found: &Configuration) -> String {
    let kind = driver.kind.to_ascii_lowercase();
    let name = &driver.name;
    if kind == "kafka" {
        let note =
            format!("{name}: the driver `kafka` is dovecast's own plugin, it stays in Dovecot.");
        return comments(&[note]);
    }
    if !KNOWN.contains(&&*kind) {
        let note = format!("{name}: there is no driver `{kind}` here, it stays in Dovecot.");
        return comments(&[note]);
    }
    let mut made = Making {
        name: name.clone(),
        kind,
        series: found.series,
        options: Vec::new(),
        settings: driver.settings.clone(),
        notes: driver.notes.clone(),
    };
    for (key, value) in &driver.options {
        made.add(key, value.as_deref());
    }
    made.add_globals(found);
    if made.kind == "lua" {
        made.find_script(found);
        made.settings = made.settings.or_else(|| found.settings.clone());
        made.read_settings();
    }
    made.bound_time();
    let left_out = made.check();
    let mut text = comments(&made.notes);
    if let Some(error) = left_out {
        return text + &comments(&[format!("{} is left out: {error}", made.head())]);
    }
    text += &made.block();
    if made.kind == "lua" && !found.plugin.is_empty() {
        text += &plugin(&found.plugin, found.series);
    }
    text
}

/// What a script asks for by name.
fn plugin(settings: &BTreeMap<String, String>, series: Series) -> String {
    let mut shown = settings.clone();
    let mut lines = vec!["What the script may ask for with plugin_getenv().".to_owned()];
    lines.extend(as_a_script_reads(&mut shown, series));
    format!("{}plugin = {}\n", comments(&lines), table(&shown))
}

/// Makes of the settings of a script what Dovecot has them read, without what doveconf hides; says
/// what is another.
fn as_a_script_reads(settings: &mut BTreeMap<String, String>, series: Series) -> Vec<String> {
    let hidden = settings.extract_if(.., |_, value| is_hidden(value));
    let note = |(key, _)| format!("{key} is left out: {UNHIDE}");
    let mut notes: Vec<_> = hidden.map(note).collect();
    for (key, value) in settings.iter_mut() {
        let (read, variables) = plain(value, series);
        *value = read;
        notes.extend(not_replaced(key, &variables));
    }
    notes
}

/// What is said of variables in a value.
fn not_replaced(key: &str, variables: &[String]) -> Option<String> {
    let named = variables.join(", ");
    let note = format!("{key}: {named} is a variable of Dovecot's, which is not replaced here.");
    (!variables.is_empty()).then_some(note)
}

/// A block that is being made.
struct Making {
    name: String,
    kind: String,
    series: Series,
    /// Options by their keys; each is there once.
    options: Vec<(String, Option<String>)>,
    settings: Option<BTreeMap<String, String>>,
    /// Comments that go before it.
    notes: Vec<String>,
}

impl Making {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.options.iter().find(|(of, _)| of == key);
        found.and_then(|(_, value)| value.as_deref())
    }

    fn set(&mut self, key: &str, value: String) {
        match self.options.iter_mut().find(|(of, _)| of == key) {
            Some((_, old)) => *old = Some(value),
            None => self.options.push((key.to_owned(), Some(value))),
        }
    }

    /// Takes an option as it was written; of two with one name the last counts, as in Dovecot.
    fn add(&mut self, key: &str, written: Option<&str>) {
        if self.options.iter().any(|(of, _)| of == key) {
            let note = format!("{key} is there twice, the last one counts.");
            self.notes.push(note);
            self.options.retain(|(of, _)| of != key);
        }
        // That it is there says everything in 2.3.
        let is_truth = self.series == Series::V2_3 && key == "user_from_metadata";
        let value = written.filter(|_| !is_truth).map(|written| {
            let (value, variables) = plain(written, self.series);
            self.notes.extend(not_replaced(key, &variables));
            value
        });
        self.options.push((key.to_owned(), value));
    }

    /// Adds settings of all drivers, where the block has none of its own.
    fn add_globals(&mut self, found: &Configuration) {
        if self.kind != "ox" {
            return;
        }
        for (key, value) in &found.globals {
            let is_of_ox = ["ox_", "http_client_", "ssl_client_"]
                .iter()
                .any(|prefix| key.starts_with(prefix));
            let is_own = self.options.iter().any(|(own, _)| own == key);
            if is_of_ox && !is_own {
                self.add(key, Some(value));
            }
        }
    }

    /// The script: in 2.3 that of the section `plugin` goes before that of the driver.
    fn find_script(&mut self, found: &Configuration) {
        if found.series == Series::V2_4 {
            let globals = ["lua_file", "lua_script_file"];
            let of_all = globals.iter().find_map(|key| found.globals.get(*key));
            if self.get("lua_file").is_none()
                && let Some(script) = of_all
            {
                self.add("lua_file", Some(script));
            }
            return;
        }
        if let Some(script) = found.plugin.get(SCRIPT_FILE) {
            if let Some(own) = self.get("file") {
                let note =
                    format!("file={own} is not what Dovecot runs: {SCRIPT_FILE} goes first.");
                self.notes.push(note);
            }
            self.set("file", plain(script, self.series).0);
        } else if self.get("file").is_none()
            && let Some(script) = found.plugin.get(MAIL_SCRIPT)
        {
            let note = format!(
                "No file is named: Dovecot uses the script of its plugin mail_lua ({MAIL_SCRIPT})."
            );
            self.notes.push(note);
            self.set("file", plain(script, self.series).0);
        }
    }

    fn read_settings(&mut self) {
        if let Some(settings) = &mut self.settings {
            let notes = as_a_script_reads(settings, self.series);
            self.notes.extend(notes);
        }
    }

    /// Cuts how long all tries of a request take to what is possible here.
    fn bound_time(&mut self) {
        const TRIES: &str = "http_client_request_max_attempts";
        const TIME: &str = "http_client_request_timeout";
        let of_2_3 = self.series == Series::V2_3;
        let time = if of_2_3 {
            let ms = self.get("timeout_msecs").and_then(|ms| ms.parse().ok());
            ms.map(Duration::from_millis)
        } else {
            self.get(TIME).and_then(read_time)
        };
        let tries = if of_2_3 {
            let retries = self
                .get("max_retries")
                .and_then(|of| of.parse::<u32>().ok());
            retries.map(|retries| retries.saturating_add(1))
        } else {
            self.get(TRIES).and_then(|of| of.parse().ok())
        };
        let time = time.unwrap_or(Duration::from_secs(2));
        let tries: u32 = tries.unwrap_or(2).max(1);
        if self.kind != "ox" || time.is_zero() || time.saturating_mul(tries) <= LONGEST_ATTEMPT {
            return;
        }
        let note = format!(
            "{tries} tries of {} ms are more than the {} s that all tries of an attempt may take here; what fails is tried again later.",
            time.as_millis(),
            LONGEST_ATTEMPT.as_secs()
        );
        self.notes.push(note);
        let time = time.min(LONGEST_ATTEMPT);
        let tries = (LONGEST_ATTEMPT.as_millis() / time.as_millis()).max(1);
        if of_2_3 {
            self.set("timeout_msecs", time.as_millis().to_string());
            self.set("max_retries", (tries - 1).to_string());
        } else {
            self.set(TIME, format!("{}ms", time.as_millis()));
            self.set(TRIES, tries.to_string());
        }
    }

    /// Takes out what the server refuses, one option after the other. What is left is a block that
    /// it takes, or, where there is an error, none.
    fn check(&mut self) -> Option<OptionError> {
        let is_hidden = |(_, value): &(_, Option<String>)| value.as_deref().is_some_and(is_hidden);
        while let Some(at) = self.options.iter().position(is_hidden) {
            let (key, _) = self.options.remove(at);
            if is_needed(&key) {
                return Some(OptionError::new(&key, UNHIDE));
            }
            self.notes.push(format!("{key} is left out: {UNHIDE}"));
        }
        loop {
            let surroundings = Surroundings {
                sockets: Sockets::default(),
                lua_host: Vec::<OsString>::new(),
                lua_script_file: None,
                lua_attempt_limit: LUA_ATTEMPT_LIMIT,
            };
            let error = match self.checked().make(&surroundings) {
                Ok(_) => return None,
                Err(BlockError::Option { error, .. }) => error,
                Err(error @ BlockError::UnknownDriver { .. }) => {
                    return Some(OptionError::new("driver", error.to_string()));
                }
            };
            let at = self.options.iter().position(|(key, _)| *key == error.key);
            match at {
                Some(at) if !is_needed(&error.key) => {
                    let (key, value) = self.options.remove(at);
                    let written =
                        value.map_or_else(|| key.clone(), |value| format!("{key} = {value}"));
                    let note = format!("{written} is not taken over: {}", error.reason);
                    self.notes.push(note);
                }
                _ => return Some(error),
            }
        }
    }

    /// The block as it is checked: with a script that can be opened, this program's file. Whether
    /// that of Dovecot is there, the server says when it starts.
    fn checked(&self) -> Block {
        let own = std::env::current_exe().unwrap_or_default();
        let of = |(key, value): &(String, Option<String>)| {
            let is_script = self.kind == "lua" && key.ends_with("file");
            let value = match value {
                None => Written::Truth(true),
                Some(script) if is_script && !script.is_empty() => {
                    Written::Text(own.display().to_string())
                }
                Some(value) => Written::Text(value.clone()),
            };
            (key.clone(), value)
        };
        Block {
            name: self.name.clone(),
            driver: self.kind.clone(),
            options: self.options.iter().map(of).collect(),
            plugin: BTreeMap::new(),
            settings: self.settings.clone(),
        }
    }

    fn head(&self) -> String {
        let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if !self.name.is_empty() && self.name.chars().all(is_bare) {
            format!("[push_notification.{}]", self.name)
        } else {
            format!("[push_notification.{}]", quoted(&self.name))
        }
    }

    fn block(&self) -> String {
        let mut lines = vec![self.head(), format!("driver = {}", quoted(&self.kind))];
        lines.extend(self.options.iter().map(|(key, value)| match value {
            Some(value) => format!("{key} = {}", quoted(value)),
            None => format!("{key} = true"),
        }));
        if let Some(settings) = &self.settings {
            lines.push(format!("lua_settings = {}", table(settings)));
        }
        lines.join("\n") + "\n"
    }
}

/// Whether there is nothing to run without an option: it is an address or a script.
fn is_needed(key: &str) -> bool {
    (key.ends_with("url") || key.ends_with("file")) && !key.starts_with("ssl_")
}

/// A value without what Dovecot writes for a `%`, and the variables in it.
fn plain(written: &str, series: Series) -> (String, Vec<String>) {
    let mut value = String::with_capacity(written.len());
    let mut variables = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find('%') {
        value += &rest[..at];
        let behind = &rest[at + 1..];
        let (escaped, is_variable) = match series {
            Series::V2_3 => (behind.starts_with('%'), true),
            Series::V2_4 => (behind.starts_with("%{"), behind.starts_with('{')),
        };
        if escaped {
            value.push('%');
            rest = &behind[1..];
            continue;
        }
        if is_variable {
            let name = variable(behind);
            variables.push(format!("`%{name}`"));
        }
        value.push('%');
        rest = behind;
    }
    (value + rest, variables)
}

/// The variable that a text begins with, behind its `%`.
fn variable(text: &str) -> &str {
    let end = if text.starts_with('{') {
        text.find('}').map(|at| at + 1)
    } else {
        let modifiers = |c: char| matches!(c, 'L' | 'U' | 'E' | 'X' | '.' | '0'..='9');
        let letter = text.char_indices().find(|(_, c)| !modifiers(*c));
        letter.map(|(at, c)| at + c.len_utf8())
    };
    text.get(..end.unwrap_or(text.len())).unwrap_or(text)
}

/// A table of TOML in one line. Names of Dovecot's settings may have dots in them.
fn table(settings: &BTreeMap<String, String>) -> String {
    let settings = settings
        .iter()
        .map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)));
    format!("{{ {} }}", settings.collect::<Vec<_>>().join(", "))
}

/// A text of TOML: a basic string, in which what is special is escaped.
pub(in crate::commands) fn quoted(text: &str) -> String {
    let escaped = |character: char| match character {
        '"' | '\\' => format!("\\{character}"),
        control if control.is_control() => format!("\\u{:04X}", u32::from(control)),
        character => character.to_string(),
    };
    format!("\"{}\"", text.chars().map(escaped).collect::<String>())
}
