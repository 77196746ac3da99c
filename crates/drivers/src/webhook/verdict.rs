//! What a service that has a preset means by an answer: some answer 200 with an error in it.
//!
//! Only what is known of an error is told, a word or a number: services repeat what they were sent.

use serde_json::Value;

/// How a success is told from an error.
#[derive(Clone, Copy, Debug)]
pub(super) enum Success {
    /// By the status.
    Status,
    /// By the body of an answer whose status is a success.
    Body(fn(&[u8]) -> Verdict),
}

/// What the body of a 2xx says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The service has it.
    Success,
    /// The service may have it later.
    Later(String),
    /// The service will not have it.
    Never(String),
}

/// Longest word that is told.
const WORD_CHARACTERS: usize = 40;

/// A word of a service: letters, digits and underscores, as codes of errors are.
fn word(text: &str) -> Option<&str> {
    let is_one = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let is_short = !text.is_empty() && text.len() <= WORD_CHARACTERS;
    (is_short && text.chars().all(is_one)).then_some(text)
}

fn json(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

fn is_no_json() -> Verdict {
    Verdict::Later("the service answers 2xx without its JSON".to_owned())
}

/// The word `ok`, as Slack and Mattermost say it; or the JSON of others that take the same.
pub(super) fn says_ok(body: &[u8]) -> Verdict {
    if let Some(answer @ Value::Object(_)) = json(body) {
        return is_like_ok(&answer);
    }
    match std::str::from_utf8(body).map(str::trim) {
        Ok("ok") => Verdict::Success,
        Ok(text) => match word(text) {
            Some(word) => Verdict::Never(format!("the service answers 2xx, and `{word}`")),
            // No word of the service: perhaps a page of a proxy before it.
            None => Verdict::Later("the service answers 2xx, and not `ok`".to_owned()),
        },
        Err(_) => Verdict::Later("the service answers 2xx, and no text".to_owned()),
    }
}

/// `success` as Rocket.Chat has it, `ok` as Slack's other calls have it, or `result` as Zulip has
/// it, or an `error`. What says none of these may be of a proxy.
fn is_like_ok(answer: &Value) -> Verdict {
    let is_taken =
        answer["success"] == true || answer["ok"] == true || answer["result"] == "success";
    let has_failed =
        answer["success"] == false || answer["ok"] == false || answer["result"] == "error";
    if is_taken {
        return Verdict::Success;
    }
    if !has_failed && answer["error"].is_null() {
        return Verdict::Later("the service answers 2xx, and not `ok`".to_owned());
    }
    let code = answer["error"].as_str().or(answer["code"].as_str());
    let code = code.and_then(word).unwrap_or("no reason");
    Verdict::Never(format!("the service answers 2xx, and the error `{code}`"))
}

/// A message with a name, or an error with a code of HTTP.
pub(super) fn google_chat(body: &[u8]) -> Verdict {
    let Some(answer) = json(body) else {
        return is_no_json();
    };
    match (answer.get("name"), &answer["error"]) {
        (Some(_), Value::Null) => Verdict::Success,
        (_, error) => {
            let status = error["status"].as_str().and_then(word).unwrap_or("unknown");
            let told = format!("Google Chat answers 2xx, and the error `{status}`");
            match error["code"].as_u64() {
                Some(400..=407 | 410..=424) => Verdict::Never(told),
                _ => Verdict::Later(told),
            }
        }
    }
}

/// The message that was made has an id, as ntfy and Gotify answer.
pub(super) fn has_id(body: &[u8]) -> Verdict {
    match json(body) {
        Some(answer) if answer.get("id").is_some() => Verdict::Success,
        Some(answer) => {
            let code = answer.get("errorCode").or_else(|| answer.get("code"));
            let code = code.and_then(Value::as_u64).unwrap_or_default();
            Verdict::Never(format!("the service answers 2xx, and the error {code}"))
        }
        None => is_no_json(),
    }
}

/// `status` is `success`.
pub(super) fn pagerduty(body: &[u8]) -> Verdict {
    match json(body) {
        Some(answer) if answer["status"] == "success" => Verdict::Success,
        Some(answer) => {
            let status = answer["status"].as_str().and_then(word);
            let status = status.unwrap_or("no status");
            Verdict::Never(format!("PagerDuty answers 2xx, and `{status}`"))
        }
        None => is_no_json(),
    }
}

/// There is no `error` in it.
pub(super) fn has_no_error(body: &[u8]) -> Verdict {
    match json(body) {
        Some(answer) if answer.get("error").is_none_or(Value::is_null) => Verdict::Success,
        Some(_) => Verdict::Never("the service answers 2xx, and an error".to_owned()),
        None => is_no_json(),
    }
}

/// `code` is 0; with 8 and 9 it can do nothing now.
pub(super) fn splunk(body: &[u8]) -> Verdict {
    let code = json(body).and_then(|answer| answer["code"].as_u64());
    let told = |code: u64| format!("Splunk answers 2xx, and the code {code}");
    match code {
        Some(0) => Verdict::Success,
        Some(code @ (8 | 9)) => Verdict::Later(told(code)),
        Some(code) => Verdict::Never(told(code)),
        None => is_no_json(),
    }
}

/// What Teams says of itself behind a workflow that has taken it.
pub(super) fn teams(body: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(body);
    if text.contains("returned HTTP error 429") {
        return Verdict::Later("Microsoft Teams answers 2xx, and that it is too much".to_owned());
    }
    if text.contains("delivery failed") {
        return Verdict::Never("Microsoft Teams answers 2xx, and that it has failed".to_owned());
    }
    Verdict::Success
}

/// The message has no code of an error, and has not failed. What has taken it and answers in XML is
/// not asked again: a message costs money.
pub(super) fn twilio(body: &[u8]) -> Verdict {
    let Some(answer) = json(body) else {
        return in_xml_of_twilio(&String::from_utf8_lossy(body));
    };
    let has_failed = matches!(answer["status"].as_str(), Some("failed" | "undelivered"));
    match answer.get("error_code").and_then(Value::as_u64) {
        None if !has_failed => Verdict::Success,
        code => {
            let code = code.unwrap_or_default();
            Verdict::Never(format!("Twilio answers 2xx, and the error {code}"))
        }
    }
}

/// What Twilio answers where the URL does not ask for JSON.
fn in_xml_of_twilio(text: &str) -> Verdict {
    if !text.contains("<TwilioResponse>") {
        return is_no_json();
    }
    let has_failed = ["RestException", "Status>failed<", "Status>undelivered<"];
    if has_failed.iter().any(|sign| text.contains(sign)) {
        return Verdict::Never("Twilio answers 2xx, and an error".to_owned());
    }
    Verdict::Success
}

#[cfg(test)]
mod tests {
    use super::*;

    type Judge = fn(&[u8]) -> Verdict;

    #[test]
    fn an_error_in_a_success_is_an_error() {
        let later = |text: &str| Verdict::Later(text.to_owned());
        let never = |text: &str| Verdict::Never(text.to_owned());
        for (judge, body, expected) in [
            (says_ok as Judge, "ok", Verdict::Success),
            (says_ok, "ok\n", Verdict::Success),
            (
                says_ok,
                "no_text",
                never("the service answers 2xx, and `no_text`"),
            ),
            (
                says_ok,
                "<h1>Dear s3cret</h1>",
                later("the service answers 2xx, and not `ok`"),
            ),
            (google_chat, r#"{"name":"spaces/a"}"#, Verdict::Success),
            (
                google_chat,
                r#"{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"s3cret"}}"#,
                later("Google Chat answers 2xx, and the error `RESOURCE_EXHAUSTED`"),
            ),
            (
                google_chat,
                r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#,
                never("Google Chat answers 2xx, and the error `PERMISSION_DENIED`"),
            ),
            (has_id, r#"{"id":1}"#, Verdict::Success),
            (
                has_id,
                r#"{"code":40001}"#,
                never("the service answers 2xx, and the error 40001"),
            ),
            (has_id, "<html>", is_no_json()),
            (pagerduty, r#"{"status":"success"}"#, Verdict::Success),
            (
                pagerduty,
                r#"{"status":"invalid event"}"#,
                never("PagerDuty answers 2xx, and `no status`"),
            ),
            (has_no_error, r#"{"result":{}}"#, Verdict::Success),
            (
                has_no_error,
                r#"{"error":{"message":"x"}}"#,
                never("the service answers 2xx, and an error"),
            ),
            (splunk, r#"{"text":"Success","code":0}"#, Verdict::Success),
            (
                splunk,
                r#"{"code":9}"#,
                later("Splunk answers 2xx, and the code 9"),
            ),
            (
                splunk,
                r#"{"code":6}"#,
                never("Splunk answers 2xx, and the code 6"),
            ),
            (teams, "", Verdict::Success),
            (
                teams,
                "Microsoft Teams endpoint returned HTTP error 429 with ContextId x",
                later("Microsoft Teams answers 2xx, and that it is too much"),
            ),
            (
                twilio,
                r#"{"status":"queued","error_code":null}"#,
                Verdict::Success,
            ),
            (
                twilio,
                r#"{"status":"failed","error_code":21610}"#,
                never("Twilio answers 2xx, and the error 21610"),
            ),
        ] {
            assert_eq!(judge(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn what_others_say_in_place_of_a_service_is_understood() {
        let never = |text: &str| Verdict::Never(text.to_owned());
        for (judge, body, expected) in [
            (says_ok as Judge, r#"{"success":true}"#, Verdict::Success),
            (says_ok, r#"{"ok":true}"#, Verdict::Success),
            (
                says_ok,
                r#"{"result":"success","msg":""}"#,
                Verdict::Success,
            ),
            (
                says_ok,
                r#"{"success":false,"error":"invalid-channel","message":"s3cret"}"#,
                never("the service answers 2xx, and the error `no reason`"),
            ),
            (
                says_ok,
                r#"{"ok":false,"error":"no_text"}"#,
                never("the service answers 2xx, and the error `no_text`"),
            ),
            (
                says_ok,
                r#"{"message":"maintenance"}"#,
                Verdict::Later("the service answers 2xx, and not `ok`".to_owned()),
            ),
            (
                twilio,
                "<?xml version='1.0'?><TwilioResponse><Message><Sid>SM1</Sid><Status>queued</Status></Message></TwilioResponse>",
                Verdict::Success,
            ),
            (
                twilio,
                "<TwilioResponse><RestException><Code>20404</Code></RestException></TwilioResponse>",
                never("Twilio answers 2xx, and an error"),
            ),
            (twilio, "<html>", is_no_json()),
        ] {
            assert_eq!(judge(body.as_bytes()), expected, "{body}");
        }
    }
}
