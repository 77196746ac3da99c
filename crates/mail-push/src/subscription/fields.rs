//! What a request says of a subscription, checked: each fault names its field.

mod address;

use dovecast_event::brief;
use dovecast_notification::Condition;
use serde_json::{Map, Value};

use super::filter::{MAX_PATTERN_BYTES, MAX_PATTERNS, PushFilter};
use super::{DeviceAddress, QuietHours, TransportKind, Urgency, Wishes};
use crate::{PushContent, Topics};

/// Longest name of a client, in bytes.
const MAX_CLIENT_BYTES: usize = 64;
const FIELDS: [&str; 12] = [
    "client",
    "transport",
    "topics",
    "content",
    "expires_at",
    "filter",
    "urgency",
    "quiet_hours",
    "critical",
    "webpush",
    "fcm",
    "apns",
];
const WEBHOOK: &str = "webhook";

/// What is said of a subscription. In a change, what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionFields {
    /// Client that asks.
    pub client: Option<String>,
    /// Where the device is reached.
    pub address: Option<DeviceAddress>,
    /// What is told.
    pub topics: Option<Topics>,
    /// How much of a mail is told.
    pub content: Option<PushContent>,
    /// Which mails are told of.
    pub filter: Option<PushFilter>,
    /// How soon it matters.
    pub urgency: Option<Urgency>,
    /// When nothing is to be told; `Some(None)`: never.
    pub quiet_hours: Option<Option<QuietHours>>,
    /// What passes quiet hours; `Some(None)`: nothing.
    pub critical: Option<Option<String>>,
    /// When the subscription ends; `Some(None)`: never.
    pub expires_ms: Option<Option<i64>>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    /// JSON pointer of the field (RFC 6901).
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

/// All that is wrong.
pub type BadFields = Vec<FieldFault>;

impl SubscriptionFields {
    /// Reads the body of a request. `now_ms`: what expires is not over. In a new subscription
    /// client, transport, topics and address are there.
    pub fn read(body: &Value, now_ms: i64, is_new: bool) -> Result<Self, BadFields> {
        let mut reading = Reading::default();
        let Some(body) = body.as_object() else {
            reading.refuse("", "is not an object");
            return Err(reading.faults);
        };
        for name in body.keys() {
            if !FIELDS.contains(&&**name) && name != WEBHOOK {
                reading.refuse(
                    &format!("/{}", escaped(name)),
                    "is not a field of a subscription",
                );
            }
        }
        let transport = reading.transport(body);
        let fields = Self {
            client: reading.client(body),
            address: reading.address(body, transport, is_new),
            topics: reading.topics(body),
            content: reading.word(
                body,
                "content",
                PushContent::from_name,
                "ids, envelope, snippet",
            ),
            filter: body.get("filter").and_then(|value| reading.filter(value)),
            urgency: reading.word(
                body,
                "urgency",
                Urgency::from_name,
                "very-low, low, normal, high",
            ),
            quiet_hours: body
                .get("quiet_hours")
                .map(|value| reading.quiet_hours(value)),
            critical: body
                .get("critical")
                .map(|value| reading.condition("/critical", value)),
            expires_ms: body
                .get("expires_at")
                .map(|value| reading.expiry(value, now_ms)),
        };
        if is_new {
            for (name, is_there) in [
                ("client", body.contains_key("client")),
                ("transport", body.contains_key("transport")),
                ("topics", body.contains_key("topics")),
            ] {
                if !is_there {
                    reading.refuse(&format!("/{name}"), "is missing");
                }
            }
        }
        if reading.faults.is_empty() {
            Ok(fields)
        } else {
            Err(reading.faults)
        }
    }

    /// What a new subscription asks for: what is not said is the default.
    pub fn wishes(&self) -> Wishes {
        self.changed(Wishes {
            topics: Topics::all(),
            content: PushContent::default(),
            filter: PushFilter::default(),
            urgency: Urgency::default(),
            quiet_hours: None,
            critical: None,
        })
    }

    /// What a subscription asks for after the change.
    pub fn changed(&self, before: Wishes) -> Wishes {
        Wishes {
            topics: self.topics.clone().unwrap_or(before.topics),
            content: self.content.unwrap_or(before.content),
            filter: self.filter.clone().unwrap_or(before.filter),
            urgency: self.urgency.unwrap_or(before.urgency),
            quiet_hours: self.quiet_hours.clone().unwrap_or(before.quiet_hours),
            critical: self.critical.clone().unwrap_or(before.critical),
        }
    }
}

/// Faults found so far.
#[derive(Default)]
struct Reading {
    faults: Vec<FieldFault>,
}

impl Reading {
    /// Most faults that are told: more help nobody.
    const MAX: usize = 100;

    fn refuse(&mut self, pointer: &str, detail: impl Into<String>) {
        if self.faults.len() < Self::MAX {
            self.faults.push(FieldFault {
                pointer: pointer.to_owned(),
                detail: detail.into(),
            });
        }
    }

    fn text<'v>(&mut self, pointer: &str, value: &'v Value) -> Option<&'v str> {
        let text = value.as_str();
        if text.is_none() {
            self.refuse(pointer, "is not a string");
        }
        text
    }

    fn client(&mut self, body: &Map<String, Value>) -> Option<String> {
        const PLACE: &str = "/client";
        let client = self.text(PLACE, body.get("client")?)?;
        if client.trim().is_empty() {
            self.refuse(PLACE, "is blank");
        } else if client.len() > MAX_CLIENT_BYTES {
            self.refuse(PLACE, format!("is longer than {MAX_CLIENT_BYTES} bytes"));
        } else if client.chars().any(char::is_control) {
            self.refuse(PLACE, "has a control character in it");
        }
        Some(client.to_owned())
    }

    fn transport(&mut self, body: &Map<String, Value>) -> Option<TransportKind> {
        self.word(
            body,
            "transport",
            TransportKind::from_name,
            "webpush, fcm, apns, webhook",
        )
    }

    fn word<T>(
        &mut self,
        body: &Map<String, Value>,
        name: &str,
        read: impl Fn(&str) -> Option<T>,
        words: &str,
    ) -> Option<T> {
        let pointer = format!("/{name}");
        let word = self.text(&pointer, body.get(name)?)?;
        let known = read(word);
        if known.is_none() {
            self.refuse(
                &pointer,
                format!("is `{}`, which is none of {words}", brief(word)),
            );
        }
        known
    }

    fn topics(&mut self, body: &Map<String, Value>) -> Option<Topics> {
        const PLACE: &str = "/topics";
        let names = self.texts(PLACE, body.get("topics")?, usize::MAX)?;
        let topics = Topics::parse(names.iter().map(String::as_str));
        topics
            .map_err(|error| self.refuse(PLACE, error.to_string()))
            .ok()
    }

    fn texts(&mut self, pointer: &str, value: &Value, most: usize) -> Option<Vec<String>> {
        let Some(list) = value.as_array() else {
            self.refuse(pointer, "is not an array");
            return None;
        };
        if list.len() > most {
            self.refuse(pointer, format!("has more than {most} items"));
            return None;
        }
        let texts: Option<Vec<String>> = list
            .iter()
            .map(|one| one.as_str().map(ToOwned::to_owned))
            .collect();
        if texts.is_none() {
            self.refuse(pointer, "has an item that is not a string");
        }
        texts
    }

    fn filter(&mut self, value: &Value) -> Option<PushFilter> {
        if value.is_null() {
            return Some(PushFilter::default());
        }
        let Some(filter) = value.as_object() else {
            self.refuse("/filter", "is not an object");
            return None;
        };
        for name in filter.keys() {
            if !["mailboxes", "senders", "condition"].contains(&&**name) {
                self.refuse(
                    &format!("/filter/{}", escaped(name)),
                    "is not a field of a filter",
                );
            }
        }
        let condition = filter.get("condition");
        Some(PushFilter {
            mailboxes: self.patterns(filter, "mailboxes"),
            senders: self.patterns(filter, "senders"),
            condition: condition.and_then(|value| self.condition("/filter/condition", value)),
        })
    }

    fn patterns(&mut self, filter: &Map<String, Value>, name: &str) -> Option<Vec<String>> {
        let value = filter.get(name).filter(|value| !value.is_null())?;
        let pointer = format!("/filter/{name}");
        let patterns = self.texts(&pointer, value, MAX_PATTERNS)?;
        if patterns
            .iter()
            .any(|one| one.is_empty() || one.len() > MAX_PATTERN_BYTES)
        {
            let detail =
                format!("has an item that is empty or longer than {MAX_PATTERN_BYTES} bytes");
            self.refuse(&pointer, detail);
        }
        Some(patterns)
    }

    fn condition(&mut self, pointer: &str, value: &Value) -> Option<String> {
        if value.is_null() {
            return None;
        }
        let text = self.text(pointer, value)?;
        let condition = Condition::new(text).and_then(|condition| condition.must_be_boolean());
        if let Err(error) = condition {
            self.refuse(pointer, format!("is not a condition: {error}"));
        }
        Some(text.to_owned())
    }

    fn quiet_hours(&mut self, value: &Value) -> Option<QuietHours> {
        const PLACE: &str = "/quiet_hours";
        if value.is_null() {
            return None;
        }
        let field = |name: &str| value.get(name).and_then(Value::as_str);
        let (Some(zone), Some(from), Some(to)) = (field("timezone"), field("from"), field("to"))
        else {
            self.refuse(
                PLACE,
                "is not an object with the strings `timezone`, `from` and `to`",
            );
            return None;
        };
        let hours = QuietHours::parse(zone, from, to);
        hours
            .map_err(|error| self.refuse(PLACE, format!("is wrong: {error}")))
            .ok()
    }

    fn expiry(&mut self, value: &Value, now_ms: i64) -> Option<i64> {
        const PLACE: &str = "/expires_at";
        if value.is_null() {
            return None;
        }
        let text = self.text(PLACE, value)?;
        match text.parse::<jiff::Timestamp>() {
            Ok(end) if end.as_millisecond() > now_ms => return Some(end.as_millisecond()),
            Ok(_) => self.refuse(PLACE, "is not in the future"),
            Err(_) => self.refuse(PLACE, "is not a time as RFC 3339 writes it"),
        }
        None
    }
}

/// A name in a JSON pointer (RFC 6901 section 3), cut where it is long.
fn escaped(name: &str) -> String {
    brief(name).replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
