//! Web Push (RFC 8030): pushes to browsers and to UnifiedPush, whose end-points are the same.
//!
//! A push is sealed for its browser (`sealing`), and says who we are (`vapid`). New mail has the
//! declarative form, which browsers that know it show without a service worker; whatever else is
//! plain JSON for one. 404 and 410 say that the subscription is gone, and nothing else does.

pub(super) mod sealing;
pub(super) mod vapid;

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use bytes::Bytes;
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::{AddressFault, DeviceAddress, Push, PushAnswer, PushVerdict, Transport};
use hyper::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use serde_json::{Value, json};

use super::answer::{answer, none, of_status, reason, unsent};
use super::post::{Client, Destination, Said};
use super::shown::shown;
use crate::template::{Form, Template};
use sealing::{BrowserKeys, SealError, seal};
use vapid::{Vapid, VapidKey};

/// Where a click on a notification leads, where the configuration does not say it: the page of the
/// service worker's own origin.
const NAVIGATE: &str = "/";

/// Pushes to browsers.
pub(super) struct WebPush {
    client: Client,
    vapid: Vapid,
    /// Makes the URL that a click leads to.
    navigate: Option<Template>,
}

impl WebPush {
    pub(super) fn new(client: Client, vapid: Vapid, navigate: Option<Template>) -> Self {
        Self {
            client,
            vapid,
            navigate,
        }
    }

    pub(super) fn key(&self) -> &VapidKey {
        self.vapid.key()
    }

    /// An end-point is at https; at http only on addresses that the configuration allows, and that
    /// are not of the Internet, where others could listen.
    fn destination(&self, endpoint: &str) -> Result<Destination, String> {
        let to = Destination::parse(endpoint)?;
        if !self.client.guard().takes_port(to.origin.port) {
            let port = to.origin.port;
            return Err(format!("has the port {port}, which is of other services"));
        }
        if to.origin.tls.is_none() {
            let address: Option<IpAddr> = match to.origin.host {
                url::Host::Ipv4(address) => Some(address.into()),
                url::Host::Ipv6(address) => Some(address.into()),
                url::Host::Domain(_) => None,
            };
            let is_allowed = address.is_some_and(|address| {
                let to = SocketAddr::new(address, to.origin.port);
                self.client.guard().allows_by_name(to)
            });
            if !is_allowed {
                return Err("does not begin with `https://`".to_owned());
            }
        }
        Ok(to)
    }

    async fn attempt(&self, address: &DeviceAddress, push: &Push) -> PushAnswer {
        let (to, keys) = match self.read(address) {
            Ok(read) => read,
            Err(fault) => return unsent(PushVerdict::Refused, fault.to_string()),
        };
        let sealed = match seal(&keys, &self.payload(push)) {
            Ok(sealed) => sealed,
            Err(error @ SealError::TooLarge) => {
                return unsent(PushVerdict::TooLarge, error.to_string());
            }
            Err(error @ SealError::Keys) => {
                return unsent(PushVerdict::Refused, error.to_string());
            }
        };
        let Some(headers) = self.headers(&to, push) else {
            let reason = "the VAPID token cannot be signed";
            return unsent(PushVerdict::Later(None), reason);
        };
        let account = &push.person.context;
        match self.client.post(account, &to, headers, sealed.into()).await {
            Ok(said) => judged(&said),
            Err(error) => none(&error),
        }
    }

    fn read(&self, address: &DeviceAddress) -> Result<(Destination, BrowserKeys), AddressFault> {
        let DeviceAddress::WebPush {
            endpoint,
            p256dh,
            auth,
        } = address
        else {
            return Err(super::of_another_transport());
        };
        let to = self.destination(endpoint);
        let to = to.map_err(|detail| AddressFault {
            field: "endpoint",
            detail,
        })?;
        Ok((to, BrowserKeys::read(p256dh, auth)?))
    }

    fn headers(&self, to: &Destination, push: &Push) -> Option<HeaderMap> {
        let mut headers = HeaderMap::with_capacity(10);
        let now = SystemTime::now();
        let authorization = self.vapid.authorization(&to.name, now).ok()?;
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aes128gcm"));
        let binary = HeaderValue::from_static("application/octet-stream");
        headers.insert(CONTENT_TYPE, binary);
        let seconds = HeaderValue::from(push.time_to_live.as_secs());
        headers.insert(HeaderName::from_static("ttl"), seconds);
        let urgency = HeaderValue::from_static(push.urgency.name());
        headers.insert(HeaderName::from_static("urgency"), urgency);
        let topic = HeaderValue::try_from(push.tag.as_str()).ok()?;
        headers.insert(HeaderName::from_static("topic"), topic);
        Some(headers)
    }

    /// What the browser gets, before it is sealed.
    fn payload(&self, push: &Push) -> Bytes {
        let payload = if push.topic.is_new_mail() {
            self.declarative(push)
        } else {
            super::with_topic(push)
        };
        payload.to_string().into()
    }

    fn declarative(&self, push: &Push) -> Value {
        let shown = shown(&push.message);
        let mut payload = json!({
            "web_push": 8030,
            "notification": {
                "title": shown.title,
                "body": shown.body,
                "navigate": self.navigate(push),
                "tag": push.tag.as_str(),
                "data": push.message,
            },
            "mutable": true,
        });
        if let Some(badge) = push.badge {
            payload["app_badge"] = json!(badge);
        }
        payload
    }

    /// A template that fails, or makes nothing, leads to the page itself: the mail matters more.
    fn navigate(&self, push: &Push) -> String {
        let variables = json!({
            "message": push.message,
            "person": dovecast_mail_push::message::person(&push.person),
        });
        let made = self.navigate.as_ref().map(|made| made.render(&variables));
        let made = made.and_then(Result::ok).filter(|made| !made.is_empty());
        let made = made.and_then(|made| String::from_utf8(made.into()).ok());
        made.unwrap_or_else(|| NAVIGATE.to_owned())
    }
}

/// The template of URLs of the configuration.
pub(super) fn navigation(source: &str) -> Result<Template, String> {
    Template::new(source, Form::Text).map_err(|error| error.to_string())
}

fn judged(said: &Said) -> PushAnswer {
    let verdict = match said.status.as_u16() {
        404 | 410 => PushVerdict::Gone,
        // Who we are can be put right within the time of a push.
        401 | 403 => PushVerdict::Later(said.retry_after),
        _ => of_status(said.status, said.retry_after),
    };
    answer(verdict, said.status, reason(said))
}

impl Transport for WebPush {
    fn check(&self, address: &DeviceAddress) -> Result<(), AddressFault> {
        let (_, keys) = self.read(address)?;
        keys.check()
    }

    fn host(&self, address: &DeviceAddress) -> String {
        super::host_of(address.token())
    }

    fn send<'a>(&'a self, address: &'a DeviceAddress, push: &'a Push) -> Sending<'a, PushAnswer> {
        Box::pin(self.attempt(address, push))
    }
}
