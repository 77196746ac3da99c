//! What services answer, as verdicts on a push and its device.
//!
//! A device goes by a definite answer of its service only; each service says in its own file which
//! answers those are. What a service says is cut, and shown as far as it is plain text.

use std::time::Duration;

use dovecast_mail_push::{PushAnswer, PushVerdict};
use hyper::StatusCode;

use super::post::{NoAnswer, Said};

/// Most characters of what a service says that are kept.
const REASON_CHARS: usize = 200;

/// An answer with a verdict.
pub(super) fn answer(
    verdict: PushVerdict,
    status: StatusCode,
    reason: impl Into<String>,
) -> PushAnswer {
    PushAnswer {
        verdict,
        status: Some(status.as_u16()),
        reason: reason.into(),
        may_have_come: false,
    }
}

/// What was not sent.
pub(super) fn unsent(verdict: PushVerdict, reason: impl Into<String>) -> PushAnswer {
    PushAnswer::unsent(verdict, reason)
}

/// No answer: tried again later.
pub(super) fn none(error: &NoAnswer) -> PushAnswer {
    PushAnswer {
        may_have_come: error.may_have_come(),
        ..PushAnswer::none(error.to_string())
    }
}

/// Verdict by a status alone, where nothing else is known: nothing of it is "gone".
pub(super) fn of_status(status: StatusCode, retry_after: Option<Duration>) -> PushVerdict {
    match status.as_u16() {
        200..=299 => PushVerdict::Accepted,
        413 => PushVerdict::TooLarge,
        408 | 409 | 425 | 429 | 500..=599 => PushVerdict::Later(retry_after),
        _ => PushVerdict::Refused,
    }
}

/// The reason of an answer: what it says in words, or its status.
pub(super) fn reason(said: &Said) -> String {
    match words(&said.body) {
        Some(words) if !said.status.is_success() => words,
        _ => said.status.to_string(),
    }
}

/// The first line of a text, if it is plain and not empty; of a page of HTML nothing.
pub(super) fn words(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let line = text.trim().lines().next()?.trim();
    let is_plain =
        !line.is_empty() && !line.starts_with('<') && !line.chars().any(char::is_control);
    is_plain.then(|| line.chars().take(REASON_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_status_alone_says_that_a_device_is_gone() {
        for status in 200..600 {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_ne!(of_status(status, None), PushVerdict::Gone, "{status}");
        }
    }

    #[test]
    fn what_a_service_says_is_shown_in_part() {
        let long = "a".repeat(500);
        for (body, expected) in [
            ("no such subscription\nmore", Some("no such subscription")),
            (" \n", None),
            ("<html>", None),
            ("a\u{1b}b", None),
            (&*long, Some(&long[..REASON_CHARS])),
        ] {
            assert_eq!(words(body.as_bytes()).as_deref(), expected, "{body}");
        }
        assert_eq!(words(b"\xff"), None);
    }
}
