//! Whatever bytes an event holds, its JSON is valid, complete, and costs no allocation beyond the
//! output buffer.

use dovecast_event::{
    Context, Details, Event, Field, FlagChange, Flags, FullMessage, MailDate, MessageId,
    NewMessage, OldFlags, UnixMillis, parse, render, replace_invalid_utf8,
};
use proptest::prelude::*;

type Bytes = Vec<u8>;

/// Bytes in which UTF-8, broken UTF-8, controls and JSON's own characters are all likely.
fn bytes() -> impl Strategy<Value = Bytes> {
    let piece = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        prop::sample::select(vec![
            "\"", "\\", "\0", "\n", "\u{7f}", "é", "€", "📧", "\u{2028}", "\u{2029}", "\u{feff}",
            "\u{ffff}", "{", "}",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(0x80_u8..=0xff, 1..5),
        prop::sample::select(vec![
            &b"\xe2\x80"[..],
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xc0\xaf"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

#[derive(Debug, Clone)]
struct Input {
    user: Bytes,
    mailbox: Bytes,
    userdb: Vec<Field>,
    texts: [Option<Bytes>; 8],
    keywords: Vec<Bytes>,
    date: Option<(i64, i32)>,
    flags: u32,
    kind: u8,
    full: bool,
    id: (u32, u32),
}

prop_compose! {
    fn input()(
        user in bytes(), mailbox in bytes(),
        userdb in prop::collection::vec((bytes(), bytes()), 0..3),
        texts in prop::array::uniform8(prop::option::of(bytes())),
        keywords in prop::collection::vec(bytes(), 0..4),
        date in prop::option::of((any::<i64>(), any::<i32>())),
        flags in any::<u32>(), kind in 0_u8..12, full in any::<bool>(), id in any::<(u32, u32)>(),
    ) -> Input {
        let userdb = userdb.into_iter().map(|(name, value)| Field { name, value }).collect();
        Input { user, mailbox, userdb, texts, keywords, date, flags, kind, full, id }
    }
}

fn details<'a>(input: &'a Input, keywords: &'a [&'a [u8]]) -> Details<'a> {
    let id = MessageId {
        uidvalidity: input.id.0,
        uid: input.id.1,
    };
    let flags = Flags::from_dovecot(input.flags);
    let text = |i: usize| input.texts[i].as_deref();
    let message = NewMessage {
        id,
        date: input.date.map(|(unix_seconds, tz_minutes)| MailDate {
            unix_seconds,
            tz_minutes,
        }),
        from: text(0),
        snippet: text(1),
        subject: text(2),
        to: text(3),
        full: input.full.then(|| FullMessage {
            message_id: text(4),
            from_display_name: text(5),
            subject_decoded: text(6),
            flags,
            keywords,
            ..FullMessage::default()
        }),
    };
    let old = input.full.then_some(OldFlags { flags, keywords });
    let change = FlagChange {
        id,
        flags,
        keywords: Some(keywords),
        old,
    };
    match input.kind {
        0 => Details::FlagsClear(change),
        1 => Details::FlagsSet(change),
        2 => Details::MailboxCreate {
            uidvalidity: id.uidvalidity,
        },
        3 => Details::MailboxDelete,
        4 => Details::MailboxRename {
            old_mailbox: &input.user,
        },
        5 => Details::MailboxSubscribe,
        6 => Details::MailboxUnsubscribe,
        7 => Details::MessageAppend(message),
        8 => Details::MessageExpunge(id),
        9 => Details::MessageNew(message),
        10 => Details::MessageRead(id),
        _ => Details::MessageTrash(id),
    }
}

fn lossy(text: Option<&Bytes>) -> Option<String> {
    text.map(|text| replace_invalid_utf8(text).into_owned())
}

/// How many events are tried: enough for a change, and many more in `make soak`.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: match std::env::var_os("DOVECAST_SOAK") {
            Some(_) => 65_536,
            None => 1_024,
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_event_reads_back_as_itself(input in input()) {
        let keywords: Vec<&[u8]> = input.keywords.iter().map(Vec::as_slice).collect();
        let context = Context {
            timestamp: UnixMillis(u64::from(input.id.0) * 1000),
            service: &input.mailbox,
            session: input.texts[7].as_deref(),
            client_ip: None,
            mailbox_id: None,
            status: None,
            metadata: &input.userdb,
        };
        let event = Event {
            user: &input.user,
            userdb: &input.userdb,
            mailbox: &input.mailbox,
            details: details(&input, &keywords),
            context: input.full.then_some(&context),
        };
        let mut out = Vec::new();
        render(&event, &mut out);

        let text = std::str::from_utf8(&out).expect("valid UTF-8");
        prop_assert!(!text.bytes().any(|byte| byte < 0x20), "a control character is raw");
        serde_json::from_str::<serde_json::Value>(text).expect("valid JSON");
        let read = parse(&out).expect("readable");
        prop_assert_eq!(read.user, replace_invalid_utf8(&input.user));
        prop_assert_eq!(read.mailbox, replace_invalid_utf8(&input.mailbox));
        prop_assert_eq!(read.kind, event.details.kind());
        prop_assert_eq!(read.userdb.len(), input.userdb.len());
        for ((name, value), field) in read.userdb.iter().zip(&input.userdb) {
            prop_assert_eq!(name, &replace_invalid_utf8(&field.name));
            prop_assert_eq!(value, &replace_invalid_utf8(&field.value));
        }
        match event.details {
            Details::MessageNew(_) | Details::MessageAppend(_) => {
                prop_assert_eq!(read.from, lossy(input.texts[0].as_ref()));
                prop_assert_eq!(read.snippet, lossy(input.texts[1].as_ref()));
                prop_assert_eq!(read.subject, lossy(input.texts[2].as_ref()));
                prop_assert_eq!(read.to, lossy(input.texts[3].as_ref()));
            }
            Details::FlagsSet(change) => {
                let names: Vec<String> = change.flags.names().map(String::from).collect();
                prop_assert_eq!(read.flags.unwrap_or_default(), names);
                let expected: Vec<_> = keywords.iter().map(|k| replace_invalid_utf8(k).into_owned()).collect();
                prop_assert_eq!(read.keywords, Some(expected));
            }
            _ => {}
        }
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error_that_can_be_printed(json in bytes()) {
        if let Err(error) = parse(&json) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

#[test]
fn rendering_allocates_nothing_beyond_the_output_buffer() {
    let input = Input {
        user: b"alice@example.com\xff".to_vec(),
        mailbox: "日本語/\u{2028}".as_bytes().to_vec(),
        userdb: vec![Field {
            name: b"k".to_vec(),
            value: b"v".to_vec(),
        }],
        texts: std::array::from_fn(|i| Some(format!("text \0 {i} \\").into_bytes())),
        keywords: vec![b"$a".to_vec(), b"$b".to_vec()],
        date: Some((1_795_158_296, 330)),
        flags: 0x1f,
        kind: 0,
        full: true,
        id: (1, 2),
    };
    let keywords: Vec<&[u8]> = input.keywords.iter().map(Vec::as_slice).collect();
    let mut out = Vec::with_capacity(4096);
    for kind in 0..12 {
        let input = Input {
            kind,
            ..input.clone()
        };
        let event = Event {
            user: &input.user,
            userdb: &input.userdb,
            mailbox: &input.mailbox,
            details: details(&input, &keywords),
            context: None,
        };
        out.clear();
        let allocations = allocation_counter::measure(|| render(&event, &mut out)).count_total;
        assert_eq!(allocations, 0, "{}", event.details.kind());
    }
}
