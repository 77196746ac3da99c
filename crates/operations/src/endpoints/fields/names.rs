//! Members of filters by the names that notifications use, instead of ids.

use std::collections::HashMap;

use dovecast_store::{Application, MemberKind};
use serde_json::Value;
use uuid::Uuid;

/// Longest name that an error repeats, in bytes.
const MAX_SHOWN_BYTES: usize = 200;

/// Names that filters may have, with the ids of what is registered.
#[derive(Debug, Default)]
pub struct MemberNames(HashMap<Vec<String>, Uuid>);

impl MemberNames {
    /// Adds an application with its event types and levels.
    pub fn add(&mut self, application: &Application) {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let name = &*application.name;
        self.0.insert(of(&[name]), application.id.uuid());
        for event_type in &application.event_types {
            let kind = &*event_type.external_id;
            self.0.insert(of(&[name, kind]), event_type.id.uuid());
            for level in &event_type.levels {
                let path = of(&[name, kind, &level.external_id]);
                self.0.insert(path, level.id.uuid());
            }
        }
    }

    /// The id of what is named; an error says what is wrong with the name.
    pub(super) fn find(&self, kind: MemberKind, name: &Value) -> Result<Uuid, String> {
        let keys: &[&str] = match kind {
            MemberKind::Application => &["application"],
            MemberKind::EventType => &["application", "event_type"],
            MemberKind::Level => &["application", "event_type", "level"],
        };
        let found = match name {
            // Names may have a `/` themselves.
            Value::String(text) => self.of_text(keys.len(), text)?,
            Value::Object(parts) if parts.len() == keys.len() => {
                let part = |key: &&str| parts.get(*key)?.as_str().map(str::to_owned);
                let path: Option<Vec<String>> = keys.iter().map(part).collect();
                path.and_then(|path| self.0.get(&path).copied())
            }
            _ => None,
        };
        found.ok_or_else(|| {
            let text = match name {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let shown = &text[..text.floor_char_boundary(MAX_SHOWN_BYTES)];
            let form = keys.join("/").to_uppercase();
            format!("`{shown}` is not registered; a name is {form}, `GET /apps` lists what is")
        })
    }

    fn of_text(&self, parts: usize, text: &str) -> Result<Option<Uuid>, String> {
        let is_it = |path: &[String]| path.len() == parts && path.join("/") == text;
        let mut found = self.0.iter().filter(|(path, _)| is_it(path));
        let first = found.next().map(|(_, id)| *id);
        if found.next().is_some() {
            let shown = &text[..text.floor_char_boundary(MAX_SHOWN_BYTES)];
            return Err(format!(
                "`{shown}` names several things: use an object, or their ids"
            ));
        }
        Ok(first)
    }
}
