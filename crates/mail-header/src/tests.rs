//! Headers as they are met, and what they say.

use crate::{MAX_BYTES, Mailbox, decode_text, first_mailbox, whole_mailboxes};

#[track_caller]
fn check_mailbox(header: &str, address: &str, display_name: &str) {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let expected = Mailbox {
        address: filled(address),
        display_name: filled(display_name),
    };
    assert_eq!(first_mailbox(header.as_bytes()), expected, "{header:?}");
}

#[test]
fn the_first_mailbox_with_an_address_is_taken_apart() {
    for (header, address, name) in [
        ("bob@x.example", "bob@x.example", ""),
        ("Bob Sender <bob@x.example>", "bob@x.example", "Bob Sender"),
        ("\"Doe, Jane\" <j@x.example>", "j@x.example", "Doe, Jane"),
        ("\"B\\\"ob\" <bob@x.example>", "bob@x.example", "B\"ob"),
        (
            "bob@x.example (Bob (at) work)",
            "bob@x.example",
            "Bob (at) work",
        ),
        ("<@a.test,@b.test:joe@where.test>", "joe@where.test", ""),
        ("<joe@bücher.example>", "joe@bücher.example", ""),
        ("joe@[192.0.2.1]", "joe@[192.0.2.1]", ""),
        ("<joe@[IPv6:2001:db8::1]>", "joe@[IPv6:2001:db8::1]", ""),
        ("joe @ where . test", "joe@where.test", ""),
        ("< joe @ where.test (home) >", "joe@where.test", ""),
    ] {
        check_mailbox(header, address, name);
    }
}

#[test]
fn members_of_groups_are_mailboxes() {
    for (header, address, name) in [
        ("Team: Ed <c@a.test>, joe@where.test;", "c@a.test", "Ed"),
        (
            "undisclosed-recipients:;, real@x.example",
            "real@x.example",
            "",
        ),
        ("undisclosed-recipients:;", "", "undisclosed-recipients"),
        ("Friends: a@x.example; b@y.example", "a@x.example", ""),
        ("Bob <bob@x.example>: and more", "bob@x.example", "Bob"),
    ] {
        check_mailbox(header, address, name);
    }
}

#[test]
fn a_display_name_is_no_address() {
    for (header, address, name) in [
        (
            "bob@bank.example <real@y.example>",
            "real@y.example",
            "bob@bank.example",
        ),
        (
            "\"bob@bank.example\" real@y.example",
            "real@y.example",
            "bob@bank.example",
        ),
        (
            "=?utf-8?Q?bob@bank.example?= <real@y.example>",
            "real@y.example",
            "bob@bank.example",
        ),
        ("=?utf-8?Q?bob@bank.example?=", "", "bob@bank.example"),
        ("bob@bank.example <>", "", "bob@bank.example"),
        (
            "(bob@bank.example) real@y.example",
            "real@y.example",
            "bob@bank.example",
        ),
        (
            "\"bob@bank.example \"@evil.example",
            "\"bob@bank.example \"@evil.example",
            "",
        ),
        ("\"bob\"@x.example", "bob@x.example", ""),
    ] {
        check_mailbox(header, address, name);
    }
}

#[test]
fn what_is_no_address_is_passed_over() {
    for (header, address, name) in [
        ("Smith, John <j@x.example>", "j@x.example", "John"),
        ("root, Bob <bob@x.example>", "bob@x.example", "Bob"),
        ("MAILER-DAEMON", "", "MAILER-DAEMON"),
        ("<root>, bob@x.example", "bob@x.example", ""),
        ("[name] <a@x.example>", "a@x.example", "[name]"),
        ("<<a@x.example>>", "a@x.example", ""),
        ("<mailto:a@x.example>", "a@x.example", ""),
        ("mailto:a@x.example", "a@x.example", ""),
        ("Bob <bob@x.example", "bob@x.example", "Bob"),
        (
            "Bob <bob@x.example, Eve <eve@y.example>",
            "bob@x.example",
            "Bob",
        ),
        ("Bob bob@x.example", "bob@x.example", "Bob"),
        ("\"Bob <bob@x.example>", "bob@x.example", "\"Bob"),
        (
            "Bob (at work <bob@x.example>",
            "bob@x.example",
            "Bob (at work",
        ),
        ("<a@b@c>", "", ""),
        ("a@, @b, b@c", "b@c", ""),
        ("", "", ""),
        (" ", "", ""),
        (",;:<>", "", ""),
        ("@", "", "@"),
    ] {
        check_mailbox(header, address, name);
    }
}

#[test]
fn encoded_names_are_units_whatever_is_in_them() {
    for (header, address, name) in [
        (
            "=?utf-8?Q?Shop:_Angebote?= <shop@c.example>",
            "shop@c.example",
            "Shop: Angebote",
        ),
        (
            "=?iso-8859-1?Q?L=F6st,_Fi?= <f@c.example>",
            "f@c.example",
            "Löst, Fi",
        ),
        (
            "=?iso-8859-1?Q?L=F6;st?= <f@c.example>",
            "f@c.example",
            "Lö;st",
        ),
        (
            "=?utf-8?Q?a <b>, c?= <f@c.example>",
            "f@c.example",
            "a <b>, c",
        ),
        (
            "\"=?utf-8?Q?B=C3=B6b?=\" <b@c.example>",
            "b@c.example",
            "Böb",
        ),
        (
            "=?utf-8?Q?gr=C3?=\r\n =?utf-8?Q?=BC=C3=9Fe?= <g@c.example>",
            "g@c.example",
            "grüße",
        ),
        (
            "=?utf-8?Q?a=00b?= <n@c.example>",
            "n@c.example",
            "a\u{fffd}b",
        ),
        (
            "=?iso-8859-1?q?B=F6b?=\n\t=?utf-8?b?w7Y=?= <bob@x.example>",
            "bob@x.example",
            "Böbö",
        ),
        (
            "Team: =?utf-8?Q?=C3=84?= <a@x.example>;",
            "a@x.example",
            "Ä",
        ),
    ] {
        check_mailbox(header, address, name);
    }
}

#[test]
fn text_is_decoded() {
    for (header, expected) in [
        ("Lunch on Friday?", "Lunch on Friday?"),
        ("", ""),
        ("=?utf-8?B?w7zDtsOk?=", "üöä"),
        ("=?UTF-8*de?Q?a_b?=", "a b"),
        ("Re: =?utf-8?q?=C3=84?= is", "Re: Ä is"),
        (
            "one\n two\r\n\tthree\n\t\tfour\tfive",
            "one two three \tfour\tfive",
        ),
        ("already ünïcode", "already ünïcode"),
        ("=?utf-8?B?broken", "=?utf-8?B?broken"),
        ("=?utf-8?X?a?= =?=?utf-8?Q?b?=", "=?utf-8?X?a?= =?b"),
        ("=?utf-8?Q?Really??=", "Really?"),
        ("=?utf-8?Q?100=_=zz=e4?=", "100= =zz\u{fffd}"),
        ("=?utf-8?B?w7z DtsO k?=", "üöä"),
        ("=?windows-1252?Q?=805?=", "€5"),
        ("=?x-unknown?Q?a=C3=BC=FF?=", "aü\u{fffd}"),
        (
            "=?iso-2022-kr?B?GyQpQw==?= x",
            "=?iso-2022-kr?B?GyQpQw==?= x",
        ),
        ("=?utf-7?Q?+APw-ber_+AN8?=", "über ß"),
        ("=?cp850?Q?=81?=", "ü"),
        ("a\r\nSubject: b", "aSubject: b"),
    ] {
        assert_eq!(decode_text(header.as_bytes()), expected, "{header:?}");
    }
    assert_eq!(decode_text(b"latin1 \xe9\xff"), "latin1 \u{fffd}\u{fffd}");
    assert_eq!(decode_text(b"=?iso-8859-1?Q?raw \xe9?="), "raw é");
}

#[test]
fn nothing_is_cut_at_a_nul() {
    for (header, expected) in [
        ("=?utf-8?Q?a=00b?= invoice", "a\u{fffd}b invoice"),
        ("=?utf-8?B?YQBi?= invoice", "a\u{fffd}b invoice"),
        ("=?utf-8?Q?=00?= invoice", "\u{fffd} invoice"),
        ("a\0b", "a\u{fffd}b"),
    ] {
        assert_eq!(decode_text(header.as_bytes()), expected, "{header:?}");
    }
}

#[test]
fn neighbours_are_joined_before_they_are_decoded() {
    for (header, expected) in [
        ("=?utf-8?Q?gr=C3?=\r\n =?utf-8?Q?=BC=C3=9Fe?=", "grüße"),
        ("=?utf-8?B?Z3LD?=\n =?UTF-8?B?vMOfZQ==?=", "grüße"),
        // One in each encoding, and a character of three bytes in three words.
        ("=?utf-8?Q?gr=C3?= =?utf-8?B?vMOfZQ==?=", "grüße"),
        ("=?utf-8?Q?=E6?= =?utf-8?Q?=97?= =?utf-8?Q?=A5?=", "日"),
        // Divided within a character, and where each word is whole.
        (
            "=?iso-2022-jp?B?GyRCRnw=?= =?iso-2022-jp?B?S1wbKEI=?=",
            "日本",
        ),
        (
            "=?ISO-2022-JP?B?GyRCRnwbKEI=?=\r\n =?iso-2022-jp?B?GyRCS1wbKEI=?=",
            "日本",
        ),
        ("=?UTF-8?Q?a_?= =?UTF-8?Q?b?=", "a b"),
        // Of different charsets, or with a word between them, each is for itself.
        ("=?utf-8?Q?=C3?= =?iso-8859-1?Q?=BC?=", "\u{fffd}¼"),
        ("=?utf-8?Q?=C3?= x =?utf-8?Q?=BC?=", "\u{fffd} x \u{fffd}"),
    ] {
        assert_eq!(decode_text(header.as_bytes()), expected, "{header:?}");
    }
}

/// Headers that open and never close take no more time for being long.
#[test]
fn what_is_never_closed_is_looked_for_once() {
    for part in [
        "\"", "(", "[", "<", "=?", "=?a?Q?", "=?a?b?=", "a@", ",", "\\", "<\"", "(\\",
    ] {
        let header = part.repeat(200_000);
        first_mailbox(header.as_bytes());
        decode_text(header.as_bytes());
    }
}

/// Headers of more than is read, whose parts go on behind the cut.
#[test]
fn what_is_open_where_a_long_header_is_cut_holds_no_address() {
    let filler = "x ".repeat(MAX_BYTES / 2);
    let real = "<real@evil.example>";
    for (header, address, name) in [
        // A quote, a comment, a literal and an encoded word that close behind the cut.
        (format!("\"x <ceo@bank.example> {filler}\" {real}"), "", ""),
        (format!("(x <ceo@bank.example> {filler}) {real}"), "", ""),
        (format!("[x <ceo@bank.example> {filler}] {real}"), "", ""),
        (
            format!("=?utf-8?Q?x <ceo@bank.example> {filler}?= {real}"),
            "",
            "",
        ),
        (
            format!("\"x\r\n <ceo@bank.example> {filler}\" {real}"),
            "",
            "",
        ),
        // What stands before an address is its name.
        (
            format!("ceo@bank.example{} {real}", " ".repeat(MAX_BYTES)),
            "",
            "ceo@bank.example",
        ),
        // What is whole before the cut counts.
        (
            format!("Bob <bob@x.example> {filler}"),
            "bob@x.example",
            "Bob",
        ),
        (format!("bob@x.example, {filler}"), "bob@x.example", ""),
    ] {
        check_mailbox(&header, address, name);
    }
    // An address that touches the cut, in angle brackets and without.
    for (before, behind) in [("<", ">"), (" ", "")] {
        let blanks = " ".repeat(MAX_BYTES - before.len() - "ceo@bank.example".len());
        let header = format!("{blanks}{before}ceo@bank.example.evil.example{behind}");
        check_mailbox(&header, "", "");
    }
}

#[test]
fn a_list_is_cut_behind_a_whole_mailbox() {
    for (header, max_bytes, expected) in [
        ("Bob <bob@x.example>", 19, Some("Bob <bob@x.example>")),
        ("Bob <bob@x.example>", 18, None),
        ("a@x.example, b@y.example", 20, Some("a@x.example")),
        ("a@x.example, b@y.example", 23, Some("a@x.example")),
        (
            "A <a@x.example>,\r\n B <b@y.example>",
            30,
            Some("A <a@x.example>"),
        ),
        (
            "A\r\n <a@x.example>,\r\n\tB\n <b@y.example>, C",
            39,
            Some("A\r\n <a@x.example>,\r\n\tB\n <b@y.example>"),
        ),
        ("\"<ceo@bank.example>, x\" <real@evil.example>", 20, None),
        (
            "\"\\\r\n\"<ceo@bank.example>\" <real@evil.example>",
            30,
            None,
        ),
        ("ceo@bank.example <real@evil.example>", 25, None),
        ("<ceo@bank.example.evil.example>", 17, None),
    ] {
        let whole = whole_mailboxes(header.as_bytes(), max_bytes);
        let expected = expected.map(str::as_bytes);
        assert_eq!(whole, expected, "{header:?} in {max_bytes} bytes");
    }
}
