//! Subscriptions as a column of the store holds what they ask for: JSON, which answers show, too.

use serde_json::{Map, Value, json};

use super::filter::PushFilter;
use super::{QuietHours, Urgency, Wishes};
use crate::{PushContent, Topics};

/// What is stored is no wishes: another version has written it, or somebody else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` of a stored subscription cannot be read")]
pub struct BadStored(&'static str);

impl Wishes {
    /// JSON of what is asked for; what is not set is absent.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let topics: Vec<&str> = self.topics.names().collect();
        out.insert("topics".to_owned(), json!(topics));
        out.insert("content".to_owned(), json!(self.content.name()));
        out.insert("urgency".to_owned(), json!(self.urgency.name()));
        if self.filter != PushFilter::default() {
            let mut filter = Map::new();
            let PushFilter {
                mailboxes,
                senders,
                condition,
            } = &self.filter;
            for (name, patterns) in [("mailboxes", mailboxes), ("senders", senders)] {
                if let Some(patterns) = patterns {
                    filter.insert(name.to_owned(), json!(patterns));
                }
            }
            if let Some(condition) = condition {
                filter.insert("condition".to_owned(), json!(condition));
            }
            out.insert("filter".to_owned(), Value::Object(filter));
        }
        if let Some(hours) = &self.quiet_hours {
            let [timezone, from, to] = hours.texts();
            let hours = json!({ "timezone": timezone, "from": from, "to": to });
            out.insert("quiet_hours".to_owned(), hours);
        }
        if let Some(critical) = &self.critical {
            out.insert("critical".to_owned(), json!(critical));
        }
        out
    }

    /// Reads what [`Wishes::to_json`] has written. Conditions are not compiled.
    pub fn from_json(json: &Value) -> Result<Self, BadStored> {
        let text = |name: &'static str| json.get(name).and_then(Value::as_str);
        let names = texts(json.get("topics")).ok_or(BadStored("topics"))?;
        let topics = Topics::parse(names.iter().map(String::as_str));
        let filter = json.get("filter");
        let part = |name: &str| filter.and_then(|filter| filter.get(name));
        let hours = match json.get("quiet_hours") {
            None => None,
            Some(hours) => {
                let text = |name: &str| hours.get(name).and_then(Value::as_str).unwrap_or("");
                let hours = QuietHours::parse(text("timezone"), text("from"), text("to"));
                Some(hours.map_err(|_| BadStored("quiet_hours"))?)
            }
        };
        let content = text("content").and_then(PushContent::from_name);
        let urgency = text("urgency").and_then(Urgency::from_name);
        Ok(Self {
            topics: topics.map_err(|_| BadStored("topics"))?,
            content: content.ok_or(BadStored("content"))?,
            filter: PushFilter {
                mailboxes: texts(part("mailboxes")),
                senders: texts(part("senders")),
                condition: part("condition")
                    .and_then(Value::as_str)
                    .map(ToOwned::to_owned),
            },
            urgency: urgency.ok_or(BadStored("urgency"))?,
            quiet_hours: hours,
            critical: text("critical").map(ToOwned::to_owned),
        })
    }
}

fn texts(list: Option<&Value>) -> Option<Vec<String>> {
    let list = list?.as_array()?;
    list.iter()
        .map(|one| one.as_str().map(ToOwned::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for json in [
            json!({ "topics": ["*"], "content": "ids", "urgency": "normal" }),
            json!({ "topics": ["ox:mail:new", "mail:*"], "content": "snippet", "urgency": "very-low",
                "filter": { "mailboxes": ["INBOX"], "senders": [], "condition": "true" },
                "quiet_hours": { "timezone": "Europe/Berlin", "from": "22:00", "to": "07:00" },
                "critical": "message.uid == 1" }),
        ] {
            let wishes = Wishes::from_json(&json).expect("wishes");
            assert_eq!(Value::Object(wishes.to_json()), json);
        }
        for json in [
            json!({}),
            json!({ "topics": ["x"], "content": "ids", "urgency": "normal" }),
        ] {
            assert_eq!(Wishes::from_json(&json), Err(BadStored("topics")), "{json}");
        }
    }
}
