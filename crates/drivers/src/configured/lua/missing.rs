//! What the plugin leaves out that scripts may ask for: said once a minute, with the options that
//! the plugin needs.

use std::collections::BTreeMap;

use dovecast_log::LineLimit;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::lua::Transaction;

/// The fields of a user that scripts have in Dovecot.
const USERDB: [&str; 3] = ["uid", "gid", "home"];

/// Looks at what comes.
#[derive(Debug, Default)]
pub(super) struct Missing {
    lines: LineLimit,
}

/// What of an event shows how the plugin is configured.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "event")]
    kind: String,
    timestamp: Option<IgnoredAny>,
    #[serde(default)]
    userdb: BTreeMap<String, Value>,
    flags: Option<Vec<IgnoredAny>>,
    keywords: Option<Vec<IgnoredAny>>,
}

impl Missing {
    /// Names what the first event of a transaction shows to be missing.
    pub(super) fn look(&self, driver: &str, transaction: &Transaction) {
        let Some(first) = transaction.events.first() else {
            return;
        };
        let missing = options(first);
        if !missing.is_empty()
            && let Some(suppressed) = self.lines.take_counted()
        {
            tracing::warn!(
                driver,
                missing = missing.join(" "),
                suppressed,
                "events lack what scripts in Dovecot have: set `keyword_prefix= userdb=uid,gid,home detail=full` for the plugin in Dovecot, and `metadata=` with the entries that the script asks for"
            );
        }
    }
}

/// The options of the plugin that an event shows to be missing.
fn options(event: &[u8]) -> Vec<&'static str> {
    let Ok(event) = serde_json::from_slice::<Event>(event) else {
        // Whoever reads it says what is wrong with it.
        return Vec::new();
    };
    let mut missing = Vec::new();
    if event.timestamp.is_none() {
        missing.push("detail=full");
    }
    let has_user = |name: &str| event.userdb.contains_key(name);
    if !event.kind.starts_with("Mailbox") && !USERDB.iter().all(|name| has_user(name)) {
        missing.push("userdb=uid,gid,home");
    }
    // Only keywords have changed, and none that is shown.
    let is_empty = |list: &Option<Vec<IgnoredAny>>| list.as_ref().is_none_or(Vec::is_empty);
    if event.kind.starts_with("Flags")
        && event.keywords.as_ref().is_some_and(Vec::is_empty)
        && is_empty(&event.flags)
    {
        missing.push("keyword_prefix=");
    }
    missing
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::configured::tests::Lines;

    #[test]
    fn what_events_lack_is_told_once_a_minute() {
        let transaction = Transaction {
            id: "t".to_owned(),
            user: "ann".to_owned(),
            events: vec![Bytes::from_static(br#"{"event":"MailboxCreate"}"#)],
            is_first: true,
            is_last: true,
            success: true,
        };
        let (lines, _guard) = Lines::collect();
        let missing = Missing::default();
        for _ in 0..3 {
            missing.look("script", &transaction);
        }
        let log = lines.text();
        assert_eq!(log.matches("events lack what scripts").count(), 1, "{log}");
        assert!(
            log.contains("driver=\"script\"") && log.contains("missing=\"detail=full\""),
            "{log}"
        );
    }

    #[test]
    fn what_an_event_lacks_is_named() {
        let full =
            r#""timestamp":"2026-11-20T00:00:00.000Z","userdb":{"uid":"1","gid":"1","home":"/h"}"#;
        for (event, expected) in [
            (r#"{"event":"MailboxCreate"}"#, "detail=full"),
            (
                r#"{"event":"MessageNew","userdb":{"uid":"1"}}"#,
                "detail=full userdb=uid,gid,home",
            ),
            (&format!(r#"{{"event":"MessageNew",{full}}}"#), ""),
            (
                &format!(r#"{{"event":"FlagsSet","flags":[],"keywords":[],{full}}}"#),
                "keyword_prefix=",
            ),
            (
                &format!(r#"{{"event":"FlagsSet","flags":["\\Seen"],"keywords":[],{full}}}"#),
                "",
            ),
            ("nothing", ""),
        ] {
            assert_eq!(options(event.as_bytes()).join(" "), expected, "{event}");
        }
    }
}
