//! The body of a registration, in JSON and in YAML.
//!
//! The first byte tells which: `J` or `Y`, another one is refused.

use std::collections::HashSet;

use dovecast_server::parsers::{Form, registration};
use dovecast_store::Registration;
use serde_json::{Value, json};

use crate::expect::{complaints, within};
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "registration",
    run,
};

const MAX_CHARS: usize = 255;
const MAX_ITEMS: usize = 10_000;

fn run(bytes: &[u8]) -> Outcome {
    let (form, body) = match bytes.split_first() {
        Some((b'J', body)) => (Form::Json, body),
        Some((b'Y', body)) => (Form::Yaml, body),
        _ => return Outcome::Refused,
    };
    // What aliases of YAML stand for is bounded, whatever the length of the body.
    let most = body.len() * 256
        + match form {
            Form::Json => 65_536,
            Form::Yaml => 96 * 1024 * 1024,
        };
    match within(most, || registration(form, body)) {
        Ok(read) => {
            keeps_its_limits(&read);
            let written = written(&read);
            let again = registration(Form::Json, written.as_bytes());
            assert_eq!(again.as_ref(), Ok(&read), "{written}");
            // JSON is YAML, but for characters that are not printed.
            match registration(Form::Yaml, written.as_bytes()) {
                Ok(again) => assert_eq!(again, read, "{written}"),
                Err(refused) => {
                    let is_printed = |char: char| matches!(char, ' '..='~');
                    assert!(!written.chars().all(is_printed), "{refused:?}: {written}");
                }
            }
            Outcome::Read
        }
        Err(refused) => {
            complaints(&refused, &[400, 422]);
            Outcome::Refused
        }
    }
}

fn keeps_its_limits(read: &Registration) {
    let is_text = |text: &str| {
        !text.trim().is_empty() && text.chars().count() <= MAX_CHARS && !text.contains('\0')
    };
    assert!(is_text(&read.name) && is_text(&read.title));
    let mut items = read.event_types.len();
    let mut ids = HashSet::new();
    for event_type in &read.event_types {
        assert!(is_text(&event_type.external_id) && is_text(&event_type.title));
        assert!(ids.insert(&event_type.external_id));
        items += event_type.levels.len();
        let mut ids = HashSet::new();
        for level in &event_type.levels {
            assert!(is_text(&level.external_id) && is_text(&level.title));
            assert!(ids.insert(&level.external_id));
        }
    }
    assert!(items <= MAX_ITEMS);
}

fn written(read: &Registration) -> String {
    let event_types = read.event_types.iter().map(|one| {
        let levels = one.levels.iter();
        let levels = levels.map(|level| json!({"id": level.external_id, "title": level.title}));
        json!({"id": one.external_id, "title": one.title, "levels": levels.collect::<Value>()})
    });
    json!({
        "application": {"name": read.name, "title": read.title},
        "event_types": event_types.collect::<Value>(),
    })
    .to_string()
}
