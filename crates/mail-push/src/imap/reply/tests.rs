//! Tests of replies: what servers send, and what they had better not.

use dovecast_event::Flags;

use super::*;

fn read(line: &str) -> Reply {
    Reply::parse(format!("{line}\r\n").as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn data(line: &str) -> Data {
    match read(line) {
        Reply::Data(data) => data,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn what_servers_say_of_a_mailbox_is_read() {
    let range = |first, last| UidRange { first, last };
    for (line, expected) in [
        ("* 23 EXISTS", Data::Exists(23)),
        ("* 4 expunge", Data::Expunge(4)),
        ("* 4 RECENT", Data::Other),
        (
            "* VANISHED 7",
            Data::Vanished {
                earlier: false,
                uids: vec![range(7, 7)],
            },
        ),
        (
            "* VANISHED (EARLIER) 41,43:116,9:5",
            Data::Vanished {
                earlier: true,
                uids: vec![range(41, 41), range(43, 116), range(5, 9)],
            },
        ),
        ("* FLAGS (\\Seen)", Data::Other),
        (
            "* LIST () \"/\" a",
            Data::List {
                mailbox: "a".into(),
            },
        ),
        (
            "* LIST (\\HasNoChildren \\Trash) NIL \"Entw&APw-rfe\" (\"OLDNAME\" (\"b\"))",
            Data::List {
                mailbox: "Entwürfe".into(),
            },
        ),
        (
            "* STATUS \"a b\" (messages 4 UIDNEXT 5)",
            Data::MailboxStatus {
                mailbox: "a b".into(),
                items: vec![("MESSAGES".into(), 4), ("UIDNEXT".into(), 5)],
            },
        ),
        (
            "* STATUS {9}\r\nEntwürfe (MESSAGES 4)",
            Data::MailboxStatus {
                mailbox: "Entwürfe".into(),
                items: vec![("MESSAGES".into(), 4)],
            },
        ),
        (
            "* METADATA \"\" (/private/a \"user=11@3\" /private/b NIL)",
            Data::Metadata(vec![
                ("/private/a".into(), Some(b"user=11@3".to_vec())),
                ("/private/b".into(), None),
            ]),
        ),
        ("* METADATA \"\" /private/a", Data::Metadata(Vec::new())),
    ] {
        assert_eq!(data(line), expected, "{line}");
    }
}

#[test]
fn items_of_a_mail_are_taken_by_name_and_the_others_skipped() {
    let Data::Fetch(fetched) = data(
        "* 7 FETCH (MODSEQ (12) UID 9 FLAGS (\\Seen $label1 \\Recent \\draft) \
         BODYSTRUCTURE ((\"text\" NIL) NIL {2}\r\n)( \"a)\") BODY[]<0> \"x\\\"y\" \
         BODY[HEADER.FIELDS (FROM SUBJECT)] {3}\r\nF: PREVIEW (FUZZY \"hello\"))",
    ) else {
        panic!("no FETCH");
    };
    assert_eq!(
        fetched,
        Fetched {
            sequence: 7,
            uid: Some(9),
            flags: Some(Flags::SEEN | Flags::DRAFT),
            header: Some(b"F: ".to_vec()),
            preview: Some(b"hello".to_vec()),
            body: Some(b"x\"y".to_vec()),
        }
    );
}

#[test]
fn codes_are_read_and_words_are_shown_short() {
    for (line, code) in [
        ("t4 OK [UIDVALIDITY 5] ok", Some(Code::UidValidity(5))),
        ("t4 OK [HIGHESTMODSEQ 5] ok", Some(Code::HighestModSeq(5))),
        (
            "t4 NO [unavailable] later",
            Some(Code::Other("UNAVAILABLE".into())),
        ),
        ("t4 NO no", None),
        ("t4 NO", None),
    ] {
        let Reply::Done(done) = read(line) else {
            panic!("{line}");
        };
        assert_eq!((done.tag, done.code), (4, code), "{line}");
    }
    let Reply::Done(done) = read("t4 OK [CAPABILITY IMAP4rev1 IDLE sasl-ir AUTH=PLAIN] \u{7}")
    else {
        panic!("no end");
    };
    let Some(Code::Capability(offered)) = done.code else {
        panic!("{done:?}");
    };
    assert!(offered.offer(Capabilities::IDLE) && offered.offer(Capabilities::PLAIN));
    assert!(!offered.offer(Capabilities::QRESYNC));
    assert!(done.text.ends_with("\\u{7}"), "{}", done.text);
}

#[test]
fn what_is_no_reply_is_refused() {
    for line in [
        "",
        "a1 OK other tag",
        "t OK",
        "t99999999999 OK",
        "t1 MAYBE",
        "* 1 FETCH",
        "* 1 FETCH (",
        "* 1 FETCH (UID x)",
        "* 1 FETCH (FLAGS (",
        "* VANISHED x",
        "* 99999999999 EXISTS",
        &format!("* 1 FETCH (X {}", "(".repeat(1000)),
    ] {
        assert!(
            Reply::parse(format!("{line}\r\n").as_bytes()).is_err(),
            "{line}"
        );
    }
}
