//! The body of a notification that is sent over HTTP: the dispatcher can read what was taken.

use dovecast_notification::Notification;
use dovecast_server::readers::message;
use jiff::Timestamp;
use serde_json::Value;

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
            let sent = json::value(bytes).expect("JSON");
            assert_eq!(sent["application"], *taken.application);
            assert_eq!(sent["event_type"], *taken.event_type);
            assert_eq!(sent["level"].as_str(), taken.level.as_deref());
            let of = |bytes: &[u8]| -> Value { json::value(bytes).expect("JSON") };
            assert_eq!(sent["message"], of(&taken.message));
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
