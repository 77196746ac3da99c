//! The receiver that a request says: `url`, `data` and `timeout_seconds` of a webhook, `driver` and
//! `settings` where another driver delivers. What a driver calls secret is taken out of what is
//! shown, and no error repeats it.

use std::sync::Arc;

use dovecast_dispatch::driver::Settings;
use dovecast_drivers::Drivers;
use dovecast_drivers::webhook::{self, WebhookDriver};
use dovecast_store::{DriverSettings, EndpointRecord, Receiver, SecretSettings};
use serde_json::{Map, Value};
use url::Url;

use super::{BLANK, Checked, EndpointFields, MemberNames, Trial};
use crate::refusal::{Fault, escaped};

/// Longest URL of a webhook, in characters.
const MAX_URL_CHARS: usize = 2048;
/// Longest settings of one endpoint, in bytes of JSON: they are in memory, on each node.
const MAX_SETTINGS_BYTES: usize = 16 * 1024;
/// Attributes of webhooks alone.
const OF_WEBHOOKS: [&str; 6] = [
    "url",
    "data",
    "timeout_seconds",
    "preset",
    "template",
    "content_type",
];

/// What the fields of an endpoint are checked against.
pub struct Known<'a> {
    /// Whether another endpoint of the account has the name.
    pub is_taken: bool,
    /// Number of the account.
    pub account: &'a str,
    /// Check the settings of their endpoints.
    pub drivers: &'a Drivers,
    /// The endpoint as it is; `None`: it is to be made.
    pub record: Option<&'a EndpointRecord>,
    /// What filters may name; empty where the request names nothing.
    pub names: &'a MemberNames,
}

impl Known<'_> {
    /// What the endpoint's driver takes as it is, shown and secret; nothing of one to be made.
    pub(super) fn settings(&self) -> (Map<String, Value>, SecretSettings) {
        match self.record {
            // What cannot be opened the store does not change.
            Some(record) => (
                record.endpoint.settings.clone(),
                record.secrets.clone().unwrap_or_default(),
            ),
            None => (Map::new(), SecretSettings::default()),
        }
    }
}

impl EndpointFields {
    /// Checks what is said of the receiver.
    pub(super) fn check_receiver(&mut self, known: &Known<'_>, checked: &mut Checked) {
        let present = known.record.map(|record| record.endpoint.driver.clone());
        let named = self.driver.take();
        if let (Some(present), Some(named)) = (&present, &named)
            && present != named
        {
            checked.refuse("driver", format!("is `{present}`, and cannot be changed"));
            return;
        }
        let driver = present.or(named);
        let driver = driver.unwrap_or_else(|| WebhookDriver::NAME.to_owned());
        let settings = self.settings.take();
        if driver == WebhookDriver::NAME {
            if settings.is_some() {
                let detail =
                    "is for other drivers: a webhook has `url`, `data` and `timeout_seconds`";
                checked.refuse("settings", detail);
            }
            if let Some(url) = self.url.take() {
                checked.url(url, known);
            }
            return;
        }
        let of_webhooks = [
            self.url.take().is_some(),
            self.data.take().is_some(),
            self.timeout_seconds.take().is_some(),
            self.body.preset.take().is_some(),
            self.body.template.take().is_some(),
            self.body.content_type.take().is_some(),
        ];
        for (name, is_there) in OF_WEBHOOKS.into_iter().zip(of_webhooks) {
            if is_there {
                checked.refuse(name, format!("is not for the driver `{driver}`"));
            }
        }
        let settings = match (settings, known.record) {
            (Some(settings), _) => settings,
            // What must be there is said to be missing.
            (None, None) => Value::Object(Map::new()),
            (None, Some(_)) => return,
        };
        checked.settings(known, driver, settings);
    }
}

/// Whether a URL is that of the endpoint already, as it is shown or as it is kept: one that was
/// saved with a user and a password stays.
fn is_present(url: &str, known: &Known<'_>) -> bool {
    let Some(record) = known.record else {
        return false;
    };
    let kept = record.secrets.as_ref().ok();
    let kept = kept.and_then(|secrets| secrets.expose().get("url"));
    record.endpoint.url.as_deref() == Some(url) || kept.and_then(Value::as_str) == Some(url)
}

impl Checked {
    /// Checks the URL of a webhook.
    fn url(&mut self, url: Option<String>, known: &Known<'_>) {
        let Some(text) = url.filter(|url| !url.trim().is_empty()) else {
            return self.refuse("url", BLANK);
        };
        if text.chars().count() > MAX_URL_CHARS {
            let detail = format!("is too long (maximum is {MAX_URL_CHARS} characters)");
            return self.refuse("url", detail);
        }
        if is_present(&text, known) {
            self.receiver = Some(Receiver::Webhook(text));
            return;
        }
        // Parsers leave out tabs and line ends: what is shown would be another URL than the one
        // that is used.
        if text.chars().any(char::is_control) {
            return self.refuse("url", "has a control character");
        }
        let url = Url::parse(&text).ok().filter(Url::has_host);
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            return self.refuse("url", "is not an http or https URL");
        };
        if !url.username().is_empty() || url.password().is_some() {
            let detail = "has a user or a password: give them as `authorization` in `data`";
            return self.refuse("url", detail);
        }
        match webhook::check_url(&text, known.drivers.guard()) {
            Ok(()) => self.receiver = Some(Receiver::Webhook(text)),
            Err(error) => self.refuse("url", format!("cannot be used: {error}")),
        }
    }

    /// Checks settings as the driver takes them, over those that are there.
    fn settings(&mut self, known: &Known<'_>, name: String, said: Value) {
        let driver = match known.drivers.get(&name) {
            Ok(driver) => driver,
            Err(error) => return self.refuse("driver", error.to_string()),
        };
        let bytes = said.to_string().len();
        let Value::Object(said) = said else {
            return self.refuse("settings", "is not an object");
        };
        if bytes > MAX_SETTINGS_BYTES {
            let detail = format!("is too long (maximum is {MAX_SETTINGS_BYTES} bytes)");
            return self.refuse("settings", detail);
        }
        let is_secret = |key: &String| driver.secret_keys().contains(&key.as_str());
        let (secret, open) = said.into_iter().partition(|(key, _)| is_secret(key));
        let settings = DriverSettings {
            driver: name,
            open,
            secret: SecretSettings::new(secret),
        };
        let (mut open, mut secret) = known.settings();
        settings.apply(&mut open, &mut secret);
        let target = driver.target(&Settings {
            account: &Arc::from(known.account),
            open: &open,
            secret: secret.expose(),
        });
        match target {
            Ok(target) => {
                self.receiver = Some(Receiver::Driver(settings));
                self.trial = Trial::of(target, "settings/");
            }
            Err(error) => {
                let place = format!("settings/{}", escaped(&error.key));
                self.errors.push(Fault::attribute(place, error.reason));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dovecast_dispatch::driver::{Boxed, Courier, Driver, SettingsError, Target};
    use serde_json::json;

    use super::*;
    use crate::{FaultPlace, Refusal};

    /// Takes a ring, which is shown, and a word, which is not.
    #[derive(Debug)]
    struct Pigeon;

    impl Driver for Pigeon {
        fn name(&self) -> &'static str {
            "pigeon"
        }

        fn secret_keys(&self) -> &'static [&'static str] {
            &["word"]
        }

        fn target(&self, settings: &Settings<'_>) -> Result<Arc<dyn Target>, SettingsError> {
            settings.known(&["ring"], &["word"])?;
            settings.text("ring")?;
            match settings.secret.get("word") {
                Some(Value::String(_)) => Ok(Arc::new(Self)),
                _ => Err(SettingsError::new("word", "is not a text")),
            }
        }
    }

    impl Target for Pigeon {
        fn authority(&self) -> Option<&str> {
            None
        }

        fn open(self: Arc<Self>) -> Box<dyn Courier> {
            Box::new(Self)
        }
    }

    impl Courier for Pigeon {
        fn deliver<'a>(
            &'a mut self,
            _: &'a dovecast_dispatch::driver::Delivery,
        ) -> Boxed<'a, dovecast_dispatch::driver::Attempt> {
            unreachable!("nothing is delivered")
        }
    }

    fn made(endpoint: Value) -> Result<Receiver, Refusal> {
        let drivers = Drivers::from_iter([Arc::new(Pigeon) as Arc<dyn Driver>]);
        let fields: EndpointFields = serde_json::from_value(endpoint).expect("fields");
        let new = fields.into_new(&Known {
            is_taken: false,
            account: "7",
            drivers: &drivers,
            record: None,
            names: &MemberNames::default(),
        });
        new.map(|(new, _)| new.receiver)
    }

    #[test]
    fn what_a_driver_calls_secret_is_kept_apart() {
        let settings = json!({"ring": "a", "word": "s3cret"});
        let made = made(json!({"name": "a", "driver": "pigeon", "settings": settings}));
        assert!(!format!("{made:?}").contains("s3cret"), "{made:?}");
        let Receiver::Driver(settings) = made.expect("a receiver") else {
            panic!("a webhook");
        };
        assert_eq!(Value::from(settings.open), json!({"ring": "a"}));
        let secret = Value::from(settings.secret.expose().clone());
        assert_eq!(secret, json!({"word": "s3cret"}));
    }

    #[test]
    fn what_is_wrong_with_settings_is_named_and_no_secret_is_shown() {
        for (more, place, detail) in [
            (json!({}), "settings/ring", "is missing"),
            (json!({"settings": 7}), "settings", "is not an object"),
            (
                json!({"settings": {"ring": "a".repeat(MAX_SETTINGS_BYTES)}}),
                "settings",
                "is too long (maximum is 16384 bytes)",
            ),
            (
                json!({"settings": {"ring": "a", "word": ["s3cret"]}}),
                "settings/word",
                "is not a text",
            ),
            (
                json!({"settings": {"a/b": "c"}}),
                "settings/a~1b",
                "is not known to this driver",
            ),
            (
                json!({"settings": {"ring": "a", "word": "s3cret"}, "url": "http://a/"}),
                "url",
                "is not for the driver `pigeon`",
            ),
            (
                json!({"driver": "s\u{f6}mething"}),
                "driver",
                "`s\u{f6}mething` is not a driver of this dovecast",
            ),
        ] {
            let mut endpoint = json!({"name": "a", "driver": "pigeon"});
            let fields = endpoint.as_object_mut().expect("an object");
            fields.extend(more.as_object().expect("an object").clone());
            let Err(Refusal::Invalid(faults)) = made(endpoint) else {
                panic!("{more}");
            };
            let shown = format!("{faults:?}");
            let faults: Vec<_> = faults.into_iter().collect();
            assert!(faults.len() == 1 && !shown.contains("s3cret"), "{shown}");
            assert_eq!(faults[0].detail, detail);
            assert_eq!(faults[0].place, FaultPlace::Attribute(place.to_owned()));
        }
    }
}
