//! The JSON of every kind, byte for byte: consumers depend on the order of the fields and on
//! nothing else being there.

use dovecast_event::{
    Context, Details, Event, Field, FlagChange, Flags, FullMessage, MailDate, MailboxStatus,
    MessageId, NewMessage, OldFlags, UnixMillis, render,
};

const ID: MessageId = MessageId {
    uidvalidity: 1_531_299_564,
    uid: 13,
};

fn check(details: Details<'_>, context: Option<&Context<'_>>, expected_tail: &str) {
    let event = Event {
        user: b"alice@example.com",
        userdb: &[],
        mailbox: b"INBOX",
        details,
        context,
    };
    let mut out = Vec::new();
    render(&event, &mut out);
    let kind = details.kind();
    let expected = format!(
        r#"{{"user":"alice@example.com","mailbox":"INBOX","event":"{kind}"{expected_tail}}}"#
    );
    assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
}

fn message() -> NewMessage<'static> {
    NewMessage {
        id: ID,
        date: Some(MailDate {
            unix_seconds: 1_795_158_296,
            tz_minutes: 330,
        }),
        from: Some(b"Bob <bob@sender.example>"),
        snippet: Some(b""),
        subject: Some(b"=?utf-8?q?=C3=84?="),
        to: None,
        full: None,
    }
}

fn change<'a>(flags: Flags, keywords: Option<&'a [&'a [u8]]>) -> FlagChange<'a> {
    FlagChange {
        id: ID,
        flags,
        keywords,
        old: None,
    }
}

#[test]
fn a_new_message_has_a_date_and_an_appended_one_has_not() {
    let tail = r#""from":"Bob <bob@sender.example>","snippet":"","subject":"=?utf-8?q?=C3=84?=""#;
    check(
        Details::MessageNew(message()),
        None,
        &format!(r#","uidvalidity":1531299564,"uid":13,"date":"2026-11-20T12:34:56+05:30",{tail}"#),
    );
    check(
        Details::MessageAppend(message()),
        None,
        &format!(r#","uidvalidity":1531299564,"uid":13,{tail}"#),
    );
    let undated = NewMessage {
        date: None,
        ..message()
    };
    check(
        Details::MessageNew(undated),
        None,
        &format!(r#","uidvalidity":1531299564,"uid":13,{tail}"#),
    );
    let beyond = Some(MailDate {
        unix_seconds: i64::MAX,
        tz_minutes: 0,
    });
    check(
        Details::MessageNew(NewMessage {
            date: beyond,
            ..message()
        }),
        None,
        &format!(r#","uidvalidity":1531299564,"uid":13,{tail}"#),
    );
}

#[test]
fn flags_are_absent_when_none_changed_and_keywords_when_no_keyword_did() {
    check(
        Details::FlagsSet(change(Flags::SEEN | Flags::ANSWERED, None)),
        None,
        r#","uidvalidity":1531299564,"uid":13,"flags":["\\Answered","\\Seen"]"#,
    );
    check(
        Details::FlagsClear(change(Flags::default(), Some(&[b"$label2", b"$label1"]))),
        None,
        r#","uidvalidity":1531299564,"uid":13,"keywords":["$label2","$label1"]"#,
    );
    check(
        Details::FlagsClear(change(Flags::DRAFT, Some(&[]))),
        None,
        r#","uidvalidity":1531299564,"uid":13,"flags":["\\Draft"],"keywords":[]"#,
    );
    assert!(change(Flags::default(), Some(&[])).is_empty());
    assert!(change(Flags::default(), None).is_empty());
    assert!(!change(Flags::SEEN, None).is_empty());
}

#[test]
fn the_other_kinds_have_what_identifies_them() {
    let ids = r#","uidvalidity":1531299564,"uid":13"#;
    check(Details::MessageRead(ID), None, ids);
    check(Details::MessageTrash(ID), None, ids);
    check(Details::MessageExpunge(ID), None, ids);
    check(
        Details::MailboxCreate { uidvalidity: 7 },
        None,
        r#","uidvalidity":7"#,
    );
    check(
        Details::MailboxRename {
            old_mailbox: "alt/日本".as_bytes(),
        },
        None,
        r#","oldMailbox":"alt/日本""#,
    );
    check(Details::MailboxDelete, None, "");
    check(Details::MailboxSubscribe, None, "");
    check(Details::MailboxUnsubscribe, None, "");
}

#[test]
fn userdb_fields_stand_after_the_user_in_the_order_asked_for() {
    let field = |name: &str, value: &str| Field {
        name: name.into(),
        value: value.into(),
    };
    let event = Event {
        user: b"520000004149-0001",
        userdb: &[field("k2", "v\"2"), field("k1", "")],
        mailbox: b"INBOX",
        details: Details::MailboxDelete,
        context: None,
    };
    let mut out = Vec::new();
    render(&event, &mut out);
    assert_eq!(
        String::from_utf8(out).expect("UTF-8"),
        r#"{"user":"520000004149-0001","userdb":{"k2":"v\"2","k1":""},"mailbox":"INBOX","event":"MailboxDelete"}"#
    );
}

#[test]
fn detail_full_appends_and_changes_nothing_before() {
    let metadata = [Field {
        name: b"/private/vendor/vendor.dovecot/http-notify".to_vec(),
        value: b"user=11@3".to_vec(),
    }];
    let context = Context {
        timestamp: UnixMillis(1_795_210_528_120),
        service: b"imap",
        session: Some(b"abc"),
        client_ip: Some(b"127.0.0.1"),
        mailbox_id: Some(b"0f1e"),
        status: Some(MailboxStatus {
            modseq: 5,
            messages: 4,
            unseen: 3,
            recent: 2,
            uidnext: 14,
        }),
        metadata: &metadata,
    };
    let common = r#""timestamp":"2026-11-20T21:35:28.120Z","service":"imap","session":"abc","clientIP":"127.0.0.1","mailboxID":"0f1e","modseq":5,"messages":4,"unseen":3,"recent":2,"uidnext":14"#;
    let metadata = r#""metadata":{"/private/vendor/vendor.dovecot/http-notify":"user=11@3"}"#;

    let full = FullMessage {
        message_id: Some(b"<1@x>"),
        size: Some(512),
        from_address: Some(b"bob@sender.example"),
        from_display_name: Some(b"Bob"),
        to_address: None,
        to_display_name: None,
        subject_decoded: Some("Ä".as_bytes()),
        flags: Flags::FLAGGED,
        keywords: &[b"$a"],
    };
    check(
        Details::MessageAppend(NewMessage {
            full: Some(full),
            date: Some(MailDate {
                unix_seconds: 0,
                tz_minutes: -480,
            }),
            ..message()
        }),
        Some(&context),
        &format!(
            r#","uidvalidity":1531299564,"uid":13,"from":"Bob <bob@sender.example>","snippet":"","subject":"=?utf-8?q?=C3=84?=",{common},"messageID":"<1@x>","messageSize":512,"fromAddress":"bob@sender.example","fromDisplayName":"Bob","subjectDecoded":"Ä","tz":-480,"flags":["\\Flagged"],"keywords":["$a"],{metadata},"date":"1969-12-31T16:00:00-08:00""#
        ),
    );

    let old = Some(OldFlags {
        flags: Flags::SEEN,
        keywords: &[b"$a"],
    });
    check(
        Details::FlagsClear(FlagChange {
            old,
            ..change(Flags::SEEN, None)
        }),
        Some(&context),
        &format!(
            r#","uidvalidity":1531299564,"uid":13,"flags":["\\Seen"],{common},"oldFlags":["\\Seen"],"oldKeywords":["$a"],{metadata}"#
        ),
    );
    check(
        Details::MailboxDelete,
        Some(&Context {
            session: None,
            client_ip: None,
            mailbox_id: None,
            status: None,
            metadata: &[],
            ..context
        }),
        r#","timestamp":"2026-11-20T21:35:28.120Z","service":"imap""#,
    );
}
