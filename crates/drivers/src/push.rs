//! Services that bring pushes to devices: Web Push, FCM, APNs, and webhooks in the form of
//! Open-Xchange.
//!
//! Each implements the port [`Transport`] of mail push: it makes one attempt and says what came of
//! it. When an attempt is made again, and what is dropped, is left to the caller.

mod answer;
mod apns;
mod fcm;
mod jwt;
mod key;
mod ox_webhook;
mod post;
mod shown;
mod webpush;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dovecast_mail_push::{AddressFault, Push, Transport, TransportKind};
use serde_json::{Value, json};

use crate::guard::Guard;
use crate::http::sockets::Sockets;
use crate::template::Template;
use apns::{Apns, ChannelOptions, ProviderKey};
use fcm::{Fcm, ServiceAccount};
use hyper::header::HeaderValue;
use ox_webhook::OxWebhook;
use post::Client;
use webpush::WebPush;
use webpush::vapid::Vapid;

pub use key::ServiceKey;
pub use webpush::sealing::{BrowserKeys, SealError, seal};
pub use webpush::vapid::{VapidKey, VapidKeyError};

/// Longest time of an attempt: services answer within a second, or are in trouble.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);

/// How services are reached, from the configuration.
pub struct PushOptions {
    /// Decides where pushes may go whose URLs are named by persons.
    pub guard: Guard,
    /// Places of connections.
    pub sockets: Sockets,
    /// Longest time of an attempt.
    pub timeout: Duration,
    /// Web Push.
    pub webpush: WebPushOptions,
    /// FCM, if there is a service account.
    pub fcm: Option<FcmOptions>,
    /// APNs, if there is a key.
    pub apns: Option<ApnsOptions>,
}

/// How browsers are reached.
#[derive(Clone, Debug)]
pub struct WebPushOptions {
    /// Key by which services know us; a file is made if it is not there.
    pub key: ServiceKey,
    /// Address at which services reach the operator: `mailto:` or `https:`.
    pub subject: Option<String>,
    /// Template of the URL that a click on a notification leads to.
    pub navigate: Option<String>,
}

/// How FCM is reached.
#[derive(Clone, Debug)]
pub struct FcmOptions {
    /// The JSON of a service account, as Google gives it out.
    pub service_account: ServiceKey,
    /// Where pushes are posted to, other than Google's.
    pub endpoint: Option<String>,
    /// Where access tokens are asked for, other than the account's file says.
    pub token_endpoint: Option<String>,
}

/// How APNs is reached.
#[derive(Clone, Debug)]
pub struct ApnsOptions {
    /// Where pushes are posted to, other than Apple's for what is in its store; `http` is HTTP/2
    /// without TLS.
    pub endpoint: Option<String>,
    /// Whom to trust instead of the system's authorities, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The team's key in the form `.p8`, as Apple gives it out.
    pub key: ServiceKey,
    /// Id of the key.
    pub key_id: String,
    /// Id of the team.
    pub team_id: String,
    /// Name of the application.
    pub topic: String,
}

/// Where FCM is.
const FCM_ENDPOINT: &str = "https://fcm.googleapis.com";
/// Where APNs is.
const APNS_ENDPOINT: &str = "https://api.push.apple.com";

/// Why services cannot be reached as the configuration says. Shows no secret.
#[derive(Debug, thiserror::Error)]
pub enum PushServiceError {
    /// The key of Web Push.
    #[error(transparent)]
    Vapid(#[from] VapidKeyError),
    /// A setting, by its name, and what is wrong with it.
    #[error("`{0}` {1}")]
    Setting(&'static str, String),
}

/// The services; clones are the same.
#[derive(Clone)]
pub struct PushServices {
    webpush: Arc<WebPush>,
    webhook: Arc<OxWebhook>,
    fcm: Option<Arc<Fcm>>,
    apns: Option<Arc<Apns>>,
}

impl PushServices {
    /// Refuses what [`PushServices::configured`] would refuse, as far as it shows without keys and
    /// other files.
    pub fn check(options: &PushOptions) -> Result<(), PushServiceError> {
        let setting = |(name, error)| PushServiceError::Setting(name, error);
        navigation_of(&options.webpush)?;
        if let Some(fcm) = &options.fcm {
            let endpoint = fcm.endpoint.as_deref().unwrap_or(FCM_ENDPOINT);
            Fcm::check(endpoint, fcm.token_endpoint.as_deref()).map_err(setting)?;
        }
        if let Some(apns) = &options.apns {
            ProviderKey::check(&apns.key_id, &apns.team_id).map_err(setting)?;
            topic_of(apns).map_err(setting)?;
            let channel = Apns::channel(channel_of(apns, options, None));
            channel.map_err(setting)?;
        }
        Ok(())
    }

    /// Makes them as the configuration says.
    pub fn configured(options: &PushOptions) -> Result<Self, PushServiceError> {
        Self::check(options)?;
        let client = Client::new(&options.guard, &options.sockets, options.timeout);
        let fcm = options.fcm.as_ref().map(|fcm| fcm_of(fcm, options));
        let apns = options.apns.as_ref().map(|apns| apns_of(apns, options));
        let setting = |(name, error)| PushServiceError::Setting(name, error);
        Ok(Self {
            webpush: Arc::new(web_push(client.clone(), &options.webpush)?),
            webhook: Arc::new(OxWebhook::new(client)),
            fcm: fcm.transpose().map_err(setting)?.map(Arc::new),
            apns: apns.transpose().map_err(setting)?.map(Arc::new),
        })
    }

    /// The transport of a kind; `None`: the configuration does not say how its service is reached.
    pub fn transport(&self, kind: TransportKind) -> Option<Arc<dyn Transport>> {
        match kind {
            TransportKind::WebPush => Some(Arc::clone(&self.webpush) as Arc<dyn Transport>),
            TransportKind::Webhook => Some(Arc::clone(&self.webhook) as Arc<dyn Transport>),
            TransportKind::Fcm => {
                let fcm = self.fcm.as_ref()?;
                Some(Arc::clone(fcm) as Arc<dyn Transport>)
            }
            TransportKind::Apns => {
                let apns = self.apns.as_ref()?;
                Some(Arc::clone(apns) as Arc<dyn Transport>)
            }
        }
    }

    /// The public key by which services of browsers know us: an uncompressed point in base64url.
    pub fn vapid_public_key(&self) -> &str {
        self.webpush.key().public_key()
    }
}

fn web_push(client: Client, options: &WebPushOptions) -> Result<WebPush, PushServiceError> {
    let navigation = navigation_of(options)?;
    let vapid = Vapid::new(VapidKey::of(&options.key)?, options.subject.clone());
    Ok(WebPush::new(client, vapid, navigation))
}

/// The template of the URL that a click leads to, and the subject looked at.
fn navigation_of(options: &WebPushOptions) -> Result<Option<Template>, PushServiceError> {
    if let Some(subject) = &options.subject {
        webpush::vapid::check_subject(subject).map_err(|error| {
            PushServiceError::Setting("mail_push.webpush.subject", error.to_owned())
        })?;
    }
    let navigation = options.navigate.as_deref().map(webpush::navigation);
    navigation
        .transpose()
        .map_err(|error| PushServiceError::Setting("mail_push.webpush.navigate", error))
}

/// The name of a setting, and what is wrong with it.
type BadSetting = (&'static str, String);

/// Addresses that the operator names are not guarded.
fn fcm_of(fcm: &FcmOptions, options: &PushOptions) -> Result<Fcm, BadSetting> {
    let client = Client::new(&Guard::of_operator(), &options.sockets, options.timeout);
    let account = ServiceAccount::of(&fcm.service_account);
    let account = account.map_err(|error| ("mail_push.fcm.service_account_file", error))?;
    let endpoint = fcm.endpoint.as_deref().unwrap_or(FCM_ENDPOINT);
    Fcm::new(client, account, endpoint, fcm.token_endpoint.as_deref())
}

fn apns_of(apns: &ApnsOptions, options: &PushOptions) -> Result<Apns, BadSetting> {
    let key = ProviderKey::of(&apns.key, &apns.key_id, &apns.team_id)?;
    let topic = topic_of(apns)?;
    let channel = Apns::channel(channel_of(apns, options, apns.ca_file.as_deref()))?;
    Ok(Apns::new(channel, key, topic))
}

/// The name of the application, as a header has it.
fn topic_of(apns: &ApnsOptions) -> Result<HeaderValue, BadSetting> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let topic = HeaderValue::try_from(&apns.topic).ok();
    let topic = topic.filter(|topic| !topic.is_empty() && apns.topic.bytes().all(is_name));
    topic.ok_or_else(|| {
        let text = "is not the name of an application, such as `org.example.mail`".to_owned();
        ("mail_push.apns.topic", text)
    })
}

fn channel_of<'a>(
    apns: &'a ApnsOptions,
    options: &'a PushOptions,
    ca_file: Option<&'a Path>,
) -> ChannelOptions<'a> {
    ChannelOptions {
        endpoint: apns.endpoint.as_deref().unwrap_or(APNS_ENDPOINT),
        ca_file,
        guard: Guard::of_operator(),
        sockets: &options.sockets,
        timeout: options.timeout,
    }
}

/// A message with its topic and its id: as it is where it says so itself.
fn with_topic(push: &Push) -> Value {
    if push.message.get("topic").is_some() {
        return push.message.clone();
    }
    json!({
        "topic": push.topic.name(),
        "id": push.tag.as_str(),
        "message": push.message,
    })
}

/// The host that an answer speaks for, with its port.
fn host_of(url: &str) -> String {
    let url = url::Url::parse(url).ok();
    let named = url.and_then(|url| {
        let host = url.host_str()?.to_owned();
        Some(match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host,
        })
    });
    named.unwrap_or_default()
}

/// An address that was given to the wrong transport: a mistake of the caller.
fn of_another_transport() -> AddressFault {
    AddressFault {
        field: "",
        detail: "is an address of another transport".to_owned(),
    }
}
