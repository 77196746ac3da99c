//! How the body of a webhook is made: `preset`, `template`, `content_type`, and the parameters in
//! `data`.
//!
//! They are checked together with the URL and the credentials, as the driver takes them: a preset
//! fits one service.

use std::sync::Arc;

use dovecast_dispatch::driver::Settings;
use dovecast_drivers::webhook::WebhookDriver;
use dovecast_store::{Credentials, DriverSettings, Receiver, SecretSettings};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{Checked, Known, Trial, said};
use crate::refusal::Fault;

/// How the body of a webhook is made. A key that is not given changes nothing; one that is null is
/// removed.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct BodyFields {
    /// Name of the service that the webhook is of, such as `slack`: its form and its credentials.
    /// Null for the form of hooks-backend.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "slack")]
    pub(super) preset: Option<Option<Value>>,
    /// Template of the body (minijinja), at most 64 KiB; goes before that of the preset.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    pub(super) template: Option<Option<Value>>,
    /// Type of the body that the template makes; if this is not given, that of the preset, or else
    /// `application/json`.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>, example = "text/plain; charset=utf-8")]
    pub(super) content_type: Option<Option<Value>>,
}

impl BodyFields {
    /// What is said, by the names of the settings.
    fn said(self) -> Map<String, Value> {
        let all = [
            ("preset", self.preset),
            ("template", self.template),
            ("content_type", self.content_type),
        ];
        let said = all.into_iter().filter_map(|(name, said)| {
            let value = said?.unwrap_or_default();
            Some((name.to_owned(), value))
        });
        said.collect()
    }
}

impl Checked {
    /// Checks what is said of the body, over what is there.
    pub(super) fn body(&mut self, said: BodyFields, known: &Known<'_>) {
        let open = said.said();
        let parameters = self.data.parameters.take();
        if !open.is_empty() || parameters.is_some() {
            let parameters = parameters.map(|said| said.map_or(Value::Null, Value::Object));
            let parameters = parameters.map(|value| ("parameters".to_owned(), value));
            self.body = Some(DriverSettings {
                driver: WebhookDriver::NAME.to_owned(),
                open,
                secret: SecretSettings::new(parameters.into_iter().collect()),
            });
        }
        // What is wrong by itself is told first.
        if self.errors.is_empty() {
            self.whole(known);
        }
    }

    /// Checks all that a preset has to fit.
    fn whole(&mut self, known: &Known<'_>) {
        let (mut open, mut secret) = known.settings();
        for settings in [&self.reached()].into_iter().chain(&self.body) {
            settings.apply(&mut open, &mut secret);
        }
        let is_formed = ["preset", "template"]
            .iter()
            .any(|key| open.contains_key(*key));
        let driver = known.drivers.get(WebhookDriver::NAME);
        let (true, Ok(driver)) = (is_formed, driver) else {
            return;
        };
        let checked = driver.target(&Settings {
            account: &Arc::from(known.account),
            open: &open,
            secret: secret.expose(),
        });
        match checked {
            Ok(target) => self.trial = Trial::of(target, ""),
            Err(error) => {
                let place = match &*error.key {
                    key @ ("parameters" | "authorization") => format!("data/{key}"),
                    key => key.to_owned(),
                };
                self.errors.push(Fault::attribute(place, error.reason));
            }
        }
    }

    /// What is said of the URL, the credentials and the headers, as settings of the driver.
    fn reached(&self) -> DriverSettings {
        let mut settings = DriverSettings::default();
        let mut secret = Map::new();
        if let Some(Receiver::Webhook(url)) = &self.receiver {
            settings.open.insert("url".to_owned(), url.as_str().into());
            secret.insert("url".to_owned(), Value::Null);
        }
        if let Some(credentials) = &self.data.credentials {
            let setting = credentials.as_ref().map(Credentials::setting);
            secret.insert("authorization".to_owned(), setting.unwrap_or_default());
        }
        if let Some(headers) = &self.data.headers {
            let pairs = headers.as_ref().map(|headers| json!(headers.expose()));
            secret.insert("headers".to_owned(), pairs.unwrap_or_default());
        }
        settings.secret = SecretSettings::new(secret);
        settings
    }
}
