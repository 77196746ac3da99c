//! How deliveries flow to an endpoint: `paused`, `rate_limit`, `retry_delays`, `ordering`,
//! `fallback_id`, and what of a mail reaches it: `content`; as requests say it and as answers show
//! it.

use std::num::NonZeroU32;

use dovecast_notification::{Content, content};
use dovecast_store::{DeliveryOrder, Flow, FlowEdit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::said;
use crate::refusal::{Fault, Faults};

const MAX_RATE: u32 = 10_000;
const MAX_DELAYS: usize = 20;
/// Longest delay before an attempt, in seconds: a week.
const MAX_DELAY: u32 = 7 * 24 * 60 * 60;
/// Longest name of a field of an event, in bytes.
const MAX_FIELD_BYTES: usize = 100;

/// How deliveries flow to an endpoint. A key that is not given changes nothing; one that is null is
/// removed.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct FlowFields {
    /// Whether deliveries wait until the endpoint is not paused any more.
    paused: Option<bool>,
    /// Most deliveries per second from each node; null for no limit.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10_000)]
    rate_limit: Option<Option<Value>>,
    /// Seconds before each further attempt, instead of those of the retry policy; an empty list for
    /// one attempt.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Vec<u32>>)]
    retry_delays: Option<Option<Value>>,
    /// Which deliveries go one after the other: `none`, or `key` for those of one key of the log
    /// (the mail user, for events), in its order.
    #[schema(value_type = Option<String>, example = "key")]
    ordering: Option<Value>,
    /// What the endpoint may see of a mail: `ids`, `envelope` (sender, recipients, subject),
    /// `snippet` (the first words of the text, too), `all`, or a list of names of fields; null for
    /// `all`. Only notifications of the application `dovecot` are cut.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Value>, example = "envelope")]
    content: Option<Option<Value>>,
    /// Id of the endpoint that receives what cannot be delivered to this one; it has no fallback
    /// itself.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    fallback_id: Option<Option<Value>>,
}

/// How deliveries flow to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlowAttributes {
    /// Whether deliveries wait until the endpoint is not paused any more.
    paused: bool,
    /// Most deliveries per second from each node; null for no limit.
    rate_limit: Option<u32>,
    /// Seconds before each further attempt; null for those of the retry policy.
    retry_delays: Option<Vec<u32>>,
    /// Which deliveries go one after the other: `none`, or `key`.
    ordering: &'static str,
    /// What the endpoint may see of a mail: `ids`, `envelope`, `snippet`, `all`, or a list of names
    /// of fields.
    #[schema(value_type = Value, example = "all")]
    content: Content,
    /// Id of the endpoint that receives what cannot be delivered to this one; null for none.
    fallback_id: Option<String>,
}

impl FlowAttributes {
    /// As answers show it.
    pub fn new(flow: &Flow) -> Self {
        Self {
            paused: flow.paused,
            rate_limit: flow.rate_limit.map(NonZeroU32::get),
            retry_delays: flow.retry_delays.clone(),
            ordering: flow.ordering.as_str(),
            content: flow.content.clone(),
            fallback_id: flow.fallback.map(|id| id.to_string()),
        }
    }
}

impl FlowFields {
    pub(super) fn check(&self, errors: &mut Faults) -> FlowEdit {
        let limit = Attribute {
            name: "rate_limit",
            said: self.rate_limit.as_ref(),
            detail: format!("is not a number from 1 to {MAX_RATE}"),
        };
        let delays = Attribute {
            name: "retry_delays",
            said: self.retry_delays.as_ref(),
            detail: format!(
                "is not an array of at most {MAX_DELAYS} numbers from 1 to {MAX_DELAY} (seconds)"
            ),
        };
        let fallback = Attribute {
            name: "fallback_id",
            said: self.fallback_id.as_ref(),
            detail: "is not another endpoint of the account".to_owned(),
        };
        let content = Attribute {
            name: "content",
            said: self.content.as_ref(),
            detail: format!(
                "is none of `ids`, `envelope`, `snippet`, `all`, and not an array of at most {} names of fields",
                content::MAX_FIELDS
            ),
        };
        let ordering = self.ordering.as_ref().and_then(|said| {
            let read = DeliveryOrder::deserialize(said).ok();
            if read.is_none() {
                let said = said
                    .as_str()
                    .map_or_else(|| said.to_string(), str::to_owned);
                let detail = format!("`{said}` is neither `none` nor `key`");
                errors.push(Fault::attribute("ordering", detail));
            }
            read
        });
        FlowEdit {
            paused: self.paused,
            ordering,
            content: content.read(errors, fields).map(Option::unwrap_or_default),
            rate_limit: limit.read(errors, |value| NonZeroU32::new(number(value, MAX_RATE)?)),
            retry_delays: delays.read(errors, seconds),
            fallback: fallback.read(errors, |value| value.as_str()?.parse().ok()),
        }
    }
}

/// What is said about an attribute that may be null, and what is wrong if it is nothing else.
struct Attribute<'a> {
    name: &'static str,
    said: Option<&'a Option<Value>>,
    detail: String,
}

impl Attribute<'_> {
    fn read<T>(self, errors: &mut Faults, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
        let Some(value) = self.said? else {
            return Some(None);
        };
        let read = read(value);
        if read.is_none() {
            errors.push(Fault::attribute(self.name, self.detail));
        }
        Some(read)
    }
}

fn fields(value: &Value) -> Option<Content> {
    let read = Content::deserialize(value).ok()?;
    let is_short = |name: &str| !name.is_empty() && name.len() <= MAX_FIELD_BYTES;
    match &read {
        Content::Fields(names) => {
            let is_fine = names.len() <= content::MAX_FIELDS;
            (is_fine && names.iter().all(|name| is_short(name))).then_some(read)
        }
        _ => Some(read),
    }
}

fn number(value: &Value, most: u32) -> Option<u32> {
    let number = u32::try_from(value.as_u64()?).ok()?;
    (1..=most).contains(&number).then_some(number)
}

fn seconds(value: &Value) -> Option<Vec<u32>> {
    let delays = value
        .as_array()
        .filter(|delays| delays.len() <= MAX_DELAYS)?;
    delays
        .iter()
        .map(|delay| number(delay, MAX_DELAY))
        .collect()
}
