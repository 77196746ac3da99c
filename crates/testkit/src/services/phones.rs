//! Services that ring phones.

use serde_json::json;

use super::{BASIC, TOKEN, fields, is_text, json_of, path, reply};
use crate::endpoint::{Hook, Reply};

/// Most bytes of a message of ntfy that has no attachments.
const NTFY_MESSAGE_BYTES: usize = 4_096;
/// Most bytes of the JSON around it.
const NTFY_JSON_BYTES: usize = 2 * NTFY_MESSAGE_BYTES;

pub(super) fn gotify(hook: &Hook) -> Reply {
    let refuse =
        |status: u16, error: &str| reply(status, json!({"error": error, "errorCode": status}));
    if path(hook) != "/message" {
        return refuse(404, "Not Found");
    }
    if hook.header("x-gotify-key") != Some(TOKEN) {
        return refuse(401, "Unauthorized");
    }
    match json_of(hook) {
        Some(body) if is_text(&body["message"], usize::MAX) && body["priority"].is_i64() => reply(
            200,
            json!({"id": 25, "appid": 5, "message": body["message"]}),
        ),
        _ => refuse(400, "Bad Request"),
    }
}

pub(super) fn ntfy(hook: &Hook) -> Reply {
    let refuse = |code: u32, error: &str| {
        let status = u16::try_from(code / 100).unwrap_or(500);
        reply(
            status,
            json!({"code": code, "http": status, "error": error}),
        )
    };
    // With a topic in its path a request is a message itself: whoever listens sees the JSON.
    if path(hook) != "/" {
        return refuse(40_401, "page not found");
    }
    if hook.body.len() > NTFY_JSON_BYTES {
        return refuse(41_303, "JSON body too large");
    }
    let Some(body) = json_of(hook) else {
        return refuse(40_024, "invalid request: request body must be valid JSON");
    };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let topic = body["topic"].as_str().unwrap_or_default();
    if !is_text(&body["topic"], 64) || !topic.bytes().all(is_letter) {
        return refuse(40_009, "invalid request: topic invalid");
    }
    if topic == "locked" && hook.header("authorization") != Some(BASIC) {
        return refuse(40_301, "forbidden");
    }
    if !matches!(body["priority"].as_u64(), Some(1..=5)) {
        return refuse(40_007, "invalid priority parameter");
    }
    let message = body["message"].as_str().unwrap_or_default();
    if message.len() > NTFY_MESSAGE_BYTES {
        // It would become an attachment, which a server has to be told to take.
        return refuse(40_014, "invalid request: attachments not allowed");
    }
    reply(
        200,
        json!({"id": "hwQ2YpKdmg", "event": "message", "message": message}),
    )
}

pub(super) fn sms(hook: &Hook) -> Reply {
    if path(hook) != "/send" {
        return reply(404, json!({"queued": false}));
    }
    let body = json_of(hook).unwrap_or_default();
    // Three messages of 153 characters.
    if is_text(&body["to"], 20) && is_text(&body["text"], 459) {
        return reply(202, json!({"queued": true}));
    }
    reply(422, json!({"queued": false}))
}

/// Two of its numbers for tests are refused as its documentation says.
pub(super) fn twilio(hook: &Hook) -> Reply {
    let refuse = |status: u16, code: u32, message: &str| {
        reply(
            status,
            json!({"code": code, "message": message, "status": status}),
        )
    };
    if hook.header("authorization") != Some(BASIC) {
        return refuse(401, 20_003, "Authenticate");
    }
    if path(hook) != "/2010-04-01/Accounts/AC1/Messages.json" {
        return refuse(404, 20_404, "The requested resource was not found");
    }
    let fields = fields(hook).unwrap_or_default();
    let field = |name: &str| {
        let found = fields.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    match field("To") {
        "" => return refuse(400, 21_604, "A 'To' phone number is required."),
        "+15005550001" => return refuse(400, 21_211, "Invalid 'To' Phone Number"),
        "+15005550004" => return refuse(400, 21_610, "Attempt to send to unsubscribed recipient"),
        _ => {}
    }
    if !field("From").starts_with('+') {
        return refuse(400, 21_603, "A 'From' phone number is required.");
    }
    match field("Body").chars().count() {
        0 => refuse(400, 21_602, "Message body is required."),
        1..=1_600 => reply(
            201,
            json!({"sid": "SM1", "status": "queued", "error_code": null}),
        ),
        _ => refuse(400, 21_617, "The concatenated message body is too long"),
    }
}
