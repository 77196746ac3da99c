//! The body of a notification that is sent over HTTP: the dispatcher can read what was taken.

use std::collections::BTreeMap;

use dovecast_notification::Notification;
use dovecast_server::parsers::message;
use jiff::Timestamp;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::expect::{complaints, within};
use crate::outbox::record;
use crate::{Outcome, Target, json};

/// See the module.
pub const TARGET: Target = Target {
    name: "message",
    run,
};

fn run(bytes: &[u8]) -> Outcome {
    let now = Timestamp::UNIX_EPOCH;
    match within(bytes.len() * 256 + 65_536, || message(bytes, now)) {
        Ok(value) => {
            let taken = Notification::from_outbox(&record(&value)).expect("a notification");
            // Values as they stand: a message may be JSON that not everybody can read.
            let sent: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).expect("JSON");
            let of = |bytes: &[u8]| -> Value { json::value(bytes).expect("JSON") };
            let field = |name: &str| sent.get(name).map(|raw| of(raw.get().as_bytes()));
            assert_eq!(field("application"), Some((*taken.application).into()));
            assert_eq!(field("event_type"), Some((*taken.event_type).into()));
            let level = field("level").unwrap_or_default();
            assert_eq!(level.as_str(), taken.level.as_deref());
            let message = sent.get("message").map(|raw| raw.get().as_bytes());
            assert_eq!(message, Some(&*taken.message));
            let time = of(&taken.timestamp);
            let time = time.as_str().expect("a text").parse::<Timestamp>();
            assert!(time.is_ok());
            Outcome::Read
        }
        Err(refused) => {
            complaints(&refused, &[400, 422]);
            Outcome::Refused
        }
    }
}
