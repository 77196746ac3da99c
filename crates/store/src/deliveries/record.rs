//! Noting what has happened, in one transaction, in the order in which it was said. What becomes of
//! owed deliveries is in [`super::owing`], what of ranges in [`super::ranges`].

use std::collections::{BTreeMap, BTreeSet};

use crate::connection::{Connection, Line, deadlock};
use dovecast_dispatch::ledger::{AttemptRow, Happened};
use dovecast_notification::EndpointId;
use sqlx::Any;
use sqlx::any::AnyArguments;
use sqlx::query::Query;

use super::attempts::Rows;
use super::dead_letters::NewLetters;
use super::owing::{Became, Owing, Removed, Time};
use super::ranges;
use super::status::Seen;
use crate::error::Result;
use crate::open::Store;

pub(crate) type Bound<'q> = Query<'q, Any, AnyArguments>;

/// Most characters of a reason that are kept.
const REASON_CHARS: usize = 2000;

/// Attempts of one record, by endpoint.
type Attempts<'a> = BTreeMap<EndpointId, Vec<&'a AttemptRow>>;

impl Store {
    /// Endpoints are disabled before anything else is written: that is a change of the
    /// registry, in a transaction of its own, and what has been recorded must not be recorded once
    /// more because it has failed.
    pub(super) async fn disable_and_record(&self, happened: &[Happened]) -> Result<()> {
        for happened in happened {
            if let Happened::Disabled(endpoint, reason) = happened {
                self.disable(*endpoint, reason).await?;
            }
        }
        let letters = NewLetters::of(happened.iter().filter_map(|happened| match happened {
            Happened::Dead(letter) => Some(letter),
            _ => None,
        }));
        deadlock::again(|| self.record_happened(happened, &letters)).await
    }

    async fn record_happened(&self, happened: &[Happened], letters: &NewLetters<'_>) -> Result<()> {
        // Taken before the transaction: SQLite has one writer.
        let _writing = self.writing_ranges.lock().await;
        // Asked before, as it may take a connection.
        let ahead_ms = self.due_ahead_ms().await?;
        let mut tx = self.database.begin_writing_in(Line::Deliveries).await?;
        let time = Time {
            made_ms: self.clock.now_ms().saturating_add(ahead_ms),
            ahead_ms,
        };
        let mut owing = Owing::new(self.dispatcher_id(), &self.log, time);
        let mut ranges = self.ranges();
        let mut attempts = Attempts::new();
        for happened in happened {
            match happened {
                Happened::Owed(owed) => {
                    owing.put(&mut tx, (owed, Became::Owed), false).await?;
                }
                Happened::UnderWay(owed) => {
                    owing.put(&mut tx, (owed, Became::Owed), true).await?;
                }
                Happened::FailedAgain(owed) => {
                    owing.put(&mut tx, (owed, Became::Failed), false).await?;
                }
                Happened::GivenBack(owed) => {
                    owing.put(&mut tx, (owed, Became::GivenBack), false).await?;
                }
                Happened::Postponed(id, due_ms) => owing.postpone(&mut tx, id, *due_ms).await?,
                Happened::Done(id) => owing.remove(&mut tx, *id, Removed::Done).await?,
                Happened::Unwanted(id) => owing.remove(&mut tx, *id, Removed::Unwanted).await?,
                Happened::Begun(id, to) => {
                    ranges.say(&mut tx, id, ranges::Became::Begun(*to)).await?;
                }
                Happened::Grown(id, to) => {
                    ranges.say(&mut tx, id, ranges::Became::Grown(*to)).await?;
                }
                Happened::Progress(id, from) => {
                    ranges
                        .say(&mut tx, id, ranges::Became::Moved(*from))
                        .await?;
                }
                Happened::Ended(id, to) => {
                    ranges.say(&mut tx, id, ranges::Became::Ended(*to)).await?;
                }
                Happened::UnwantedRange(id) => {
                    ranges.say(&mut tx, id, ranges::Became::Unwanted).await?;
                }
                Happened::Released(id) => {
                    ranges.say(&mut tx, id, ranges::Became::Released).await?;
                }
                Happened::Attempt(row) => attempts.entry(row.endpoint).or_default().push(row),
                // Letters are ready; the other is a change of the registry, which has a transaction
                // of its own.
                Happened::Dead(_) | Happened::Disabled(..) => {}
            }
        }
        owing.end(&mut tx).await?;
        ranges.write(&mut tx).await?;
        let at = (&self.database, &mut *tx);
        letters.insert(at, &self.log).await?;
        let changed = ranges.changed;
        let mut endpoints: BTreeSet<EndpointId> = attempts.keys().copied().collect();
        endpoints.extend(letters.endpoints());
        let seen = self.attempted(&mut tx, attempts).await?;
        tx.commit().await?;
        self.sweep().grown.extend(endpoints);
        self.held().apply(changed);
        self.failing().apply(seen);
        Ok(())
    }

    /// Writes attempts, and how their endpoints are after them: a statement each for all endpoints,
    /// or few. Last, as other nodes lock the same endpoints.
    async fn attempted(&self, tx: &mut Connection, attempts: Attempts<'_>) -> Result<Seen> {
        let (mut seen, mut rows, mut statuses) = (Seen::new(), Rows::default(), Vec::new());
        for (endpoint, mut attempts) in attempts {
            attempts.sort_by_key(|row| row.time_ms);
            let of = (endpoint, &attempts[..]);
            rows.add(&self.database, tx, of).await?;
            statuses.extend(self.status(endpoint, &attempts, &mut seen));
        }
        rows.insert(&self.database, tx).await?;
        self.note_status(tx, &statuses).await?;
        Ok(seen)
    }
}

/// PostgreSQL takes no NUL, and a peer may say anything.
pub(crate) fn reason(text: &str) -> String {
    let kept = text.chars().take(REASON_CHARS);
    kept.map(|char| if char == '\0' { '\u{fffd}' } else { char })
        .collect()
}
