//! Apple's push service: pushes to applications on Apple's devices.
//!
//! New mail is an alert; whatever else wakes the application in the background. 410 and
//! `BadDeviceToken` say that the device is gone, and nothing else does.

mod channel;
mod provider;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::subscription::Urgency;
use dovecast_mail_push::{
    AddressFault, DeviceAddress, Push, PushAnswer, PushVerdict, Topic, Transport,
};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{answer, none, of_status, reason, unsent};
use super::post::Said;
use super::shown::shown;
use channel::Channel;
use provider::Provider;

pub(super) use channel::ChannelOptions;
pub(super) use provider::ProviderKey;

/// Most bytes of a payload.
const MAX_PAYLOAD_BYTES: usize = 4096;
/// Most digits of a device token: those of today have 64, and Apple promises nothing.
const MAX_TOKEN_DIGITS: usize = 200;

const TOPIC: HeaderName = HeaderName::from_static("apns-topic");
const PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");

/// Pushes to applications by APNs.
pub(super) struct Apns {
    channel: Channel,
    provider: Provider,
    /// Name of the application.
    topic: HeaderValue,
}

/// Body of an answer that is an error.
#[derive(Deserialize)]
struct Refusal {
    reason: String,
}

impl Apns {
    pub(super) fn new(channel: Channel, key: ProviderKey, topic: HeaderValue) -> Self {
        Self {
            channel,
            provider: Provider::new(key),
            topic,
        }
    }

    /// The connection to the service at an end-point.
    pub(super) fn channel(options: ChannelOptions<'_>) -> Result<Channel, (&'static str, String)> {
        Channel::new(options)
    }

    async fn attempt(&self, address: &DeviceAddress, push: &Push) -> PushAnswer {
        let token = match digits(address) {
            Ok(token) => token,
            Err(fault) => return unsent(PushVerdict::Refused, fault.to_string()),
        };
        let payload = Bytes::from(payload(push).to_string());
        if payload.len() > MAX_PAYLOAD_BYTES {
            let reason = format!("the push is longer than {MAX_PAYLOAD_BYTES} bytes");
            return unsent(PushVerdict::TooLarge, reason);
        }
        let path = format!("/3/device/{token}");
        let mut is_second = false;
        loop {
            let now = SystemTime::now();
            let Ok(authorization) = self.provider.authorization(now) else {
                let reason = "the provider token cannot be signed";
                return unsent(PushVerdict::Later(None), reason);
            };
            let headers = self.headers(&authorization, push, now);
            let said = match self.channel.post(&path, &headers, &payload).await {
                Ok(said) => said,
                Err(error) => return none(&error),
            };
            let is_old = told(&said).as_deref() == Some("ExpiredProviderToken");
            if is_old && !is_second && self.provider.forget(&authorization) {
                is_second = true;
                continue;
            }
            return judged(&said);
        }
    }

    fn headers(&self, authorization: &HeaderValue, push: &Push, now: SystemTime) -> HeaderMap {
        let is_alert = push.topic.is_new_mail();
        // What is not seen at once may wait for a moment at which it costs less.
        let is_urgent = is_alert && matches!(push.urgency, Urgency::Normal | Urgency::High);
        let until = now + push.time_to_live;
        let until = until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(AUTHORIZATION, authorization.clone());
        headers.insert(TOPIC, self.topic.clone());
        let kind = if is_alert { "alert" } else { "background" };
        headers.insert(PUSH_TYPE, HeaderValue::from_static(kind));
        let priority = if is_urgent { "10" } else { "5" };
        headers.insert(PRIORITY, HeaderValue::from_static(priority));
        headers.insert(EXPIRATION, HeaderValue::from(until.as_secs()));
        // Tags have 32 characters of base64url.
        if let Ok(tag) = HeaderValue::try_from(push.tag.as_str()) {
            headers.insert(COLLAPSE_ID, tag);
        }
        headers
    }
}

fn payload(push: &Push) -> Value {
    if push.topic == Topic::MailClose {
        let mut payload = json!({
            "aps": { "content-available": 1 },
            "topic": push.topic.name(),
            "id": push.tag.as_str(),
        });
        if let Some(badge) = push.badge {
            payload["badge"] = json!(badge);
        }
        return payload;
    }
    let aps = if push.topic.is_new_mail() {
        let shown = shown(&push.message);
        let mut aps = json!({
            "alert": { "title": shown.title, "body": shown.body },
            "sound": "default",
            "mutable-content": 1,
        });
        if let Some(badge) = push.badge {
            aps["badge"] = json!(badge);
        }
        aps
    } else {
        json!({ "content-available": 1 })
    };
    let mut payload = super::with_topic(push);
    payload["aps"] = aps;
    payload
}

/// The token of a device, which becomes a part of a path.
fn digits(address: &DeviceAddress) -> Result<&str, AddressFault> {
    let DeviceAddress::Apns { token } = address else {
        return Err(super::of_another_transport());
    };
    let is_token = !token.is_empty()
        && token.len() <= MAX_TOKEN_DIGITS
        && token.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_token.then_some(&**token).ok_or_else(|| AddressFault {
        field: "token",
        detail: "is not hexadecimal".to_owned(),
    })
}

/// The reason that APNs gives, if it is one word.
fn told(said: &Said) -> Option<String> {
    let refusal: Option<Refusal> = serde_json::from_slice(&said.body).ok();
    let reason = refusal?.reason;
    let is_word = |byte: u8| byte.is_ascii_alphanumeric();
    (reason.len() <= 64 && reason.bytes().all(is_word)).then_some(reason)
}

fn judged(said: &Said) -> PushAnswer {
    let told = told(said);
    let verdict = match (said.status.as_u16(), told.as_deref()) {
        (410, _) | (400, Some("BadDeviceToken")) => PushVerdict::Gone,
        // Of this one device only: the others of this host need not wait.
        (429, Some("TooManyRequests")) => said
            .retry_after
            .map_or(PushVerdict::Later(None), PushVerdict::LaterAlone),
        // Who we are can be put right within the time of a push.
        (403, _) => PushVerdict::Later(said.retry_after),
        _ => of_status(said.status, said.retry_after),
    };
    answer(verdict, said.status, told.unwrap_or_else(|| reason(said)))
}

impl Transport for Apns {
    fn check(&self, address: &DeviceAddress) -> Result<(), AddressFault> {
        digits(address).map(drop)
    }

    fn host(&self, _: &DeviceAddress) -> String {
        super::host_of(self.channel.name())
    }

    fn send<'a>(&'a self, address: &'a DeviceAddress, push: &'a Push) -> Sending<'a, PushAnswer> {
        Box::pin(self.attempt(address, push))
    }
}
