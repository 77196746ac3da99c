//! The body of a registration, checked. All that is wrong is answered, each error with its place.

use std::collections::HashSet;

use dovecast_store::{NewEventType, NewLevel, Registration};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::refusal::{Fault, Faults};
use crate::{Refusal, Result};

const BLANK: &str = "can't be blank";
const MAX_CHARS: usize = 255;
/// Event types and levels of one application.
const MAX_ITEMS: usize = 10_000;

/// Registration of an application.
//
// Read by hand instead of with serde, so that all that is wrong is named.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub struct RegistrationRequest {
    application: ApplicationFields,
    event_types: Vec<EventTypeFields>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct ApplicationFields {
    /// Name that notifications have in `application`. It never changes.
    name: String,
    /// Name for people.
    title: String,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct EventTypeFields {
    /// Name that notifications have in `event_type`; unique in the application.
    id: String,
    /// Name for people.
    title: String,
    /// Levels of the event type, if it has any.
    levels: Option<Vec<LevelFields>>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct LevelFields {
    /// Name that notifications have in `level`; unique in the event type.
    id: String,
    /// Name for people.
    title: String,
}

/// Reads the body.
pub fn read(body: &Value) -> Result<Registration> {
    let empty = Map::new();
    let Some(body) = body.as_object() else {
        return Err(Refusal::unreadable("the body is not an object"));
    };
    let application = match body.get("application") {
        Some(Value::Object(application)) => application,
        Some(_) => return Err(Refusal::unreadable("`application` is not an object")),
        None => return Err(Refusal::unreadable("`application` is missing")),
    };
    let mut reading = Reading::default();
    let name = reading.text(application, "name", "/application");
    let title = reading.text(application, "title", "/application");
    let event_types = match body.get("event_types") {
        Some(Value::Array(list)) => {
            let read = list.iter().enumerate().map(|(place, value)| {
                let place = format!("/event_types/{place}");
                let fields = reading.object(value, &place, &empty);
                let levels = reading.levels(fields.get("levels"), &format!("{place}/levels"));
                NewEventType {
                    external_id: reading.text(fields, "id", &place),
                    title: reading.text(fields, "title", &place),
                    levels,
                }
            });
            read.collect()
        }
        None | Some(Value::Null) => {
            reading.refuse("/event_types", BLANK);
            Vec::new()
        }
        Some(_) => {
            reading.refuse("/event_types", "is not an array");
            Vec::new()
        }
    };
    let ids = event_types
        .iter()
        .map(|one: &NewEventType| &*one.external_id);
    reading.unique(ids, "/event_types");
    for (place, event_type) in event_types.iter().enumerate() {
        let ids = event_type.levels.iter().map(|level| &*level.external_id);
        reading.unique(ids, &format!("/event_types/{place}/levels"));
    }
    let levels = event_types.iter().map(|one| one.levels.len());
    if event_types.len() + levels.sum::<usize>() > MAX_ITEMS {
        let detail = format!("is too long (maximum is {MAX_ITEMS} event types and levels)");
        reading.refuse("/event_types", detail);
    }
    if !reading.errors.is_empty() {
        return Err(Refusal::Invalid(reading.errors));
    }
    Ok(Registration {
        name,
        title,
        event_types,
    })
}

/// Errors found so far.
#[derive(Default)]
struct Reading {
    errors: Faults,
}

impl Reading {
    fn refuse(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(Fault::at(pointer, detail));
    }

    fn object<'a>(
        &mut self,
        value: &'a Value,
        place: &str,
        empty: &'a Map<String, Value>,
    ) -> &'a Map<String, Value> {
        if let Value::Object(object) = value {
            return object;
        }
        self.refuse(place, "is not an object");
        empty
    }

    /// A text that has to be there; some write an id as a whole number. What might stand for
    /// another text than the one that was written is refused.
    fn text(&mut self, object: &Map<String, Value>, key: &str, place: &str) -> String {
        let pointer = format!("{place}/{key}");
        let text = match object.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) if number.is_u64() || number.is_i64() => number.to_string(),
            Some(Value::Number(_) | Value::Bool(_)) => {
                self.refuse(pointer, "is not a string: write it in quotes");
                return String::new();
            }
            Some(Value::Null) => {
                self.refuse(
                    pointer,
                    "can't be blank: null is no text, unless it is in quotes",
                );
                return String::new();
            }
            None => String::new(),
            Some(Value::Array(_) | Value::Object(_)) => {
                self.refuse(pointer, "is not a string");
                return String::new();
            }
        };
        if text.trim().is_empty() {
            self.refuse(pointer, BLANK);
        } else if text.chars().count() > MAX_CHARS {
            let detail = format!("is too long (maximum is {MAX_CHARS} characters)");
            self.refuse(pointer, detail);
        }
        text
    }

    /// A list, or any way of saying that there are none.
    fn levels(&mut self, value: Option<&Value>, place: &str) -> Vec<NewLevel> {
        let empty = Map::new();
        let list = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Object(object)) if object.is_empty() => return Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => {
                self.refuse(place, "is not an array");
                return Vec::new();
            }
        };
        let mut levels = Vec::new();
        for (index, value) in list.iter().enumerate() {
            let place = format!("{place}/{index}");
            let fields = self.object(value, &place, &empty);
            levels.push(NewLevel {
                external_id: self.text(fields, "id", &place),
                title: self.text(fields, "title", &place),
            });
        }
        levels
    }

    fn unique<'a>(&mut self, ids: impl Iterator<Item = &'a str>, place: &str) {
        let mut seen = HashSet::new();
        for (index, id) in ids.enumerate() {
            if !id.is_empty() && !seen.insert(id) {
                let detail = format!("`{id}` is there more than once");
                self.refuse(format!("{place}/{index}/id"), detail);
            }
        }
    }
}
