//! An event as one line of JSON: the value of its record.
//!
//! The order of the fields is part of the contract (consumers compare bytes): first what the format
//! always had, then, with `detail=full`, what was added since. No white space.

use crate::event::{
    Context, Details, Event, Field, FlagChange, FullMessage, MailDate, MessageId, NewMessage,
};
use crate::json::{write_key, write_number, write_string};
use crate::{EventKind, Flags, time};

/// Appends the JSON of `event` to `out`.
pub fn render(event: &Event<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    string(out, "user", event.user);
    if !event.userdb.is_empty() {
        object(out, "userdb", event.userdb);
    }
    string(out, "mailbox", event.mailbox);
    write_key(out, "event");
    out.push(b'"');
    out.extend_from_slice(event.details.kind().name().as_bytes());
    out.push(b'"');
    details(out, &event.details);
    if let Some(context) = event.context {
        full(out, context, &event.details);
    }
    out.push(b'}');
}

fn details(out: &mut Vec<u8>, details: &Details<'_>) {
    match details {
        Details::MessageNew(message) | Details::MessageAppend(message) => {
            new_message(out, message, details.kind() == EventKind::MessageNew);
        }
        Details::FlagsSet(change) | Details::FlagsClear(change) => flag_change(out, change),
        Details::MessageRead(id) | Details::MessageTrash(id) | Details::MessageExpunge(id) => {
            message_id(out, *id);
        }
        Details::MailboxCreate { uidvalidity } => {
            number(out, "uidvalidity", u64::from(*uidvalidity));
        }
        Details::MailboxRename { old_mailbox } => string(out, "oldMailbox", old_mailbox),
        Details::MailboxDelete | Details::MailboxSubscribe | Details::MailboxUnsubscribe => {}
    }
}

fn message_id(out: &mut Vec<u8>, id: MessageId) {
    number(out, "uidvalidity", u64::from(id.uidvalidity));
    number(out, "uid", u64::from(id.uid));
}

fn new_message(out: &mut Vec<u8>, message: &NewMessage<'_>, with_date: bool) {
    message_id(out, message.id);
    if let Some(date) = message.date.filter(|_| with_date) {
        mail_date(out, date);
    }
    optional(out, "from", message.from);
    optional(out, "snippet", message.snippet);
    optional(out, "subject", message.subject);
    optional(out, "to", message.to);
}

/// The Date header; nothing where it is no time that can be written.
fn mail_date(out: &mut Vec<u8>, date: MailDate) {
    let before = out.len();
    write_key(out, "date");
    out.push(b'"');
    if time::write_with_offset(out, date.unix_seconds, date.tz_minutes) {
        out.push(b'"');
    } else {
        out.truncate(before);
    }
}

fn flag_change(out: &mut Vec<u8>, change: &FlagChange<'_>) {
    message_id(out, change.id);
    if !change.flags.is_empty() {
        flags(out, "flags", change.flags);
    }
    if let Some(changed) = change.keywords {
        strings(out, "keywords", changed);
    }
}

fn full(out: &mut Vec<u8>, context: &Context<'_>, details: &Details<'_>) {
    write_key(out, "timestamp");
    out.push(b'"');
    time::write_utc_ms(out, context.timestamp);
    out.push(b'"');
    string(out, "service", context.service);
    optional(out, "session", context.session);
    optional(out, "clientIP", context.client_ip);
    optional(out, "mailboxID", context.mailbox_id);
    if let Some(status) = context.status {
        number(out, "modseq", status.modseq);
        number(out, "messages", u64::from(status.messages));
        number(out, "unseen", u64::from(status.unseen));
        number(out, "recent", u64::from(status.recent));
        number(out, "uidnext", u64::from(status.uidnext));
    }
    match details {
        Details::MessageNew(message) | Details::MessageAppend(message) => {
            if let Some(extra) = &message.full {
                full_message(out, message, extra);
            }
        }
        Details::FlagsClear(FlagChange { old: Some(old), .. }) => {
            flags(out, "oldFlags", old.flags);
            strings(out, "oldKeywords", old.keywords);
        }
        _ => {}
    }
    if !context.metadata.is_empty() {
        object(out, "metadata", context.metadata);
    }
    if let Details::MessageAppend(NewMessage {
        date: Some(date),
        full: Some(_),
        ..
    }) = details
    {
        mail_date(out, *date);
    }
}

fn full_message(out: &mut Vec<u8>, message: &NewMessage<'_>, extra: &FullMessage<'_>) {
    optional(out, "messageID", extra.message_id);
    if let Some(size) = extra.size {
        number(out, "messageSize", size);
    }
    optional(out, "fromAddress", extra.from_address);
    optional(out, "fromDisplayName", extra.from_display_name);
    optional(out, "toAddress", extra.to_address);
    optional(out, "toDisplayName", extra.to_display_name);
    optional(out, "subjectDecoded", extra.subject_decoded);
    if let Some(date) = message.date {
        write_key(out, "tz");
        if date.tz_minutes < 0 {
            out.push(b'-');
        }
        write_number(out, u64::from(date.tz_minutes.unsigned_abs()));
    }
    flags(out, "flags", extra.flags);
    strings(out, "keywords", extra.keywords);
}

fn string(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    write_key(out, name);
    write_string(out, value);
}

fn optional(out: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        string(out, name, value);
    }
}

fn number(out: &mut Vec<u8>, name: &str, value: u64) {
    write_key(out, name);
    write_number(out, value);
}

fn flags(out: &mut Vec<u8>, name: &str, value: Flags) {
    array(out, name, value.names().map(str::as_bytes));
}

fn strings(out: &mut Vec<u8>, name: &str, values: &[&[u8]]) {
    array(out, name, values.iter().copied());
}

fn array<'a>(out: &mut Vec<u8>, name: &str, values: impl Iterator<Item = &'a [u8]>) {
    write_key(out, name);
    out.push(b'[');
    for (i, value) in values.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, value);
    }
    out.push(b']');
}

fn object(out: &mut Vec<u8>, name: &str, fields: &[Field]) {
    write_key(out, name);
    out.push(b'{');
    for (i, field) in fields.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, &field.name);
        out.push(b':');
        write_string(out, &field.value);
    }
    out.push(b'}');
}
