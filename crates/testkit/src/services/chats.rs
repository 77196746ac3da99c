//! Services that write a notification into a room where people talk.

use serde_json::{Value, json};

use super::{is_text, json_of, path, query, reply};
use crate::endpoint::{Hook, Reply};

/// Most characters of a message of Google Chat that is a text.
const GOOGLE_CHAT_CHARACTERS: usize = 4_096;
/// Most bytes of a message of Teams.
const TEAMS_BYTES: usize = 28 * 1024;

pub(super) fn discord(hook: &Hook) -> Reply {
    match path(hook) {
        "/api/webhooks/1/token" => {}
        other if other.starts_with("/api/webhooks/1/") => {
            let body = json!({"code": 50027, "message": "Invalid Webhook Token"});
            return reply(401, body);
        }
        _ => return reply(404, json!({"code": 10015, "message": "Unknown Webhook"})),
    }
    if hook.header("content-type") != Some("application/json") {
        return reply(400, json!({"code": 50035, "message": "Invalid Form Body"}));
    }
    match json_of(hook) {
        Some(body) if is_text(&body["content"], 2_000) => reply(204, ""),
        Some(body) if is_text(&body["content"], usize::MAX) => reply(
            400,
            json!({
                "code": 50035, "message": "Invalid Form Body",
                "errors": {"content": {"_errors": [{"code": "BASE_TYPE_MAX_LENGTH"}]}},
            }),
        ),
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

pub(super) fn google_chat(hook: &Hook) -> Reply {
    let refuse =
        |code: u16, status: &str| reply(code, json!({"error": {"code": code, "status": status}}));
    if path(hook) != "/v1/spaces/AAAA/messages" {
        return refuse(404, "NOT_FOUND");
    }
    if query(hook, "key") != Some("k") {
        return refuse(400, "INVALID_ARGUMENT");
    }
    if query(hook, "token") != Some("t") {
        return refuse(401, "UNAUTHENTICATED");
    }
    match json_of(hook) {
        Some(body) if is_text(&body["text"], GOOGLE_CHAT_CHARACTERS) => reply(
            200,
            json!({"name": "spaces/AAAA/messages/1", "text": body["text"]}),
        ),
        _ => refuse(400, "INVALID_ARGUMENT"),
    }
}

pub(super) fn mattermost(hook: &Hook) -> Reply {
    let refuse = |status: u16, what: &str| {
        let id = format!("web.incoming_webhook.{what}.app_error");
        reply(status, json!({"id": id, "status_code": status}))
    };
    if path(hook) != "/hooks/xxx" {
        return refuse(400, "invalid");
    }
    let Some(body) = json_of(hook) else {
        return refuse(400, "parse");
    };
    // It makes several posts of a longer text: none of ours is to be so long.
    if !is_text(&body["text"], 16_383) {
        return refuse(400, "text");
    }
    match body.get("channel").map(Value::as_str) {
        None | Some(Some("town-square")) => reply(200, "ok"),
        Some(_) => refuse(404, "channel"),
    }
}

pub(super) fn slack(hook: &Hook) -> Reply {
    match path(hook) {
        "/services/T/B/x" => {}
        "/services/T/archived/x" => return reply(410, "channel_is_archived"),
        other if other.starts_with("/services/T/B/") => return reply(403, "invalid_token"),
        other if other.starts_with("/services/T/") => return reply(404, "no_service"),
        _ => return reply(404, "no_team"),
    }
    match json_of(hook) {
        Some(body) if is_text(&body["text"], 40_000) => reply(200, "ok"),
        // It cuts it, wherever that is: none of ours is to be so long.
        Some(body) if is_text(&body["text"], usize::MAX) => reply(400, "msg_too_long"),
        Some(_) => reply(400, "no_text"),
        None => reply(400, "invalid_payload"),
    }
}

pub(super) fn teams(hook: &Hook) -> Reply {
    let refuse = |status: u16, code: &str| reply(status, json!({"error": {"code": code}}));
    if path(hook) != "/workflows/1/triggers/manual/paths/invoke" {
        return refuse(404, "WorkflowNotFound");
    }
    if query(hook, "sig") != Some("s") {
        return refuse(401, "DirectApiInvalidAuthorizationScheme");
    }
    if hook.body.len() > TEAMS_BYTES {
        return refuse(413, "RequestEntityTooLarge");
    }
    let body = json_of(hook).unwrap_or_default();
    let card = &body["attachments"][0];
    let is_block =
        |block: &Value| block["type"] == "TextBlock" && is_text(&block["text"], usize::MAX);
    let is_card = card["contentType"] == "application/vnd.microsoft.card.adaptive"
        && card["content"]["type"] == "AdaptiveCard"
        && card["content"]["body"]
            .as_array()
            .is_some_and(|blocks| !blocks.is_empty() && blocks.iter().all(is_block));
    if body["type"] == "message" && is_card {
        return reply(202, "");
    }
    refuse(400, "TriggerInputSchemaMismatch")
}
