//! The body that makes an endpoint, or changes one, with its filter.

use dovecast_drivers::guard::Guard;
use dovecast_drivers::webhook::{self, Authorization, Webhook, WebhookOptions};
use dovecast_notification::Condition;
use dovecast_server::parsers::{changed_endpoint, new_endpoint};
use dovecast_store::{Credentials, CustomHeaders, FilterEdit, FilterFields, NewEndpoint, Receiver};
use url::Url;

use crate::expect::{complaints, within};
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "endpoint",
    run,
};

const MAX_NAME_CHARS: usize = 255;
const MAX_URL_CHARS: usize = 2048;

fn run(bytes: &[u8]) -> Outcome {
    let most = bytes.len() * 256 + 1024 * 1024;
    let changed = within(most, || changed_endpoint(bytes));
    match within(most, || new_endpoint(bytes)) {
        Ok(new) => {
            is_name(&new.name);
            is_receiver(&new.receiver);
            can_be_delivered_to(&new);
            let filter = new.filter.as_ref();
            filter.into_iter().for_each(is_filter);
            // What may be made may be said of one that is there.
            let changed = changed.expect("a change");
            assert_eq!(changed.name.as_ref(), Some(&new.name));
            assert_eq!(changed.receiver, Some(new.receiver));
            assert_eq!(changed.active.unwrap_or(true), new.active);
            assert_eq!(changed.retry_policy.unwrap_or_default(), new.retry_policy);
            match changed.filter {
                FilterEdit::Put(fields) => assert_eq!(Some(fields), new.filter),
                FilterEdit::Keep | FilterEdit::Remove => assert!(new.filter.is_none()),
            }
            Outcome::Read
        }
        Err(refused) => {
            complaints(&refused, &[400, 422]);
            match changed {
                Ok(changed) => {
                    changed.name.iter().for_each(|name| is_name(name));
                    changed.receiver.iter().for_each(is_receiver);
                    if let FilterEdit::Put(fields) = &changed.filter {
                        is_filter(fields);
                    }
                }
                Err(refused) => complaints(&refused, &[400, 422]),
            }
            Outcome::Refused
        }
    }
}

fn is_name(name: &str) {
    assert!(!name.trim().is_empty() && name.chars().count() <= MAX_NAME_CHARS);
    assert!(!name.contains('\0'));
}

fn is_receiver(receiver: &Receiver) {
    if let Receiver::Webhook(url) = receiver {
        is_url(url);
    }
}

fn is_url(url: &str) {
    assert!(url.chars().count() <= MAX_URL_CHARS && !url.contains('\0'));
    // White space around an URL, and within it, does not count.
    let start = url.chars().filter(|char| *char > ' ').take("https:".len());
    let start = start.collect::<String>().to_ascii_lowercase();
    assert!(start.starts_with("http:") || start == "https:", "{url:?}");
}

/// What was taken the driver can use. (The system's certificates are not looked for.)
fn can_be_delivered_to(new: &NewEndpoint) {
    let authorization = new
        .credentials
        .clone()
        .map(|credentials| match credentials {
            Credentials::Basic { username, password } => Authorization::Basic(username, password),
            Credentials::Bearer { token } => Authorization::Bearer(token),
        });
    let Receiver::Webhook(taken) = &new.receiver else {
        return;
    };
    assert!(webhook::check_url(taken, &Guard::new(&[])).is_ok());
    let mut url = Url::parse(taken).expect("a URL");
    if new.server_ca_certificate.is_none() {
        // Fails for none of the URLs that are taken.
        url.set_scheme("http").expect("another scheme");
    }
    let headers = new.headers.as_ref().map(CustomHeaders::expose);
    let options = WebhookOptions {
        url: url.into(),
        headers: headers.unwrap_or_default().to_vec(),
        authorization,
        server_ca: new.server_ca_certificate.clone(),
        ..WebhookOptions::default()
    };
    if let Err(error) = Webhook::new(&options) {
        panic!("{taken:?} is taken, and cannot be used: {error}");
    }
}

fn is_filter(filter: &FilterFields) {
    if let Some(Some(text)) = &filter.condition {
        assert!(Condition::new(text).is_ok());
    }
}
