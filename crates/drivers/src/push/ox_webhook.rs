//! Webhooks in the form of Open-Xchange: `{"event","payload","timestamp"}`, signed in
//! `X-OX-Signature`.
//!
//! Numbers of users and contexts are numbers in it. 410 says that the webhook is gone; 404 does
//! not, for a server that is set up anew answers so for a while.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use dovecast_mail_push::push::Sending;
use dovecast_mail_push::{
    AddressFault, DeviceAddress, Person, Push, PushAnswer, PushVerdict, Transport,
};
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::answer::{answer, none, of_status, reason, unsent};
use super::post::{Client, Destination};

/// Header of the signature.
const SIGNATURE: HeaderName = HeaderName::from_static("x-ox-signature");

/// Pushes to webhooks.
pub(super) struct OxWebhook(Client);

impl OxWebhook {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    fn destination(&self, address: &DeviceAddress) -> Result<Destination, AddressFault> {
        let DeviceAddress::Webhook { url, .. } = address else {
            return Err(super::of_another_transport());
        };
        let fault = |detail| AddressFault {
            field: "url",
            detail,
        };
        let to = Destination::parse(url).map_err(fault)?;
        if !self.0.guard().takes_port(to.origin.port) {
            let port = to.origin.port;
            return Err(fault(format!(
                "has the port {port}, which is of other services"
            )));
        }
        Ok(to)
    }

    async fn attempt(&self, address: &DeviceAddress, push: &Push) -> PushAnswer {
        let to = match self.destination(address) {
            Ok(to) => to,
            Err(fault) => return unsent(PushVerdict::Refused, fault.to_string()),
        };
        let body = body(push);
        let mut headers = HeaderMap::with_capacity(5);
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json);
        if let DeviceAddress::Webhook { signing_secret, .. } = address
            && !signing_secret.is_empty()
        {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_ms = now.unwrap_or_default().as_millis();
            let signed = signature(signing_secret, now_ms, &body);
            // Digits, letters and blanks are legal in headers.
            if let Ok(value) = HeaderValue::try_from(signed) {
                headers.insert(SIGNATURE, value);
            }
        }
        let account = &push.person.context;
        match self.0.post(account, &to, headers, body.into()).await {
            Ok(said) => {
                let verdict = match said.status.as_u16() {
                    410 => PushVerdict::Gone,
                    // By a server that is set up anew, or one before it.
                    300..=399 | 401 | 403 | 404 => PushVerdict::Later(said.retry_after),
                    _ => of_status(said.status, said.retry_after),
                };
                answer(verdict, said.status, reason(&said))
            }
            Err(error) => none(&error),
        }
    }
}

fn body(push: &Push) -> String {
    let mut payload = match &push.message {
        Value::Object(message) => message.clone(),
        _ => Map::new(),
    };
    let Person {
        context,
        user,
        login,
    } = &push.person;
    payload.insert("user".to_owned(), number(user));
    payload.insert("context".to_owned(), number(context));
    // A login of two numbers looks like an address, and is none.
    if login.contains('@') && number(user).is_string() {
        payload.insert("email1".to_owned(), json!(&**login));
    }
    json!({
        "event": push.topic.name(),
        "payload": payload,
        "timestamp": push.time_ms,
    })
    .to_string()
}

/// A number where the text is one, as it would be written.
fn number(text: &str) -> Value {
    let parsed = text.parse::<u64>().ok();
    match parsed.filter(|number| number.to_string() == text) {
        Some(number) => json!(number),
        None => json!(text),
    }
}

/// `t=<ms>, v1=<hex>`, by HMAC-SHA256 over `v1:<ms>:<body>`.
fn signature(secret: &str, now_ms: u128, body: &str) -> String {
    // Keys of any length are taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return String::new();
    };
    mac.update(format!("v1:{now_ms}:").as_bytes());
    mac.update(body.as_bytes());
    let digest = mac.finalize().into_bytes();
    let mut signed = format!("t={now_ms}, v1=");
    for byte in digest {
        // Writing into a String cannot fail.
        let _ = write!(signed, "{byte:02x}");
    }
    signed
}

impl Transport for OxWebhook {
    fn check(&self, address: &DeviceAddress) -> Result<(), AddressFault> {
        self.destination(address).map(drop)
    }

    fn host(&self, address: &DeviceAddress) -> String {
        super::host_of(address.token())
    }

    fn send<'a>(&'a self, address: &'a DeviceAddress, push: &'a Push) -> Sending<'a, PushAnswer> {
        Box::pin(self.attempt(address, push))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `printf 'v1:1:{}' | openssl dgst -sha256 -hmac secret` gives.
    #[test]
    fn the_signature_is_over_version_time_and_body() {
        assert_eq!(
            signature("secret", 1, "{}"),
            "t=1, v1=44c6618f79174a088b02d1bbe1fd3747ec084e9469740b1843d7f40a78f45ce8"
        );
    }

    #[test]
    fn numbers_are_numbers_only_where_they_would_be_written_so() {
        for (text, expected) in [
            ("14", json!(14)),
            ("0", json!(0)),
            ("014", json!("014")),
            ("+1", json!("+1")),
            ("a@b.example", json!("a@b.example")),
            ("99999999999999999999", json!("99999999999999999999")),
        ] {
            assert_eq!(number(text), expected, "{text}");
        }
    }
}
