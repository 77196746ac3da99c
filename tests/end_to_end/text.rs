//! Odd names and headers: always valid JSON and UTF-8, never a lost event.

use anyhow::{Context, Result, ensure};
use dovecast_event::{ParsedEvent, parse, replace_invalid_utf8};
use dovecast_testkit::dovecot::Installation;
use dovecast_testkit::imap::{astring, mutf7};

use crate::case::cases;
use crate::differences;
use crate::setup::{ARRIVAL, Setup};

cases![
    odd_headers_arrive_whole,
    long_headers_arrive_whole_and_absurd_ones_are_cut,
    a_mail_without_headers_has_no_fields_for_them,
    odd_mailbox_names_arrive_as_utf8,
    odd_user_names_arrive_as_key_and_user,
    dates_keep_their_instant,
    addresses_and_encoded_words_are_read_as_mail_programs_do,
];

/// The events of a kind in the topic, once there are `count` of them; every record in the topic has
/// to be valid.
fn events(setup: &Setup, kind: &str, count: usize) -> Result<Vec<ParsedEvent>> {
    let mut reader = setup.reader("dovecot")?;
    let mut found = Vec::new();
    while found.len() < count {
        let record = reader
            .next(ARRIVAL)?
            .with_context(|| format!("{} of {count} {kind} arrived", found.len()))?;
        std::str::from_utf8(&record.value)?;
        serde_json::from_slice::<serde_json::Value>(&record.value)?;
        let event = parse(&record.value)?;
        ensure!(
            record
                .key
                .is_some_and(|key| replace_invalid_utf8(&key) == event.user),
            "key is not the user"
        );
        if event.kind.name() == kind {
            found.push(event);
        }
    }
    Ok(found)
}

fn deliver(setup: &Setup, mails: &[Vec<u8>]) -> Result<()> {
    let mut lmtp = setup.dovecot.lmtp()?;
    for mail in mails {
        lmtp.deliver_ok("bob@example.org", &["alice"], mail)?;
    }
    lmtp.quit()
}

fn odd_headers_arrive_whole(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "", |builder| builder)?;
    // A subject as it stands in the mail, and as it has to arrive.
    let subjects: [(&[u8], &str); 11] = [
        (b"say \"hi\" \\ there", "say \"hi\" \\ there"),
        (b"tab\there", "tab\there"),
        (
            b"bell\x07 escape\x1b delete\x7f",
            "bell\u{7} escape\u{1b} delete\u{7f}",
        ),
        (b"nul \x00 inside", "nul \u{fffd} inside"),
        (b"latin1 \xe9\xff", "latin1 \u{fffd}\u{fffd}"),
        (b"half a euro \xe2\x82", "half a euro \u{fffd}\u{fffd}"),
        (
            "line\u{2028}paragraph\u{2029}".as_bytes(),
            "line\u{2028}paragraph\u{2029}",
        ),
        (
            "\u{1f4e7} \u{65e5}\u{672c}".as_bytes(),
            "\u{1f4e7} \u{65e5}\u{672c}",
        ),
        (b"=?utf-8?q?=C3=84?= raw", "=?utf-8?q?=C3=84?= raw"),
        (b"folded\r\n over lines", "folded\n over lines"),
        (b"{\"not\":\"json\"},[", "{\"not\":\"json\"},["),
    ];
    let mails: Vec<Vec<u8>> = subjects
        .iter()
        .map(|(raw, _)| {
            [
                b"From: \"B\\\"ob\" <bob@example.org>\r\nSubject: ",
                *raw,
                b"\r\n\r\n\xff\x00body\xe2\x80\xa8\r\n",
            ]
            .concat()
        })
        .collect();
    deliver(&setup, &mails)?;
    let events = events(&setup, "MessageNew", subjects.len())?;
    for ((_, expected), event) in subjects.iter().zip(&events) {
        ensure!(
            event.subject.as_deref() == Some(*expected),
            "expected {expected:?}, arrived {:?}",
            event.subject
        );
        ensure!(
            event.from.as_deref() == Some("\"B\\\"ob\" <bob@example.org>"),
            "from is {:?}",
            event.from
        );
    }
    Ok(())
}

fn long_headers_arrive_whole_and_absurd_ones_are_cut(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "max_field_bytes=65536", |builder| builder)?;
    let subject = |bytes: usize| "\u{e9}".repeat(bytes / 2);
    let mail = |bytes: usize| format!("Subject: {}\r\n\r\nx\r\n", subject(bytes)).into_bytes();
    deliver(
        &setup,
        &[mail(10 * 1024), mail(64 * 1024), mail(200 * 1024)],
    )?;
    let events = events(&setup, "MessageNew", 3)?;
    let lengths: Vec<usize> = events
        .iter()
        .map(|event| event.subject.as_ref().map_or(0, String::len))
        .collect();
    ensure!(
        lengths == [10 * 1024, 64 * 1024, 64 * 1024],
        "lengths are {lengths:?}"
    );
    ensure!(
        events[0].subject == Some(subject(10 * 1024)),
        "the 10 kB subject has changed"
    );
    Ok(())
}

fn a_mail_without_headers_has_no_fields_for_them(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "", |builder| builder)?;
    deliver(
        &setup,
        &[
            b"\r\nonly a body\r\n".to_vec(),
            b"From: \r\nSubject:\r\nTo:\r\nDate: never\r\n\r\n".to_vec(),
        ],
    )?;
    let events = events(&setup, "MessageNew", 2)?;
    let fields = |event: &ParsedEvent| {
        (
            event.from.clone(),
            event.subject.clone(),
            event.to.clone(),
            event.date.clone(),
        )
    };
    ensure!(
        fields(&events[0]) == (None, None, None, None),
        "{:?}",
        events[0]
    );
    let empty = Some(String::new());
    ensure!(
        fields(&events[1]) == (empty.clone(), empty.clone(), empty, None),
        "{:?}",
        events[1]
    );
    Ok(())
}

fn odd_mailbox_names_arrive_as_utf8(on: Installation) -> Result<()> {
    const LINES: &str = "line\u{2028}separator";
    let setup = Setup::start(on, "events=MailboxCreate,MailboxRename", |builder| builder)?;
    let differs = differences::of(on)?;
    let mut names = vec![
        "\u{65e5}\u{672c}\u{8a9e}/\u{30e1}\u{30fc}\u{30eb}",
        "say \"hi\" \\ there",
        "R&D & more",
        "\u{1f4e7}",
        "peter's ~50% {x}",
    ];
    let create = |name: &str| [b"CREATE ".to_vec(), astring(&mutf7(name))].concat();
    let mut imap = setup.dovecot.login("alice")?;
    if differs.takes_line_separators {
        names.push(LINES);
    } else {
        let refused = imap.ok_bytes(&create(LINES));
        ensure!(refused.is_err(), "it takes `{LINES:?}`: {refused:?}");
    }
    for name in &names {
        imap.ok_bytes(&create(name))?;
    }
    let mut rename = b"RENAME ".to_vec();
    rename.extend(astring(&mutf7(names[0])));
    rename.push(b' ');
    rename.extend(astring(&mutf7("\u{fc}ber")));
    imap.ok_bytes(&rename)?;
    imap.logout()?;
    let mut expected = names.clone();
    if differs.inbox_has_an_event {
        expected.insert(1, "INBOX");
    }
    let created = events(&setup, "MailboxCreate", expected.len())?;
    let arrived: Vec<&str> = created.iter().map(|event| event.mailbox.as_str()).collect();
    ensure!(arrived == expected, "arrived {arrived:?}");
    let renamed = &events(&setup, "MailboxRename", 1)?[0];
    ensure!(
        renamed.mailbox == "\u{fc}ber" && renamed.old_mailbox.as_deref() == Some(names[0]),
        "{renamed:?}"
    );
    Ok(())
}

fn odd_user_names_arrive_as_key_and_user(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "events=MessageAppend", |builder| builder)?;
    let long = "u".repeat(120);
    let names = [
        "say \"hi\" there",
        "back\\slash",
        "j\u{fc}rgen@ex\u{e4}mple",
        "\u{1f4e7}",
        "a+b@c",
        "tab\there",
        &long,
    ];
    for name in names {
        let mut imap = setup.dovecot.login(name)?;
        imap.append("INBOX", "", None, b"Subject: x\r\n\r\n")?;
        imap.logout()?;
    }
    let mut arrived: Vec<String> = events(&setup, "MessageAppend", names.len())?
        .into_iter()
        .map(|e| e.user)
        .collect();
    let mut expected = names.map(str::to_owned);
    arrived.sort();
    expected.sort();
    ensure!(arrived == expected, "arrived {arrived:?}");
    Ok(())
}

fn dates_keep_their_instant(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "", |builder| builder)?;
    let dates = [
        (
            "Fri, 20 Nov 2026 12:34:56 +0530",
            Some("2026-11-20T12:34:56+05:30"),
        ),
        (
            "Fri, 20 Nov 2026 12:34:56 -0800",
            Some("2026-11-20T12:34:56-08:00"),
        ),
        (
            "Fri, 20 Nov 2026 12:34:56 GMT",
            Some("2026-11-20T12:34:56+00:00"),
        ),
        (
            "Sat, 31 Dec 2022 23:59:59 -0000",
            Some("2022-12-31T23:59:59+00:00"),
        ),
        ("not a date", None),
        ("Thu, 01 Jan 1970 00:00:00 +0000", None),
    ];
    let mails: Vec<Vec<u8>> = dates
        .iter()
        .map(|(date, _)| format!("Date: {date}\r\n\r\nx\r\n").into_bytes())
        .collect();
    deliver(&setup, &mails)?;
    for ((written, expected), event) in dates.iter().zip(events(&setup, "MessageNew", dates.len())?)
    {
        ensure!(
            event.date.as_deref() == *expected,
            "{written}: expected {expected:?}, arrived {:?}",
            event.date
        );
    }
    Ok(())
}

/// What stands in From, To and Subject of a mail, and what is read of it.
struct Readable {
    from: &'static str,
    to: &'static str,
    subject: &'static str,
    from_address: &'static str,
    from_name: Option<&'static str>,
    to_address: Option<&'static str>,
    to_name: Option<&'static str>,
    decoded: &'static str,
}

const READABLE: [Readable; 5] = [
    Readable {
        from: "bob@bank.example <real@y.example>",
        to: "Team: Ed <c@a.test>, joe@where.test;",
        subject: "=?utf-8?Q?a=00b?= invoice",
        from_address: "real@y.example",
        from_name: Some("bob@bank.example"),
        to_address: Some("c@a.test"),
        to_name: Some("Ed"),
        decoded: "a\u{fffd}b invoice",
    },
    Readable {
        from: "Smith, John <j@x.example>",
        to: "undisclosed-recipients:;, real@x.example",
        subject: "=?utf-8?Q?gr=C3?=\r\n =?utf-8?B?vMOfZQ==?=",
        from_address: "j@x.example",
        from_name: Some("John"),
        to_address: Some("real@x.example"),
        to_name: None,
        decoded: "grüße",
    },
    Readable {
        from: "=?utf-8?Q?Shop:_Angebote?= <shop@c.example>",
        to: "undisclosed-recipients:;",
        subject: "=?iso-2022-jp?B?GyRCRnw=?=\r\n =?iso-2022-jp?B?S1wbKEI=?=",
        from_address: "shop@c.example",
        from_name: Some("Shop: Angebote"),
        to_address: None,
        to_name: Some("undisclosed-recipients"),
        decoded: "日本",
    },
    Readable {
        from: "=?iso-8859-1?Q?L=F6st,_Fi?= <f@c.example>",
        to: "[name] <a@x.example>",
        subject: "folded\r\n over lines",
        from_address: "f@c.example",
        from_name: Some("Löst, Fi"),
        to_address: Some("a@x.example"),
        to_name: Some("[name]"),
        decoded: "folded over lines",
    },
    Readable {
        from: "<mailto:a@x.example>",
        to: "<<a@x.example>>",
        subject: "",
        from_address: "a@x.example",
        from_name: None,
        to_address: Some("a@x.example"),
        to_name: None,
        decoded: "",
    },
];

fn addresses_and_encoded_words_are_read_as_mail_programs_do(on: Installation) -> Result<()> {
    let setup = Setup::start(on, "detail=full", |builder| builder)?;
    let mail = |one: &Readable| {
        let Readable {
            from, to, subject, ..
        } = one;
        format!("From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nx\r\n").into_bytes()
    };
    deliver(&setup, &READABLE.iter().map(mail).collect::<Vec<_>>())?;
    let events = events(&setup, "MessageNew", READABLE.len())?;
    for (expected, event) in READABLE.iter().zip(&events) {
        let read = [
            event.from_address.as_deref(),
            event.from_display_name.as_deref(),
            event.to_address.as_deref(),
            event.to_display_name.as_deref(),
            event.subject_decoded.as_deref(),
        ];
        let expected = [
            Some(expected.from_address),
            expected.from_name,
            expected.to_address,
            expected.to_name,
            Some(expected.decoded),
        ];
        ensure!(read == expected, "{read:?}, not {expected:?}: {event:#?}");
    }
    Ok(())
}
