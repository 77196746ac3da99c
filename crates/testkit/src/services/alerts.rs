//! Services that watch over machines, and make an alert or an entry of a notification.

use serde_json::{Value, json};

use super::{BASIC, TOKEN, is_text, json_of, path, reply};
use crate::endpoint::{Hook, Reply};

/// Most bytes of an event of PagerDuty.
const PAGERDUTY_BYTES: usize = 512 * 1024;

pub(super) fn pagerduty(hook: &Hook) -> Reply {
    let refuse = |status: u16, why: &str| {
        reply(
            status,
            json!({"status": "invalid event", "message": "Event object is invalid", "errors": [why]}),
        )
    };
    if path(hook) != "/v2/enqueue" {
        return reply(404, "");
    }
    if hook.body.len() > PAGERDUTY_BYTES {
        return refuse(413, "Event is too large");
    }
    let Some(body) = json_of(hook) else {
        return refuse(400, "Invalid JSON");
    };
    let payload = &body["payload"];
    let severity = payload["severity"].as_str();
    if body["routing_key"] != TOKEN {
        return refuse(400, "Invalid routing key");
    }
    if !matches!(severity, Some("critical" | "error" | "warning" | "info")) {
        return refuse(400, "'severity' is invalid");
    }
    let is_event = body["event_action"] == "trigger"
        && is_text(&payload["summary"], 1_024)
        && is_text(&payload["source"], usize::MAX)
        && is_text(&body["dedup_key"], 255);
    if !is_event {
        return refuse(400, "a field is missing or too long");
    }
    let key = &body["dedup_key"];
    reply(
        202,
        json!({"status": "success", "message": "Event processed", "dedup_key": key}),
    )
}

/// ServiceNow cuts by itself what is longer than the column of the table: none of ours is to be.
pub(super) fn servicenow(hook: &Hook) -> Reply {
    let refuse = |status: u16, why: &str| {
        reply(
            status,
            json!({"error": {"message": why}, "status": "failure"}),
        )
    };
    if hook.header("authorization") != Some(BASIC) {
        return refuse(401, "User Not Authenticated");
    }
    if path(hook) != "/api/global/em/jsonv2" {
        return refuse(400, "Requested URI does not represent any resource");
    }
    let body = json_of(hook).unwrap_or_default();
    let is_short = |value: &Value| is_text(value, 100);
    let is_event = |record: &Value| {
        let severity = record["severity"].as_str();
        matches!(severity, Some("0" | "1" | "2" | "3" | "4" | "5"))
            && ["source", "event_class", "type", "node"]
                .iter()
                .all(|name| is_short(&record[name]))
            && is_text(&record["message_key"], 1_024)
            && is_text(&record["description"], 4_000)
    };
    match body["records"].as_array() {
        Some(records) if !records.is_empty() && records.iter().all(is_event) => reply(
            200,
            json!({"result": {"Default Bulk Endpoint": "1 events were inserted"}}),
        ),
        _ => refuse(400, "Invalid records"),
    }
}

pub(super) fn splunk(hook: &Hook) -> Reply {
    let refuse =
        |status: u16, code: u16, text: &str| reply(status, json!({"text": text, "code": code}));
    if path(hook) != "/services/collector/event" {
        return refuse(404, 404, "The requested URL was not found on this server.");
    }
    let token = hook.header("authorization").map(|value| {
        let (scheme, token) = value.split_once(' ').unwrap_or_default();
        (scheme == "Splunk").then_some(token)
    });
    match token {
        None => return refuse(401, 2, "Token is required"),
        Some(None) => return refuse(401, 3, "Invalid authorization"),
        Some(Some(token)) if token != TOKEN => return refuse(403, 4, "Invalid token"),
        Some(Some(_)) => {}
    }
    if hook.body.is_empty() {
        return refuse(400, 5, "No data");
    }
    let Some(body) = json_of(hook) else {
        return refuse(400, 6, "Invalid data format");
    };
    match body.get("event") {
        None => refuse(400, 12, "Event field is required"),
        Some(Value::String(text)) if text.is_empty() => {
            refuse(400, 13, "Event field cannot be blank")
        }
        Some(_) => reply(200, json!({"text": "Success", "code": 0})),
    }
}
