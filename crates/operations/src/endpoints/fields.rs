//! What is said about an endpoint that is to be made or changed, checked.
//!
//! A key that is not there changes nothing. Unknown keys are refused, but for those that answers
//! have and clients send back.

#![expect(
    clippy::option_option,
    reason = "nothing, null and a value are three things to say"
)]

mod body;
mod data;
mod filter;
mod flow;
mod names;
mod receiver;
mod trial;

use std::collections::BTreeMap;

use dovecast_drivers::webhook::WebhookDriver;
use dovecast_store::{
    DriverSettings, EndpointEdit, EndpointKind, FilterEdit, FlowEdit, NewEndpoint, Receiver,
    RetryPolicy,
};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

use crate::refusal::{Fault, Faults, escaped};
use crate::{Refusal, Result};
use body::BodyFields;
use data::{CheckedData, DataFields};
use filter::FilterRequest;
pub use flow::FlowAttributes;
use flow::FlowFields;

pub use names::MemberNames;
pub use receiver::Known;
pub(crate) use trial::Trial;

const BLANK: &str = "can't be blank";
const MAX_NAME_CHARS: usize = 255;
/// Attributes that answers have and nobody sets: what clients send back is no mistake.
const READ_ONLY: [&str; 5] = [
    "id",
    "last_delivery_status",
    "last_delivery_time",
    "first_failure_time",
    "next_attempt_time",
];
/// The longest that an attempt may take, as in the configuration.
const MAX_TIMEOUT_SECONDS: u32 = 45;

/// Endpoint to create or to change.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub struct EndpointRequest {
    endpoint: EndpointFields,
}

/// Attributes of an endpoint.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct EndpointFields {
    /// Name, unique in the account.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 255)]
    name: Option<Option<String>>,
    /// Where webhooks are sent: `http://` or `https://`, without a user and a password.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = String, required = false, min_length = 8, max_length = 2048, example = "https://example.org/hook")]
    url: Option<Option<String>>,
    /// Name of the driver; `webhook` if this is not given. That of an endpoint cannot be changed.
    driver: Option<String>,
    /// Settings for a driver that is not `webhook`, as its documentation says, at most 16 KiB. A
    /// key that is not given changes nothing; one that is null is removed.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// Whether the endpoint receives notifications; a new one does if this is not given.
    active: Option<bool>,
    /// Type of the endpoint. The URL decides it; one that does not exist is refused.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Retry policy: `default`, or `hooks` for the schedule of hooks-backend.
    retry_policy: Option<String>,
    /// Seconds that the endpoint has to answer; null for the time in the configuration.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 45)]
    timeout_seconds: Option<Option<Value>>,
    #[serde(flatten)]
    body: BodyFields,
    #[serde(flatten)]
    flow: FlowFields,
    /// Secrets and headers of requests, which are never shown; null removes all of them.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<DataFields>)]
    data: Option<Option<Value>>,
    /// Which notifications the endpoint receives.
    filter: Option<FilterRequest>,
    /// Keys that are no attributes: whoever misspells one would not get what was meant.
    #[serde(flatten)]
    #[schema(ignore)]
    #[expect(clippy::zero_sized_map_values, reason = "serde flattens maps, no sets")]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// Tells null from nothing.
pub(crate) fn said<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What was found out, and what is wrong.
#[derive(Default)]
struct Checked {
    errors: Faults,
    name: Option<String>,
    receiver: Option<Receiver>,
    data: CheckedData,
    retry_policy: Option<RetryPolicy>,
    timeout_seconds: Option<Option<u32>>,
    body: Option<DriverSettings>,
    flow: FlowEdit,
    filter: FilterEdit,
    trial: Trial,
}

impl EndpointFields {
    /// Whether members of the filter are given by name, so that names have to be looked up.
    pub(crate) fn has_names(&self) -> bool {
        self.filter.as_ref().is_some_and(FilterRequest::has_names)
    }

    /// The name, as far as there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.name.as_ref()?.as_deref()
    }

    /// An endpoint to be made, when its trial has gone well.
    pub fn into_new(mut self, known: &Known<'_>) -> Result<(NewEndpoint, Trial)> {
        // What must be there is said to be missing.
        self.name.get_or_insert(None);
        if self
            .driver
            .as_deref()
            .is_none_or(|driver| driver == WebhookDriver::NAME)
        {
            self.url.get_or_insert(None);
        }
        let active = self.active.unwrap_or(true);
        let checked = self.check(known);
        match (checked.name, checked.receiver) {
            (Some(name), Some(receiver)) if checked.errors.is_empty() => {
                let new = NewEndpoint {
                    name,
                    receiver,
                    active,
                    server_ca_certificate: checked.data.certificate.flatten(),
                    headers: checked.data.headers.flatten(),
                    credentials: checked.data.credentials.flatten(),
                    retry_policy: checked.retry_policy.unwrap_or_default(),
                    timeout_seconds: checked.timeout_seconds.flatten(),
                    body: checked.body,
                    flow: checked.flow,
                    filter: match checked.filter {
                        FilterEdit::Put(fields) => Some(fields),
                        FilterEdit::Keep | FilterEdit::Remove => None,
                    },
                };
                Ok((new, checked.trial))
            }
            _ => Err(Refusal::Invalid(checked.errors)),
        }
    }

    /// A change of an endpoint, when its trial has gone well.
    pub fn into_edit(self, known: &Known<'_>) -> Result<(EndpointEdit, Trial)> {
        let active = self.active;
        let checked = self.check(known);
        if !checked.errors.is_empty() {
            return Err(Refusal::Invalid(checked.errors));
        }
        let edit = EndpointEdit {
            name: checked.name,
            receiver: checked.receiver,
            active,
            server_ca_certificate: checked.data.certificate,
            headers: checked.data.headers,
            credentials: checked.data.credentials,
            retry_policy: checked.retry_policy,
            timeout_seconds: checked.timeout_seconds,
            body: checked.body,
            flow: checked.flow,
            filter: checked.filter,
        };
        Ok((edit, checked.trial))
    }

    fn check(mut self, known: &Known<'_>) -> Checked {
        let mut checked = Checked::default();
        let unknown = self.unknown.keys();
        for name in unknown.filter(|name| !READ_ONLY.contains(&name.as_str())) {
            checked.refuse(&escaped(name), "is not an attribute of an endpoint");
        }
        checked.kind(self.kind.as_deref());
        if let Some(name) = self.name.take() {
            checked.name(name, known.is_taken);
        }
        self.check_receiver(known, &mut checked);
        if let Some(data) = self.data {
            checked.data = data::check(data, &mut checked.errors);
        }
        if let Some(policy) = self.retry_policy {
            match policy.parse() {
                Ok(policy) => checked.retry_policy = Some(policy),
                Err(_) => checked.refuse(
                    "retry_policy",
                    format!("`{policy}` is neither `default` nor `hooks`"),
                ),
            }
        }
        if let Some(timeout) = self.timeout_seconds {
            checked.timeout(timeout.as_ref());
        }
        checked.body(self.body, known);
        checked.flow = self.flow.check(&mut checked.errors);
        if let Some(filter) = self.filter {
            checked.filter(filter, known.names);
        }
        checked
    }
}

impl Checked {
    fn refuse(&mut self, attribute: &str, detail: impl Into<String>) {
        self.errors.push(Fault::attribute(attribute, detail));
    }

    /// Checks that a type exists. What it says is ignored: the URL decides.
    fn kind(&mut self, kind: Option<&str>) {
        let Some(kind) = kind else {
            return;
        };
        let name = kind.strip_prefix("::").unwrap_or(kind);
        if name != "Endpoint" && name.parse::<EndpointKind>().is_err() {
            self.refuse("type", format!("Cannot find an endpoint type: {kind}"));
        }
    }

    fn name(&mut self, name: Option<String>, is_taken: bool) {
        match name {
            Some(name) if name.trim().is_empty() => self.refuse("name", BLANK),
            None => self.refuse("name", BLANK),
            Some(_) if is_taken => self.refuse("name", "has already been taken"),
            Some(name) if name.chars().count() > MAX_NAME_CHARS => self.refuse(
                "name",
                format!("is too long (maximum is {MAX_NAME_CHARS} characters)"),
            ),
            Some(name) => self.name = Some(name),
        }
    }

    fn timeout(&mut self, timeout: Option<&Value>) {
        let seconds = timeout.map(|value| {
            let seconds = value
                .as_u64()
                .and_then(|seconds| u32::try_from(seconds).ok());
            seconds.filter(|seconds| (1..=MAX_TIMEOUT_SECONDS).contains(seconds))
        });
        match seconds {
            Some(None) => {
                let detail = format!("is not a number from 1 to {MAX_TIMEOUT_SECONDS}");
                self.refuse("timeout_seconds", detail);
            }
            seconds => self.timeout_seconds = Some(seconds.flatten()),
        }
    }
}
