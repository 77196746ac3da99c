//! Firebase Cloud Messaging, HTTP v1: pushes to applications on Android.
//!
//! A push is data of three texts, `topic`, `id` and `message`, so that the application decides what
//! is shown. Who we are says an access token (`account`). `UNREGISTERED` says that the device is
//! gone, and nothing else does.

mod account;
mod error;

use std::sync::Arc;

use bytes::Bytes;
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::subscription::Urgency;
use dovecast_mail_push::{AddressFault, DeviceAddress, Push, PushAnswer, PushVerdict, Transport};
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::answer::{answer, none, unsent};
use super::post::{Client, Destination, PARTY, Said};
use account::{Account, NoToken};

pub(super) use account::ServiceAccount;

/// Most bytes of the keys and values of data.
const MAX_DATA_BYTES: usize = 4096;
/// Longest time for which FCM keeps a push, in seconds: four weeks.
const MAX_TTL: u64 = 28 * 24 * 3600;
/// Longest registration token: those that are given out have a tenth of it.
const MAX_TOKEN_BYTES: usize = 4096;

/// Pushes to applications by FCM.
pub(super) struct Fcm {
    client: Client,
    account: Account,
    to: Destination,
}

impl Fcm {
    /// Pushes are posted to the end-point, below the project of the account.
    pub(super) fn new(
        client: Client,
        account: ServiceAccount,
        endpoint: &str,
        token_endpoint: Option<&str>,
    ) -> Result<Self, (&'static str, String)> {
        let project = account.project();
        let base = endpoint.trim_end_matches('/');
        let to = Destination::parse(&format!("{base}/v1/projects/{project}/messages:send"));
        let to = to.map_err(|error| ("mail_push.fcm.endpoint", error))?;
        let account = Account::new(client.clone(), account, token_endpoint);
        Ok(Self {
            client,
            account: account.map_err(|error| ("mail_push.fcm.token_endpoint", error))?,
            to,
        })
    }

    /// Refuses end-points that are none.
    pub(super) fn check(
        endpoint: &str,
        token_endpoint: Option<&str>,
    ) -> Result<(), (&'static str, String)> {
        for (name, url) in [
            ("mail_push.fcm.endpoint", Some(endpoint)),
            ("mail_push.fcm.token_endpoint", token_endpoint),
        ] {
            let parsed = url.map(Destination::parse).transpose();
            parsed.map_err(|error| (name, error))?;
        }
        Ok(())
    }

    async fn attempt(&self, address: &DeviceAddress, push: &Push) -> PushAnswer {
        let DeviceAddress::Fcm { token } = address else {
            let fault = super::of_another_transport();
            return unsent(PushVerdict::Refused, fault.to_string());
        };
        let data = data(push);
        let length: usize = data
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if length > MAX_DATA_BYTES {
            let reason = format!("the push is longer than {MAX_DATA_BYTES} bytes");
            return unsent(PushVerdict::TooLarge, reason);
        }
        let body = Bytes::from(message(token, &data, push).to_string());
        match self.with_token(body).await {
            Ok(said) => judged(&said),
            Err(refused) => refused,
        }
    }

    /// Posts, and once more with a new access token if the one at hand is refused.
    async fn with_token(&self, body: Bytes) -> Result<Said, PushAnswer> {
        let mut is_second = false;
        loop {
            let token = self
                .account
                .token()
                .await
                .map_err(|error| no_token(&error))?;
            let mut headers = HeaderMap::with_capacity(5);
            headers.insert(AUTHORIZATION, token.header.clone());
            let json = HeaderValue::from_static("application/json");
            headers.insert(CONTENT_TYPE, json);
            let party = Arc::from(PARTY);
            let posted = self.client.post(&party, &self.to, headers, body.clone());
            let said = posted.await.map_err(|error| none(&error))?;
            if said.status != StatusCode::UNAUTHORIZED || is_second {
                return Ok(said);
            }
            self.account.forget(&token).await;
            is_second = true;
        }
    }
}

/// Data of a push; FCM takes texts only, and no key `from`.
fn data(push: &Push) -> [(&'static str, String); 3] {
    [
        ("topic", push.topic.name().to_owned()),
        ("id", push.tag.as_str().to_owned()),
        ("message", push.message.to_string()),
    ]
}

fn message(token: &str, data: &[(&'static str, String); 3], push: &Push) -> Value {
    let data: serde_json::Map<String, Value> = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    // FCM knows two priorities; the higher one wakes a device that sleeps.
    let is_urgent = matches!(push.urgency, Urgency::Normal | Urgency::High);
    let priority = if is_urgent && push.topic.is_new_mail() {
        "HIGH"
    } else {
        "NORMAL"
    };
    let ttl = push.time_to_live.as_secs().min(MAX_TTL);
    json!({
        "message": {
            "token": token,
            "data": data,
            "android": {
                "collapse_key": push.tag.as_str(),
                "priority": priority,
                "ttl": format!("{ttl}s"),
            },
        },
    })
}

fn judged(said: &Said) -> PushAnswer {
    let (verdict, reason) = error::judged(said);
    answer(verdict, said.status, reason)
}

/// Without an access token nothing was sent: it may be there later.
fn no_token(error: &NoToken) -> PushAnswer {
    let wait = match error {
        NoToken::Refused { retry_after, .. } => *retry_after,
        _ => None,
    };
    unsent(PushVerdict::Later(wait), error.to_string())
}

impl Transport for Fcm {
    fn check(&self, address: &DeviceAddress) -> Result<(), AddressFault> {
        let DeviceAddress::Fcm { token } = address else {
            return Err(super::of_another_transport());
        };
        let is_token = !token.is_empty()
            && token.len() <= MAX_TOKEN_BYTES
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token {
            Ok(())
        } else {
            Err(AddressFault {
                field: "token",
                detail: "is not a registration token of FCM".to_owned(),
            })
        }
    }

    /// Web Push of Chrome has the same host, and asks for time of its own.
    fn host(&self, _: &DeviceAddress) -> String {
        format!("FCM at {}", super::host_of(&self.to.name))
    }

    fn send<'a>(&'a self, address: &'a DeviceAddress, push: &'a Push) -> Sending<'a, PushAnswer> {
        Box::pin(self.attempt(address, push))
    }
}
