//! Members of filters by the names that notifications use, instead of ids.

use std::collections::HashMap;

use dovecast_store::{Application, MemberKind};
use serde_json::Value;
use uuid::Uuid;

/// Longest name that an error repeats, in bytes.
const MAX_SHOWN_BYTES: usize = 200;

/// Names that filters may have, with the ids of what is registered.
#[derive(Debug, Default)]
pub struct MemberNames {
    by_path: HashMap<Vec<String>, Uuid>,
    /// By the number of their parts and the parts with `/` between them; `None`: of several.
    by_text: HashMap<(usize, String), Option<Uuid>>,
}

impl MemberNames {
    /// Adds an application with its event types and levels.
    pub fn add(&mut self, application: &Application) {
        let name = &*application.name;
        self.insert(&[name], application.id.uuid());
        for event_type in &application.event_types {
            let kind = &*event_type.external_id;
            self.insert(&[name, kind], event_type.id.uuid());
            for level in &event_type.levels {
                self.insert(&[name, kind, &level.external_id], level.id.uuid());
            }
        }
    }

    fn insert(&mut self, path: &[&str], id: Uuid) {
        let text = (path.len(), path.join("/"));
        self.by_text
            .entry(text)
            .and_modify(|found| *found = found.filter(|known| *known == id))
            .or_insert(Some(id));
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        self.by_path.insert(path, id);
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
                path.and_then(|path| self.by_path.get(&path).copied())
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
        match self.by_text.get(&(parts, text.to_owned())) {
            None => Ok(None),
            Some(Some(id)) => Ok(Some(*id)),
            Some(None) => {
                let shown = &text[..text.floor_char_boundary(MAX_SHOWN_BYTES)];
                Err(format!(
                    "`{shown}` names several things: use an object, or their ids"
                ))
            }
        }
    }
}
