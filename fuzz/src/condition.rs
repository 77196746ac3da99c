//! Conditions: any text is compiled, and what compiles is run on notifications that are as long and
//! as wide as they may be.

use std::sync::LazyLock;

use bytes::Bytes;
use dovecast_notification::condition::{Condition, ConditionError, Facts};
use dovecast_notification::{Notification, NotificationId};

use crate::expect::readable_error;
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "condition",
    run,
};

/// What running one may take at a time, whatever it is run on.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Allocations are what the interpreter does all the time; so many of them tell of work that is not
/// bounded. Time would be told differently each time.
const MAX_ALLOCATIONS: u64 = 4_000_000;

/// One each: of a mail, with long lists, with long text, deep, odd, no JSON for values.
static NOTIFICATIONS: LazyLock<Vec<Notification>> = LazyLock::new(|| {
    let numbers = vec!["1"; 30_000].join(",");
    let texts = vec![r#""ab""#; 20_000].join(",");
    let long = "ab".repeat(50_000);
    let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
    [
        r#"{"user":"alice","mailbox":"INBOX","event":"MessageNew","uid":7,"flags":["\\Seen","$a"],"size":1.5,"a":null,"b":{"c":[{"d":1}]}}"#.to_owned(),
        format!(r#"{{"a":[{numbers}],"b":[{texts}],"flags":[{texts}]}}"#),
        format!(r#"{{"a":"{long}","b":[{numbers}],"flags":["{long}"]}}"#),
        format!(r#"{{"a":{deep},"b":{{"b":{{"b":{deep}}}}},"flags":{{"":-1,"a":1e308}}}}"#),
        r#"[18446744073709551615,-9223372036854775808,"\u0000",1e-320]"#.to_owned(),
        r#"{"a":1e999}"#.to_owned(),
    ]
    .into_iter()
    .map(notification)
    .collect()
});

thread_local! {
    /// Read once: it takes longer than a condition.
    static FACTS: Vec<Facts<'static>> = {
        let facts: Vec<Facts<'static>> = NOTIFICATIONS.iter().map(Facts::new).collect();
        let always = Condition::new("true").expect("a condition");
        for facts in &facts {
            always.holds(facts);
        }
        facts
    };
}

fn notification(message: String) -> Notification {
    Notification {
        id: NotificationId(uuid::Uuid::nil()),
        application: "dovecot".into(),
        event_type: "MessageNew".into(),
        level: None,
        account: "alice".into(),
        timestamp: Bytes::from_static(br#""2026-11-20T21:35:28.120Z""#),
        message: message.into(),
        key: None,
        headers: Vec::new(),
    }
}

fn run(bytes: &[u8]) -> Outcome {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Outcome::Refused;
    };
    match Condition::new(text) {
        Ok(condition) => {
            assert_eq!(condition.text(), text);
            FACTS.with(|all| all.iter().for_each(|facts| is_bounded(&condition, facts)));
            // What was saved once is read again at every start.
            assert!(Condition::new(text).is_ok());
            Outcome::Read
        }
        Err(error) => {
            readable_error(&error);
            is_a_place(text, &error);
            assert_eq!(Condition::new(text).err(), Some(error));
            Outcome::Refused
        }
    }
}

fn is_bounded(condition: &Condition, facts: &Facts<'_>) {
    let used = allocation_counter::measure(|| {
        condition.holds(facts);
    });
    let (allocations, bytes) = (used.count_total, used.bytes_max);
    assert!(
        allocations <= MAX_ALLOCATIONS && bytes <= MAX_BYTES,
        "{allocations} allocations, {bytes} bytes at a time"
    );
}

/// Within the text, or behind its end.
fn is_a_place(text: &str, error: &ConditionError) {
    let line = text.split('\n').nth(error.line.wrapping_sub(1));
    let line = line.unwrap_or_else(|| panic!("there is no line {}: {error}", error.line));
    let chars = line.chars().count();
    assert!(
        (1..=chars + 1).contains(&error.column),
        "the line has {chars} characters: {error}"
    );
}
