//! The driver `dlog`: the calls that the framework makes, as lines of the log, in the words of
//! Dovecot's driver of this name.
//!
//! Lines have the target `dovecast_dlog` and the level `debug`, so that `[logging] filter` shows
//! them, or only them; each names its user. What they show of mails is what they are for.

use std::sync::Arc;
use std::time::Duration;

use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Outcome, Target, Unit};
use dovecast_log::LineLimit;

use super::event::Event;
use super::options::{OptionError, Options};
use super::{Events, Known, Made, Surroundings};
use crate::log_line::one_line;

/// Options of the driver: there are none.
pub(super) const OPTIONS: &[Known] = &[];

#[expect(
    clippy::unnecessary_wraps,
    reason = "other kinds may refuse their options"
)]
pub(super) fn make(_: &Options<'_>, _: &Surroundings) -> Result<Made, OptionError> {
    Ok(Made::new(Arc::new(Dlog::default()), Events::All))
}

#[derive(Debug, Default)]
pub(super) struct Dlog {
    lines: LineLimit,
}

impl Dlog {
    /// Says once a minute what the plugin leaves out of events that Dovecot's driver shows.
    pub(super) fn look(&self, delivery: &Delivery) {
        let first = delivery.notifications.first();
        let Some(Ok(first)) = first.map(|first| Event::of(first)) else {
            return;
        };
        let mut missing = Vec::new();
        if first.timestamp.is_none() {
            missing.push("detail=full");
        }
        // Only keywords have changed, and none that is shown.
        if first.kind.starts_with("Flags") && first.flags.is_empty() && first.keywords.is_empty() {
            missing.push("keyword_prefix=");
        }
        if !missing.is_empty()
            && let Some(suppressed) = self.lines.take_counted()
        {
            tracing::warn!(
                missing = missing.join(" "),
                suppressed,
                "events lack what the driver dlog shows in Dovecot: set `keyword_prefix= detail=full` for the plugin in Dovecot"
            );
        }
    }
}

impl Target for Dlog {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn unit(&self) -> Unit {
        Unit::Transaction
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Writer(self))
    }
}

struct Writer(Arc<Dlog>);

impl Courier for Writer {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(async {
            self.0.look(delivery);
            match lines(delivery) {
                Ok((user, lines)) => {
                    for line in lines {
                        tracing::debug!(target: "dovecast_dlog", user, "{line}");
                    }
                    Attempt {
                        note: None,
                        outcome: Outcome::Delivered,
                        answer: None,
                        latency: Duration::ZERO,
                    }
                }
                Err(reason) => Attempt::refused(reason),
            }
        })
    }
}

/// The user of a transaction, and what is logged of it.
pub(super) fn lines(delivery: &Delivery) -> Result<(String, Vec<String>), String> {
    let events = delivery.notifications.iter().map(|one| Event::of(one));
    let events = events.collect::<Result<Vec<Event>, _>>()?;
    let user = events.first().map(|event| event.user.clone());
    let called = |hook: &str| format!("Called {hook} push_notification plugin hook.");
    let mut lines = Vec::new();
    if delivery.part.is_first {
        lines.push(called("begin_txn"));
    }
    let mut last = None;
    // Those of an end that is told alone were logged before.
    let untold = events.iter().filter(|_| !delivery.part.is_end_only);
    for event in untold {
        if !event.is_message() {
            lines.push(called("process_mbox"));
            lines.push(format!("Mailbox data: Mailbox [{}]", event.mailbox));
            lines.push(mailbox_line(event));
            continue;
        }
        let of = (&event.mailbox, event.uidvalidity, event.uid);
        if last.replace(of) != Some(of) {
            lines.push(called("process_msg"));
            lines.push(format!(
                "Message data: Mailbox [{}], UID [{}], UIDVALIDITY [{}]",
                event.mailbox, event.uid, event.uidvalidity
            ));
        }
        message_lines(event, &mut lines);
    }
    if delivery.part.is_last {
        lines.push(called("end_txn"));
    }
    // A header of a mail may be folded, or say what looks like a line of the log.
    let lines = lines.iter().map(|line| one_line(line)).collect();
    Ok((user.unwrap_or_default(), lines))
}

fn mailbox_line(event: &Event) -> String {
    let name = &event.kind;
    match &**name {
        "MailboxCreate" => format!("{name}: Mailbox was created"),
        "MailboxDelete" => format!("{name}: Mailbox was deleted"),
        "MailboxRename" => format!(
            "{name}: Mailbox was renamed (old name: {})",
            event.old_mailbox
        ),
        // Dovecot says the same of MailboxUnsubscribe.
        _ => format!("{name}: Mailbox was subscribed to"),
    }
}

fn message_lines(event: &Event, lines: &mut Vec<String>) {
    let name = &event.kind;
    let mut changed = |what: &str| {
        for flag in &event.flags {
            let flag = flag.trim_start_matches('\\');
            lines.push(format!("{name}: {flag} flag {what}"));
        }
        for keyword in &event.keywords {
            // Dovecot's words for these are not those for flags.
            let what = what.trim_end_matches("ed");
            lines.push(format!("{name}: Keyword {what} [{keyword}]"));
        }
    };
    match &**name {
        "FlagsSet" => changed("set"),
        "FlagsClear" => changed("cleared"),
        "MessageRead" => lines.push(format!("{name}: Message was flagged as seen")),
        "MessageTrash" => lines.push(format!("{name}: Message was marked as deleted")),
        "MessageExpunge" => lines.push(format!("{name}: Message was expunged")),
        _ => {
            let fields = [
                ("Date", &event.date),
                ("From", &event.from),
                ("Snippet", &event.snippet),
                ("Subject", &event.subject),
                ("To", &event.to),
            ];
            for (field, value) in fields {
                if let Some(value) = value {
                    lines.push(format!("{name}: {field} [{value}]"));
                }
            }
        }
    }
}
