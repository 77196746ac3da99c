//! The longest mail there is: each service takes what its preset makes of it, and would not take
//! it if the preset cut it less.

use std::sync::Arc;

use bytes::Bytes;
use dovecast_dispatch::driver::{Delivery, Outcome};
use dovecast_notification::DOVECOT;
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::{Value, json};

use super::*;

/// Longer than a title and a text are, in bytes.
const LONG: usize = 24_000;
/// More than any service takes anywhere.
const HUGE: usize = 600_000;

/// A mail and another notification in which everything is long, and made of this.
fn long(of: &str, preset: &str) -> [Delivery; 2] {
    // Splunk is sent the whole of it, and no notification is larger than 1 MiB.
    let huge = if preset == "splunk" { 100_000 } else { HUGE };
    let long = of.repeat(LONG / of.len());
    let huge = of.repeat(huge / of.len());
    let mail = json!({
        "user": long, "mailbox": long, "fromDisplayName": long, "subjectDecoded": long,
        "snippet": long,
    });
    let mut of_mail = made(DOVECOT, "MessageNew", &mail);
    let notification = Arc::make_mut(&mut of_mail.notifications[0]);
    notification.key = Some(Bytes::from(huge.clone()));
    [of_mail, made(&huge, &huge, &json!({"of": long}))]
}

fn made(application: &str, event_type: &str, message: &Value) -> Delivery {
    let mut delivery = crate::delivery();
    let notification = Arc::make_mut(&mut delivery.notifications[0]);
    notification.application = application.into();
    notification.event_type = event_type.into();
    notification.message = message.to_string().into();
    delivery
}

/// Each of these takes its most room in another form: letters, escapes of JSON, of Slack and of
/// forms, what calls somebody, bytes of UTF-8.
const MADE_OF: [&str; 6] = ["m", "\u{1}m", "&m", "@<", "ü", "🐦"];

#[tokio::test]
async fn every_service_takes_the_longest_mail_there_is() {
    for service in &SERVICES {
        let stand_in = StandIn::start(service);
        for of in MADE_OF {
            for delivery in long(of, service.preset) {
                let attempt = stand_in.deliver(&delivery).await;
                let name = service.preset;
                assert_eq!(attempt.outcome, Outcome::Delivered, "{name}: {of:?}");
            }
        }
    }
}

#[tokio::test]
async fn splunk_takes_the_largest_notification_there_is() {
    let stand_in = StandIn::start(service("splunk").expect("splunk"));
    let list: Vec<u32> = (0..150_000).collect();
    for message in [json!({"of": "m".repeat(1_048_000)}), json!({"of": list})] {
        let delivery = made("app", "sent", &message);
        let attempt = stand_in.deliver(&delivery).await;
        assert_eq!(attempt.outcome, Outcome::Delivered);
    }
}

/// Each `|cut(...)` of a template: where it begins, and its text.
fn cuts(template: &str) -> Vec<(usize, &str)> {
    let begin = template.match_indices("|cut(");
    let whole = begin.map(|(at, _)| {
        let end = template[at..].find(')').expect("an end");
        (at, &template[at..=at + end])
    });
    whole.collect()
}

#[tokio::test]
async fn a_preset_without_one_of_its_cuts_is_refused_by_its_service() {
    let mut count = 0;
    for preset in &PRESETS {
        let mut stand_in = StandIn::start(service(preset.name).expect(preset.name));
        for (at, cut) in cuts(preset.template) {
            let mut without = preset.template.to_owned();
            without.replace_range(at..at + cut.len(), "");
            stand_in.options.format.template = Some(without);
            let mut are_all_taken = true;
            for delivery in MADE_OF.iter().flat_map(|of| long(of, preset.name)) {
                let attempt = stand_in.deliver(&delivery).await;
                are_all_taken &= attempt.outcome == Outcome::Delivered;
            }
            assert!(!are_all_taken, "{}: `{cut}` at {at}", preset.name);
            count += 1;
        }
    }
    assert!(count >= 9, "{count} cuts are found");
}

#[tokio::test]
async fn a_text_message_that_was_cut_needs_no_other_alphabet() {
    for name in ["sms", "twilio"] {
        let service = service(name).expect(name);
        let endpoint = HookEndpoint::answering(service.answer).expect("a stand-in");
        let options = by_example(service, &endpoint.url().replace("/hook", ""));
        for delivery in long("m", name) {
            sender(&options).deliver(&delivery).await;
        }
        let hooks = endpoint.hooks();
        assert_eq!(hooks.len(), 2, "{name}");
        for hook in hooks {
            // As it is, and as it stands in a form.
            let is_cut = hook.body.contains('…') || hook.body.contains("%E2%80%A6");
            assert!(hook.body.contains("...") && !is_cut, "{}", hook.body);
        }
    }
}

#[tokio::test]
async fn a_card_has_no_block_without_words() {
    let stand_in = StandIn::start(service("teams").expect("teams"));
    let gone = made(DOVECOT, "MailboxDelete", &json!({"mailbox": "a"}));
    let attempt = stand_in.deliver(&gone).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "{:?}", stand_in.said());
}
