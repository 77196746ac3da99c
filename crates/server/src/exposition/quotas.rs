//! What accounts were refused, or have lost, because they have taken what they may.

use dovecast_operations::QuotaStats;
use dovecast_store::Trimmed;

use super::Exposition;
use crate::sources::ox::GuessStats;

pub(super) fn refused(out: &mut Exposition, stats: &QuotaStats) {
    out.counter(
        "dovecast_quota_refused_total",
        "What accounts and tokens were refused because they have taken what they may, by what it was.",
    );
    for (what, count) in [
        ("message", stats.refused_messages),
        ("token_message", stats.refused_token_messages),
        ("test", stats.refused_tests),
        ("identity", stats.refused_identities),
        ("read", stats.refused_reads),
    ] {
        out.sample(&[("of", what)], count);
    }
}

pub(super) fn trimmed(out: &mut Exposition, trimmed: &Trimmed) {
    out.counter(
        "dovecast_quota_removed_total",
        "What was removed because its account had too much of it, by what it was; rows of attempts hold several.",
    );
    for (what, count) in [
        ("dead_letter", trimmed.dead_letters),
        ("attempt_row", trimmed.attempt_rows),
    ] {
        out.sample(&[("of", what)], count);
    }
}

/// Requests that nobody may send as they were.
pub(super) fn ox(out: &mut Exposition, stats: &GuessStats) {
    out.counter(
        "dovecast_ox_refused_total",
        "Requests of Dovecot's driver ox that were refused, by why: a wrong user or password, or too many of them from one address.",
    );
    for (reason, count) in [("password", stats.refused), ("held_off", stats.held_off)] {
        out.sample(&[("reason", reason)], count);
    }
}
