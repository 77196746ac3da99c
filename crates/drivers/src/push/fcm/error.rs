//! Errors of FCM: `error.details[].errorCode` names them, `error.status` where it does not.

use std::time::Duration;

use dovecast_mail_push::PushVerdict;
use serde_json::Value;

use crate::push::answer::{of_status, reason, words};
use crate::push::post::Said;

/// Wait after a quota was exceeded, where the answer does not name one: FCM's minimum.
const QUOTA_WAIT: Duration = Duration::from_mins(1);

/// What an answer means, and its reason.
pub(super) fn judged(said: &Said) -> (PushVerdict, String) {
    if said.status.is_success() {
        return (PushVerdict::Accepted, said.status.to_string());
    }
    let error: Option<Value> = serde_json::from_slice(&said.body).ok();
    let error = error.as_ref().map(|error| &error["error"]);
    let code = error.and_then(code);
    let told = error.and_then(|error| error["message"].as_str());
    let verdict = match code {
        Some("UNREGISTERED") => PushVerdict::Gone,
        // The words are the only sign of it.
        Some("INVALID_ARGUMENT") if told.is_some_and(|told| told.contains("too big")) => {
            PushVerdict::TooLarge
        }
        // Of one device, or of all: which is told by a time to wait alone.
        Some("QUOTA_EXCEEDED" | "RESOURCE_EXHAUSTED") => match said.retry_after {
            Some(wait) => PushVerdict::Later(Some(wait)),
            None => PushVerdict::LaterAlone(QUOTA_WAIT),
        },
        Some("UNAVAILABLE" | "INTERNAL") => PushVerdict::Later(said.retry_after),
        // Who we are can be put right within the time of a push.
        Some("UNAUTHENTICATED" | "PERMISSION_DENIED" | "THIRD_PARTY_AUTH_ERROR") => {
            PushVerdict::Later(said.retry_after)
        }
        _ => of_status(said.status, said.retry_after),
    };
    let told = told.and_then(|told| words(told.as_bytes()));
    let reason = match (code, told) {
        (Some(code), Some(told)) => format!("{code}: {told}"),
        (Some(code), None) => code.to_owned(),
        // A body that is JSON of another form says nothing to anyone.
        (None, _) if error.is_some() => said.status.to_string(),
        (None, _) => reason(said),
    };
    (verdict, reason)
}

fn code(error: &Value) -> Option<&str> {
    let details = error["details"].as_array();
    let mut codes = details.into_iter().flatten();
    let code = codes.find_map(|detail| detail["errorCode"].as_str());
    let code = code.or(error["status"].as_str())?;
    let is_code = |byte: u8| byte.is_ascii_uppercase() || byte == b'_';
    (code.len() <= 64 && code.bytes().all(is_code)).then_some(code)
}
