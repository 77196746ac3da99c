//! What mail push has done since its start, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::sources::{HttpNotify, ImapIdle, NotifyStats};

/// Counts as they grow.
#[derive(Debug)]
pub(crate) struct Counters {
    counts: [AtomicU64; Count::ALL.len()],
    /// Streams that are open.
    streams: AtomicU64,
    sources: OnceLock<SourceCounters>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; Count::ALL.len()],
            streams: AtomicU64::default(),
            sources: OnceLock::default(),
        }
    }
}

/// What sources count themselves; those that are not configured are not there.
#[derive(Default)]
pub(crate) struct SourceCounters {
    pub(crate) dovecot: Option<Arc<HttpNotify>>,
    pub(crate) idle: Option<Arc<ImapIdle>>,
    pub(crate) datagrams: Option<Arc<NotifyStats>>,
}

impl std::fmt::Debug for SourceCounters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

/// All that is shown of mail push.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// By name.
    pub(crate) counts: Vec<(&'static str, u64)>,
    /// Streams that are open.
    pub(crate) streams: u64,
    /// Mailboxes in which a listener waits for what happens.
    pub(crate) listening: u64,
    /// By source and name.
    pub(crate) sources: Vec<(SourceKind, &'static str, u64)>,
}

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Event that was looked at.
    Event,
    /// Event that is no event of a person.
    Unreadable,
    /// Event that is too old to ring for.
    Late,
    /// Device that an event did not ring, because the event is older than its subscription.
    BeforeSubscription,
    /// Event of which the log has lost the record.
    Lost,
    /// Push that was written.
    Written,
    /// Message that was added to a push that waits.
    Gathered,
    /// Push whose mail was read or is gone before it was sent.
    TakenBack,
    /// Push that closes what a device shows.
    Closing,
    /// Push that was dropped because too many waited for its device.
    Crowded,
    /// Push that its service has.
    Accepted,
    /// Attempt that has failed and is made again.
    Retried,
    /// Attempt that was put off because its host has asked for time.
    Held,
    /// Attempt that was put off because quiet hours have begun.
    Quiet,
    /// Push that its service never takes.
    Refused,
    /// Push that was replaced or taken back while it was claimed.
    Replaced,
    /// Push whose device was registered anew while it was claimed: it is claimed again.
    Readdressed,
    /// Push whose deadline is over.
    Overdue,
    /// Device that is gone, and was removed.
    Gone,
    /// Push or subscription that is another person's: it was not sent.
    WrongPerson,
    /// Push whose device cannot be read.
    Unopened,
    /// Condition that would cost too much, and does not hold.
    Costly,
    /// Part of mail push, or listener, that has panicked and begun anew.
    Panicked,
    /// Login of the master user that the mail server has refused; it is tried again.
    MasterRefused,
    /// Attempt to hear a mailbox that has failed for another reason; it is made again.
    Unheard,
    /// Listener that has neither begun nor ended in time, or round of all of them.
    Hung,
    /// Time at which a node could not say that it lives, and has ended its listeners.
    NodeLost,
    /// Row of the store that cannot be read, and was left out.
    UnreadableRow,
    /// Datagram whose name is several persons', so that none was rung.
    Ambiguous,
    /// Datagram that rang nobody, because too many persons waited to be looked at.
    DatagramDropped,
    /// Attempt to take METADATA away that has failed; it is made again.
    NotTakenAway,
    /// METADATA that could not be taken away for a week, and stays.
    GivenUp,
    /// Message that a stream was told.
    Streamed,
    /// Stream that was cut because its reader is too slow.
    StreamCut,
    /// Stream that found no place.
    StreamRefused,
    /// Stream whose client answers no pings.
    StreamSilent,
    /// Gap that a stream was told of: the log has not all of what was to be told.
    StreamGap,
}

impl Count {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 37] = [
        Self::Event,
        Self::Unreadable,
        Self::Late,
        Self::BeforeSubscription,
        Self::Lost,
        Self::Written,
        Self::Gathered,
        Self::TakenBack,
        Self::Closing,
        Self::Crowded,
        Self::Accepted,
        Self::Retried,
        Self::Held,
        Self::Quiet,
        Self::Refused,
        Self::Replaced,
        Self::Readdressed,
        Self::Overdue,
        Self::Gone,
        Self::WrongPerson,
        Self::Unopened,
        Self::Costly,
        Self::Panicked,
        Self::MasterRefused,
        Self::Unheard,
        Self::Hung,
        Self::NodeLost,
        Self::UnreadableRow,
        Self::Ambiguous,
        Self::DatagramDropped,
        Self::NotTakenAway,
        Self::GivenUp,
        Self::Streamed,
        Self::StreamCut,
        Self::StreamRefused,
        Self::StreamSilent,
        Self::StreamGap,
    ];

    /// Name of it in the metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Unreadable => "unreadable",
            Self::Late => "late",
            Self::BeforeSubscription => "before_subscription",
            Self::Lost => "lost",
            Self::Written => "written",
            Self::Gathered => "gathered",
            Self::TakenBack => "taken_back",
            Self::Closing => "closing",
            Self::Crowded => "crowded",
            Self::Accepted => "accepted",
            Self::Retried => "retried",
            Self::Held => "held",
            Self::Quiet => "quiet",
            Self::Refused => "refused",
            Self::Replaced => "replaced",
            Self::Readdressed => "readdressed",
            Self::Overdue => "overdue",
            Self::Gone => "gone",
            Self::WrongPerson => "wrong_person",
            Self::Unopened => "unopened",
            Self::Costly => "costly",
            Self::Panicked => "panicked",
            Self::MasterRefused => "master_refused",
            Self::Unheard => "unheard",
            Self::Hung => "hung",
            Self::NodeLost => "node_lost",
            Self::UnreadableRow => "unreadable_row",
            Self::Ambiguous => "ambiguous",
            Self::DatagramDropped => "datagram_dropped",
            Self::NotTakenAway => "not_taken_away",
            Self::GivenUp => "given_up",
            Self::Streamed => "streamed",
            Self::StreamCut => "stream_cut",
            Self::StreamRefused => "stream_refused",
            Self::StreamSilent => "stream_silent",
            Self::StreamGap => "stream_gap",
        }
    }
}

impl SourceCounters {
    fn all(&self) -> Vec<(SourceKind, &'static str, u64)> {
        let mut all = Vec::new();
        let mut of = |source, counts: &[(&'static str, u64)]| {
            all.extend(counts.iter().map(|(name, count)| (source, *name, *count)));
        };
        if let Some(dovecot) = &self.dovecot {
            of(SourceKind::Dovecot, &dovecot.stats().counts());
        }
        if let Some(idle) = &self.idle {
            of(SourceKind::ImapIdle, &idle.stats().counts());
        }
        if let Some(datagrams) = &self.datagrams {
            of(SourceKind::MailNotify, &datagrams.counts());
        }
        all
    }
}

impl Counters {
    /// The sources are these.
    pub(crate) fn sources_are(&self, sources: SourceCounters) {
        // There is one set of listeners.
        let _ = self.sources.set(sources);
    }

    pub(crate) fn add(&self, what: Count, count: u64) {
        self.counts[what as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, what: Count) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// Sets how many streams are open.
    pub(crate) fn streams(&self, count: usize) {
        self.streams.store(count as u64, Ordering::Relaxed);
    }

    /// What is shown of it.
    pub(crate) fn shown(&self) -> Shown {
        let named = |what: Count| (what.name(), self.get(what));
        let sources = self.sources.get();
        let idle = sources.and_then(|sources| sources.idle.as_ref());
        Shown {
            counts: Count::ALL.into_iter().map(named).collect(),
            streams: self.streams.load(Ordering::Relaxed),
            listening: idle.map_or(0, |idle| idle.stats().listening.load(Ordering::Relaxed)),
            sources: sources.map(SourceCounters::all).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_has_its_place() {
        for (place, what) in Count::ALL.into_iter().enumerate() {
            assert_eq!(what as usize, place, "{what:?}");
        }
    }
}
