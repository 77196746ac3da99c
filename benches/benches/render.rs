//! Time and allocations for the JSON of one event of every kind, as `detail=compat` and as
//! `detail=full`.
//!
//! The output buffer is as large as the plugin makes it and is reused, so every allocation shown is
//! one beyond it. The baseline, in the same run: serde_json writing a struct with the same fields
//! into the same buffer.

use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use dovecast_event::{
    Context, Details, Event, Field, FlagChange, Flags, FullMessage, MailDate, MailboxStatus,
    MessageId, NewMessage, OldFlags, UnixMillis, render,
};
use serde::Serialize;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// Bytes the plugin's buffer has to begin with, with room for the largest event here.
const BUFFER_BYTES: usize = 2048;

const ID: MessageId = MessageId {
    uidvalidity: 1_531_299_564,
    uid: 1_300_013,
};
const KEYWORDS: &[&[u8]] = &[b"$label1", b"$label2"];
const SNIPPET: &[u8] = "Dear Alice, the figures for the third quarter are in: sales up, costs down, Zürich \
    pays. I will send the slides tonight; would you look at page 7 before the board meets? Best, Bob"
    .as_bytes();

fn main() {
    divan::main();
}

#[divan::bench(args = kinds())]
fn compat(bencher: Bencher<'_, '_>, details: &Case) {
    bench_render(bencher, details.0, None);
}

#[divan::bench(args = kinds())]
fn full(bencher: Bencher<'_, '_>, details: &Case) {
    bench_render(bencher, details.0, Some(&CONTEXT));
}

/// serde_json, given a struct whose texts are known to be UTF-8 and whose date is formatted
/// already.
#[divan::bench]
fn serde_json_flags_set(bencher: Bencher<'_, '_>) {
    bench_serde(bencher, &serde_flags_set());
}

/// As above, but as most programs call it: shows that allocations are counted.
#[divan::bench]
fn serde_json_flags_set_to_vec(bencher: Bencher<'_, '_>) {
    let value = serde_flags_set();
    bencher.bench_local(|| serde_json::to_vec(black_box(&value)));
}

/// As above, into the same buffer, the largest kind.
#[divan::bench]
fn serde_json_message_new(bencher: Bencher<'_, '_>) {
    bench_serde(bencher, &serde_message_new());
}

fn bench_render(bencher: Bencher<'_, '_>, details: Details<'_>, context: Option<&Context<'_>>) {
    let event = Event {
        user: b"alice@example.com",
        userdb: &[],
        mailbox: b"INBOX/Projects",
        details,
        context,
    };
    let mut out = Vec::with_capacity(BUFFER_BYTES);
    render(&event, &mut out);
    bencher.counter(BytesCount::new(out.len())).bench_local(|| {
        out.clear();
        render(black_box(&event), &mut out);
        black_box(out.as_ptr());
    });
}

fn bench_serde(bencher: Bencher<'_, '_>, value: &impl Serialize) {
    let mut out = Vec::with_capacity(BUFFER_BYTES);
    serde_json::to_writer(&mut out, value).expect("a Vec takes everything");
    bencher.counter(BytesCount::new(out.len())).bench_local(|| {
        out.clear();
        serde_json::to_writer(&mut out, black_box(value)).expect("a Vec takes everything");
        black_box(out.as_ptr());
    });
}

/// One argument of a benchmark, shown by its kind.
struct Case(Details<'static>);

impl std::fmt::Display for Case {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.kind().fmt(out)
    }
}

fn kinds() -> [Case; 12] {
    let change = FlagChange {
        id: ID,
        flags: Flags::SEEN,
        keywords: Some(KEYWORDS),
        old: None,
    };
    let cleared = FlagChange {
        old: Some(OldFlags {
            flags: Flags::SEEN,
            keywords: KEYWORDS,
        }),
        ..change
    };
    [
        Details::FlagsClear(cleared),
        Details::FlagsSet(change),
        Details::MailboxCreate {
            uidvalidity: ID.uidvalidity,
        },
        Details::MailboxDelete,
        Details::MailboxRename {
            old_mailbox: b"INBOX/Plans",
        },
        Details::MailboxSubscribe,
        Details::MailboxUnsubscribe,
        Details::MessageAppend(MESSAGE),
        Details::MessageExpunge(ID),
        Details::MessageNew(MESSAGE),
        Details::MessageRead(ID),
        Details::MessageTrash(ID),
    ]
    .map(Case)
}

const MESSAGE: NewMessage<'static> = NewMessage {
    id: ID,
    date: Some(MailDate {
        unix_seconds: 1_795_158_296,
        tz_minutes: 330,
    }),
    from: Some(b"\"Bob Builder\" <bob@sender.example>"),
    snippet: Some(SNIPPET),
    subject: Some(b"=?utf-8?q?Zahlen_f=C3=BCr_Z=C3=BCrich?="),
    to: Some(b"Alice <alice@example.com>"),
    full: Some(FullMessage {
        message_id: Some(b"<20261120.123456@sender.example>"),
        size: Some(14_562),
        from_address: Some(b"bob@sender.example"),
        from_display_name: Some(b"Bob Builder"),
        to_address: Some(b"alice@example.com"),
        to_display_name: Some(b"Alice"),
        subject_decoded: Some("Zahlen für Zürich".as_bytes()),
        flags: Flags::FLAGGED,
        keywords: KEYWORDS,
    }),
};

const CONTEXT: Context<'static> = Context {
    timestamp: UnixMillis(1_795_210_528_120),
    service: b"imap",
    session: Some(b"mC5bT3kZrOB/AAAB"),
    client_ip: Some(b"192.0.2.17"),
    mailbox_id: Some(b"0f1e2d3c4b5a69788796a5b4c3d2e1f0"),
    status: Some(MailboxStatus {
        modseq: 815_047,
        messages: 4711,
        unseen: 12,
        recent: 1,
        uidnext: 1_300_014,
    }),
    metadata: &[] as &[Field],
};

#[derive(Serialize)]
struct SerdeFlagsSet<'a> {
    user: &'a str,
    mailbox: &'a str,
    event: &'a str,
    uidvalidity: u32,
    uid: u32,
    flags: &'a [&'a str],
    keywords: &'a [&'a str],
}

fn serde_flags_set() -> SerdeFlagsSet<'static> {
    SerdeFlagsSet {
        user: "alice@example.com",
        mailbox: "INBOX/Projects",
        event: "FlagsSet",
        uidvalidity: ID.uidvalidity,
        uid: ID.uid,
        flags: &["\\Seen"],
        keywords: &["$label1", "$label2"],
    }
}

#[derive(Serialize)]
struct SerdeMessageNew<'a> {
    user: &'a str,
    mailbox: &'a str,
    event: &'a str,
    uidvalidity: u32,
    uid: u32,
    date: &'a str,
    from: &'a str,
    snippet: &'a str,
    subject: &'a str,
    to: &'a str,
}

fn serde_message_new() -> SerdeMessageNew<'static> {
    SerdeMessageNew {
        user: "alice@example.com",
        mailbox: "INBOX/Projects",
        event: "MessageNew",
        uidvalidity: ID.uidvalidity,
        uid: ID.uid,
        date: "2026-11-20T12:34:56+05:30",
        from: "\"Bob Builder\" <bob@sender.example>",
        snippet: std::str::from_utf8(SNIPPET).expect("UTF-8"),
        subject: "=?utf-8?q?Zahlen_f=C3=BCr_Z=C3=BCrich?=",
        to: "Alice <alice@example.com>",
    }
}
