//! Presets at the stand-ins for their services, by the examples of their pages.

mod limits;
mod refusals;

use std::sync::{Arc, Mutex, PoisonError};

use dovecast_dispatch::driver::{Attempt, Courier, Delivery};
use dovecast_drivers::webhook::presets::{PRESETS, Preset};
use dovecast_drivers::webhook::{Authorization, FormatOptions, WebhookOptions};
use dovecast_testkit::endpoint::{Hook, HookEndpoint, Reply};
use dovecast_testkit::services::{SERVICES, Service, example, service};
use serde_json::Value;

use crate::{options, sender};

/// A running stand-in, and the endpoint of the example of its page.
struct StandIn {
    options: WebhookOptions,
    replies: Arc<Mutex<Vec<Reply>>>,
}

impl StandIn {
    fn start(service: &'static Service) -> Self {
        Self::answering(service, service.answer)
    }

    /// A service that answers so whatever it is asked.
    fn saying(service: &'static Service, status: u16, body: &'static str) -> Self {
        Self::answering(service, move |_| Reply {
            status,
            body: body.to_owned(),
        })
    }

    fn answering(
        service: &'static Service,
        answer: impl Fn(&Hook) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let replies = Arc::<Mutex<Vec<Reply>>>::default();
        let kept = Arc::clone(&replies);
        let endpoint = HookEndpoint::answering(move |hook| {
            let reply = answer(hook);
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push(reply.clone());
            reply
        });
        let base = endpoint.expect("a stand-in").url().replace("/hook", "");
        Self {
            options: by_example(service, &base),
            replies,
        }
    }

    async fn deliver(&self, delivery: &Delivery) -> Attempt {
        sender(&self.options).deliver(delivery).await
    }

    /// The last answer.
    fn said(&self) -> Reply {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        replies.last().cloned().expect("an answer")
    }
}

/// The endpoint of the example of the page of a service, which is at `base`.
fn by_example(service: &Service, base: &str) -> WebhookOptions {
    let url = format!("{base}{}", service.path);
    let endpoint = example(service.preset, &url).expect(service.preset);
    let login = &endpoint["data"]["authorization"];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let parameters = endpoint["data"]["parameters"].as_object().cloned();
    WebhookOptions {
        authorization: login
            .is_object()
            .then(|| Authorization::Basic(text(&login["username"]), text(&login["password"]))),
        format: FormatOptions {
            preset: Some(Preset::get(service.preset).expect(service.preset)),
            parameters: parameters.unwrap_or_default(),
            also_at: vec![base.parse().expect("a URL")],
            ..FormatOptions::default()
        },
        ..options(&url)
    }
}

#[test]
fn every_preset_has_a_stand_in_and_a_page() {
    for preset in &PRESETS {
        let service = service(preset.name).expect(preset.name);
        let endpoint = example(preset.name, "").expect(preset.name);
        assert_eq!(endpoint["preset"], preset.name);
        assert_eq!(service.preset, preset.name);
    }
    assert_eq!(SERVICES.len(), PRESETS.len());
}
