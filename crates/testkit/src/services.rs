//! Stand-ins for services that take webhooks of a form of their own: each refuses what the service
//! refuses by its documentation, with the service's words, and answers as it does.
//!
//! Each knows the path, the credentials and the secrets of the example of its page alone.

mod alerts;
mod chats;
mod phones;

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

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
    /// Status and body of its answer to whoever asks too often.
    pub too_much: (u16, &'static str),
}

/// All of them.
pub const SERVICES: [Service; 12] = [
    Service {
        preset: "discord",
        path: "/api/webhooks/1/token",
        answer: chats::discord,
        too_much: (
            429,
            r#"{"message":"You are being rate limited.","retry_after":0.6,"global":false}"#,
        ),
    },
    Service {
        preset: "google-chat",
        path: "/v1/spaces/AAAA/messages?key=k&token=t",
        answer: chats::google_chat,
        too_much: (
            429,
            r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}"#,
        ),
    },
    Service {
        preset: "gotify",
        path: "/message",
        answer: phones::gotify,
        // It has no limit; the proxy before it has.
        too_much: (503, ""),
    },
    Service {
        preset: "mattermost",
        path: "/hooks/xxx",
        answer: chats::mattermost,
        too_much: (429, "limit exceeded"),
    },
    Service {
        preset: "ntfy",
        path: "/",
        answer: phones::ntfy,
        too_much: (
            429,
            r#"{"code":42901,"http":429,"error":"limit reached: too many requests"}"#,
        ),
    },
    Service {
        preset: "pagerduty",
        path: "/v2/enqueue",
        answer: alerts::pagerduty,
        too_much: (
            429,
            r#"{"status":"throttle exceeded","message":"Request Limit Exceeded"}"#,
        ),
    },
    Service {
        preset: "servicenow",
        path: "/api/global/em/jsonv2",
        answer: alerts::servicenow,
        too_much: (429, r#"{"error":{"message":"Rate limit exceeded"}}"#),
    },
    Service {
        preset: "slack",
        path: "/services/T/B/x",
        answer: chats::slack,
        too_much: (429, "rate_limited"),
    },
    Service {
        preset: "sms",
        path: "/send",
        answer: phones::sms,
        too_much: (503, r#"{"queued":false}"#),
    },
    Service {
        preset: "splunk",
        path: "/services/collector/event",
        answer: alerts::splunk,
        too_much: (503, r#"{"text":"Server is busy","code":9}"#),
    },
    Service {
        preset: "teams",
        path: "/workflows/1/triggers/manual/paths/invoke?sig=s",
        answer: chats::teams,
        // The workflow has taken it; what is behind it has not.
        too_much: (
            200,
            "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429 with ContextId tcid=1",
        ),
    },
    Service {
        preset: "twilio",
        path: "/2010-04-01/Accounts/AC1/Messages.json",
        answer: phones::twilio,
        too_much: (
            429,
            r#"{"code":20429,"message":"Too Many Requests","status":429}"#,
        ),
    },
];

/// The stand-in for the service of a preset.
pub fn service(preset: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.preset == preset)
}

/// The token of the examples of the pages of services that have one.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What those who have the user and the password of the examples send.
const BASIC: &str = "Basic VVNFUjpQQVNTV09SRA==";

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

/// Path and query of a POST; empty: it is another request.
fn target(hook: &Hook) -> &str {
    let line = hook.head.first().map(String::as_str).unwrap_or_default();
    let mut words = line.split(' ');
    let is_post = words.next() == Some("POST");
    words.next().filter(|_| is_post).unwrap_or_default()
}

/// Path of a POST.
fn path(hook: &Hook) -> &str {
    target(hook).split('?').next().unwrap_or_default()
}

/// A value of the query of a POST.
fn query<'a>(hook: &'a Hook, name: &str) -> Option<&'a str> {
    let (_, query) = target(hook).split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

/// The body, if it is of this type.
fn typed<'a>(hook: &'a Hook, content_type: &str) -> Option<&'a str> {
    (hook.header("content-type")? == content_type).then_some(&*hook.body)
}

fn json_of(hook: &Hook) -> Option<Value> {
    serde_json::from_str(typed(hook, "application/json")?).ok()
}

/// Whether it is a text that is not empty, of at most so many characters.
fn is_text(value: &Value, most: usize) -> bool {
    let text = value.as_str();
    text.is_some_and(|text| !text.is_empty() && text.chars().count() <= most)
}

/// The fields of a form.
fn fields(hook: &Hook) -> Option<Vec<(String, String)>> {
    let body = typed(hook, "application/x-www-form-urlencoded")?;
    let pairs = body.split('&').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((decoded(name)?, decoded(value)?))
    });
    pairs.collect()
}

/// What was written into a form.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                let digits = str::from_utf8(&digits).ok()?;
                u8::from_str_radix(digits, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}
