//! Tests of what was heard as events: they are those of the plugin.

use super::*;

fn heard(what: What, unseen: Option<u32>) -> Heard {
    Heard {
        mailbox: "INBOX".into(),
        uidvalidity: 5,
        what,
        unseen,
    }
}

#[test]
fn what_was_heard_is_an_event_as_the_plugin_writes_it() {
    let mail = NewMail {
        uid: 9,
        from: Some("=?utf-8?q?B=C3=B6b?= <bob@example.org>".into()),
        subject: Some("=?utf-8?b?w7w=?=".into()),
        snippet: Some("Hello.".into()),
        ..NewMail::default()
    };
    let seen = NewMail {
        uid: 9,
        flags: Flags::SEEN,
        ..NewMail::default()
    };
    let flags = Flags::SEEN | Flags::FLAGGED;
    for (what, unseen, json) in [
        (
            What::Came(Box::new(mail)),
            Some(2),
            r#"{"user":"alice","mailbox":"INBOX","event":"MessageNew","uidvalidity":5,"uid":9,"from":"=?utf-8?q?B=C3=B6b?= <bob@example.org>","snippet":"Hello.","subject":"=?utf-8?b?w7w=?=","unseen":2,"fromAddress":"bob@example.org","fromDisplayName":"Böb","subjectDecoded":"ü"}"#,
        ),
        (
            What::Came(Box::new(seen)),
            None,
            r#"{"user":"alice","mailbox":"INBOX","event":"MessageAppend","uidvalidity":5,"uid":9}"#,
        ),
        (
            What::Went { uid: 9 },
            None,
            r#"{"user":"alice","mailbox":"INBOX","event":"MessageExpunge","uidvalidity":5,"uid":9}"#,
        ),
        (
            What::Went { uid: 9 },
            Some(0),
            r#"{"user":"alice","mailbox":"INBOX","event":"MessageExpunge","uidvalidity":5,"uid":9,"unseen":0}"#,
        ),
        (
            What::FlagsSet { uid: 9, flags },
            Some(3),
            r#"{"user":"alice","mailbox":"INBOX","event":"FlagsSet","uidvalidity":5,"uid":9,"flags":["\\Flagged","\\Seen"],"unseen":3}"#,
        ),
        (
            What::FlagsClear {
                uid: 9,
                flags: Flags::SEEN,
            },
            None,
            r#"{"user":"alice","mailbox":"INBOX","event":"FlagsClear","uidvalidity":5,"uid":9,"flags":["\\Seen"]}"#,
        ),
    ] {
        let event = heard(what, unseen).event("alice");
        assert_eq!(String::from_utf8_lossy(&event), json);
        dovecast_event::parse(&event).expect("an event");
    }
}

#[test]
fn the_first_field_of_a_name_is_taken_as_it_is_folded() {
    let header = b"subject: one\r\n\ttwo\r\nFROM : a\xff\r\nFrom: b\r\n\r\n";
    assert_eq!(field(header, "Subject").as_deref(), Some("one\n\ttwo"));
    assert_eq!(field(header, "From").as_deref(), Some("a\u{fffd}"));
    assert_eq!(field(header, "To"), None);
    assert_eq!(field(b"", "To"), None);
}
