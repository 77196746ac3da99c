//! Stand-ins for services that take webhooks of a form of their own: each refuses what the service
//! refuses by its documentation, with the service's words, and answers as it does.

use std::fs;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::endpoint::{Hook, HookEndpoint, Reply};

/// A service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Name of its preset.
    pub preset: &'static str,
    /// Path of its URL.
    pub path: &'static str,
    /// Answers a request.
    pub answer: fn(&Hook) -> Reply,
}

/// All of them.
pub const SERVICES: [Service; 12] = [
    Service {
        preset: "discord",
        path: "/api/webhooks/1/token",
        answer: discord,
    },
    Service {
        preset: "google-chat",
        path: "/v1/spaces/AAAA/messages?key=k&token=t",
        answer: google_chat,
    },
    Service {
        preset: "gotify",
        path: "/message",
        answer: gotify,
    },
    Service {
        preset: "mattermost",
        path: "/hooks/xxx",
        answer: mattermost,
    },
    Service {
        preset: "ntfy",
        path: "/",
        answer: ntfy,
    },
    Service {
        preset: "pagerduty",
        path: "/v2/enqueue",
        answer: pagerduty,
    },
    Service {
        preset: "servicenow",
        path: "/api/global/em/jsonv2",
        answer: servicenow,
    },
    Service {
        preset: "slack",
        path: "/services/T/B/x",
        answer: slack,
    },
    Service {
        preset: "sms",
        path: "/send",
        answer: sms,
    },
    Service {
        preset: "splunk",
        path: "/services/collector/event",
        answer: splunk,
    },
    Service {
        preset: "teams",
        path: "/workflows/1/triggers/manual/paths/invoke?sig=s",
        answer: teams,
    },
    Service {
        preset: "twilio",
        path: "/2010-04-01/Accounts/AC1/Messages.json",
        answer: twilio,
    },
];

/// The token of the examples of the pages of services that have one.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The endpoint of the example that a page of `docs/drivers` begins with, at another URL.
pub fn example(page: &str, url: &str) -> Result<Value> {
    let page = crate::workspace::root().join(format!("docs/drivers/{page}.md"));
    let text = fs::read_to_string(&page).with_context(|| format!("no page {}", page.display()))?;
    let block = text.split("```\n").nth(1);
    let block = block.with_context(|| format!("no example in {}", page.display()))?;
    let mut request: Value = serde_json::from_str(block)
        .with_context(|| format!("the example in {} is no JSON", page.display()))?;
    let mut endpoint = request["endpoint"].take();
    if endpoint.get("url").is_some() {
        endpoint["url"] = url.into();
    }
    Ok(endpoint)
}

/// The section of dovecast's configuration by which a stand-in is at home.
pub fn section(preset: &str, stand_in: &HookEndpoint) -> String {
    let url = stand_in.url();
    let url = url.trim_end_matches("hook");
    format!("[presets.{preset}]\nurls = ['{url}']\n")
}

fn reply(status: u16, body: impl Into<Body>) -> Reply {
    Reply {
        status,
        body: body.into().0,
    }
}

/// A body: a text, or JSON.
struct Body(String);

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self(value.to_string())
    }
}

/// The body, if the request is a POST of this type.
fn posted<'a>(hook: &'a Hook, content_type: &str) -> Option<&'a str> {
    let is_post = hook.head.first()?.starts_with("POST ");
    let is_typed = hook.header("content-type")? == content_type;
    (is_post && is_typed).then_some(&*hook.body)
}

fn json(hook: &Hook) -> Option<Value> {
    serde_json::from_str(posted(hook, "application/json")?).ok()
}

/// Whether it is a text that is not empty, of at most so many characters.
fn is_text(value: &Value, most: usize) -> bool {
    let text = value.as_str();
    text.is_some_and(|text| !text.is_empty() && text.chars().count() <= most)
}

fn discord(hook: &Hook) -> Reply {
    match json(hook) {
        Some(body) if is_text(&body["content"], 2000) => reply(204, ""),
        Some(_) => reply(
            400,
            json!({"code": 50006, "message": "Cannot send an empty message"}),
        ),
        None => reply(
            400,
            json!({"code": 50109, "message": "The request body contains invalid JSON."}),
        ),
    }
}

fn google_chat(hook: &Hook) -> Reply {
    match json(hook) {
        Some(body)
            if body["text"]
                .as_str()
                .is_some_and(|text| text.len() <= 32_000) =>
        {
            reply(
                200,
                json!({"name": "spaces/AAAA/messages/1", "text": body["text"]}),
            )
        }
        _ => reply(
            400,
            json!({"error": {"code": 400, "status": "INVALID_ARGUMENT"}}),
        ),
    }
}

fn gotify(hook: &Hook) -> Reply {
    if hook.header("x-gotify-key") != Some(TOKEN) {
        return reply(401, json!({"error": "Unauthorized", "errorCode": 401}));
    }
    match json(hook) {
        Some(body) if is_text(&body["message"], usize::MAX) && body["priority"].is_i64() => reply(
            200,
            json!({"id": 25, "appid": 5, "message": body["message"]}),
        ),
        _ => reply(400, json!({"error": "Bad Request", "errorCode": 400})),
    }
}

fn mattermost(hook: &Hook) -> Reply {
    match json(hook) {
        Some(body) if is_text(&body["text"], 16_383) => reply(200, "ok"),
        _ => reply(
            400,
            json!({"id": "web.incoming_webhook.text.app_error", "status_code": 400}),
        ),
    }
}

fn ntfy(hook: &Hook) -> Reply {
    let body = json(hook).unwrap_or_default();
    let is_topic = is_text(&body["topic"], 64);
    let is_priority = matches!(body["priority"].as_u64(), Some(1..=5));
    let is_message = body["message"]
        .as_str()
        .is_some_and(|text| text.len() <= 4096);
    if is_topic && is_priority && is_message {
        return reply(200, json!({"id": "hwQ2YpKdmg", "event": "message"}));
    }
    reply(
        400,
        json!({"code": 40024, "http": 400, "error": "invalid request"}),
    )
}

fn pagerduty(hook: &Hook) -> Reply {
    let body = json(hook).unwrap_or_default();
    let payload = &body["payload"];
    let is_key = body["routing_key"]
        .as_str()
        .is_some_and(|key| key.len() == 32);
    let is_severity = matches!(
        payload["severity"].as_str(),
        Some("critical" | "error" | "warning" | "info")
    );
    let is_event = body["event_action"] == "trigger"
        && is_text(&payload["summary"], 1024)
        && is_text(&payload["source"], 255)
        && is_text(&body["dedup_key"], 255);
    if is_key && is_severity && is_event {
        let key = &body["dedup_key"];
        return reply(
            202,
            json!({"status": "success", "message": "Event processed", "dedup_key": key}),
        );
    }
    reply(
        400,
        json!({"status": "invalid event", "message": "Event object is invalid"}),
    )
}

fn servicenow(hook: &Hook) -> Reply {
    if hook
        .header("authorization")
        .is_none_or(|value| !value.starts_with("Basic "))
    {
        return reply(
            401,
            json!({"error": {"message": "User Not Authenticated"}, "status": "failure"}),
        );
    }
    let body = json(hook).unwrap_or_default();
    let is_event = |record: &Value| {
        let is_severity = matches!(
            record["severity"].as_str(),
            Some("0" | "1" | "2" | "3" | "4" | "5")
        );
        is_severity && is_text(&record["source"], 100) && is_text(&record["description"], 4000)
    };
    match body["records"].as_array() {
        Some(records) if !records.is_empty() && records.iter().all(is_event) => reply(
            200,
            json!({"result": {"Default Bulk Endpoint": "1 events were inserted"}}),
        ),
        _ => reply(
            400,
            json!({"error": {"message": "Invalid records"}, "status": "failure"}),
        ),
    }
}

fn slack(hook: &Hook) -> Reply {
    match json(hook) {
        Some(body) if is_text(&body["text"], 40_000) => reply(200, "ok"),
        Some(_) => reply(400, "no_text"),
        None => reply(400, "invalid_payload"),
    }
}

fn sms(hook: &Hook) -> Reply {
    let body = json(hook).unwrap_or_default();
    if is_text(&body["to"], 20) && is_text(&body["text"], 459) {
        return reply(202, json!({"queued": true}));
    }
    reply(422, json!({"queued": false}))
}

fn splunk(hook: &Hook) -> Reply {
    match hook.header("authorization") {
        None => return reply(401, json!({"text": "Token is required", "code": 2})),
        Some(value) if value != format!("Splunk {TOKEN}") => {
            return reply(403, json!({"text": "Invalid token", "code": 4}));
        }
        Some(_) => {}
    }
    match json(hook) {
        Some(body) if body.get("event").is_some() => {
            reply(200, json!({"text": "Success", "code": 0}))
        }
        Some(_) => reply(400, json!({"text": "Event field is required", "code": 12})),
        None => reply(400, json!({"text": "Invalid data format", "code": 6})),
    }
}

fn teams(hook: &Hook) -> Reply {
    let body = json(hook).unwrap_or_default();
    let card = &body["attachments"][0];
    let is_block = |block: &Value| block["type"] == "TextBlock" && block["text"].is_string();
    let is_card = card["contentType"] == "application/vnd.microsoft.card.adaptive"
        && card["content"]["type"] == "AdaptiveCard"
        && card["content"]["body"]
            .as_array()
            .is_some_and(|blocks| blocks.iter().all(is_block));
    if body["type"] == "message" && is_card && hook.body.len() <= 28 * 1024 {
        return reply(202, "");
    }
    reply(
        400,
        json!({"error": {"code": "TriggerInputSchemaMismatch"}}),
    )
}

fn twilio(hook: &Hook) -> Reply {
    if hook
        .header("authorization")
        .is_none_or(|value| !value.starts_with("Basic "))
    {
        return reply(
            401,
            json!({"code": 20003, "message": "Authenticate", "status": 401}),
        );
    }
    let Some(body) = posted(hook, "application/x-www-form-urlencoded") else {
        return reply(400, json!({"code": 20001, "status": 400}));
    };
    let has = |name: &str| {
        body.split('&')
            .any(|pair| pair.starts_with(&format!("{name}=%2B")))
    };
    let has_body = body
        .split('&')
        .any(|pair| pair.starts_with("Body=") && pair.len() > 5);
    if has("To") && has("From") && has_body {
        return reply(
            201,
            json!({"sid": "SM1", "status": "queued", "error_code": null}),
        );
    }
    reply(
        400,
        json!({"code": 21604, "message": "A 'To' phone number is required.", "status": 400}),
    )
}
