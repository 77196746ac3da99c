//! Reading the log for a range: what comes, where the log begins and ends, and what to do when it
//! cannot be read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::{Log, LogError, Position, Reader};

use super::{GRACE, RANGE_RETRY_INTERVAL, RangeReader, Step};
use crate::ledger::Ledger;
use crate::panics::answered;
use crate::readers::ReaderPlace;
use crate::shared::Shared;
use crate::stats::count;

/// How long the log may not be readable before others get a try ...
const UNREADABLE: Duration = Duration::from_secs(5);
/// ... and before we take anything up again.
const UNREADABLE_REST: Duration = Duration::from_secs(15);

impl<L: Log> RangeReader<L> {
    /// Fetches what comes next, where nothing waits; `Some`: there is nothing to offer now.
    pub(super) async fn read_on<S: Ledger>(
        &mut self,
        shared: &Arc<Shared<L, S>>,
        to: u64,
    ) -> Option<Step>
    where
        L: Clone,
    {
        let began = Instant::now();
        let is_over = self.place.as_ref().is_some_and(ReaderPlace::is_over);
        if is_over && self.may_make_way() && shared.readers.are_wanted() {
            self.close(&shared.budget);
        }
        if self.place.is_none() {
            return Some(Step::WantsReader);
        }
        let fetched = self.fetch(shared);
        let fetched = answered(fetched, |panicked| {
            shared.panicked("log", panicked);
        });
        match fetched.await {
            Ok(()) => {}
            Err(LogError::Corrupt { offsets, .. }) => {
                count(&shared.counters.damaged, 1);
                self.skip_to(shared, offsets.end);
                return Some(Step::Moved);
            }
            Err(LogError::Expired { offsets, .. }) => {
                let end = offsets.end.min(to);
                count(&shared.counters.expired, end.saturating_sub(offsets.start));
                self.skip_to(shared, end.max(self.next));
                return Some(Step::Moved);
            }
            Err(error) => {
                tracing::warn!(%error, endpoint.id = %self.run.id.endpoint, "a range of the log cannot be read, reading it is retried");
                self.reader = None;
                tokio::time::sleep(RANGE_RETRY_INTERVAL).await;
                // It may be that there is no such offset any more.
                return Some(match self.check_bounds(shared, to, began).await {
                    None | Some(Step::Nothing) => self.unread(shared),
                    Some(step) => step,
                });
            }
        }
        if !self.waiting.is_empty() {
            return None;
        }
        let Some(step) = self.check_bounds(shared, to, began).await else {
            return Some(self.unread(shared));
        };
        self.failing = None;
        Some(step)
    }

    /// The log could not be read.
    fn unread<S: Ledger>(&mut self, shared: &Shared<L, S>) -> Step
    where
        L: Clone,
    {
        let since = *self.failing.get_or_insert_with(Instant::now);
        // What is under way may still end here.
        if since.elapsed() <= UNREADABLE || self.run.under_way() > 0 {
            return Step::Nothing;
        }
        let id = &self.run.id;
        tracing::warn!(
            endpoint.id = %id.endpoint, topic = &*id.topic, partition = id.partition,
            "the log cannot be read: what an endpoint owes of it is left to others"
        );
        shared.cannot_read(UNREADABLE_REST);
        Step::Left
    }

    /// Nothing has come: passes over what the log has dropped, and notices where it ends; `None`:
    /// the log does not answer.
    async fn check_bounds<S: Ledger>(
        &mut self,
        shared: &Shared<L, S>,
        to: u64,
        since: Instant,
    ) -> Option<Step>
    where
        L: Clone,
    {
        let topic = &self.run.id.topic;
        let known = shared.bounds.since(&shared.log, topic, since).await;
        let partitions = known.ok()?;
        if partitions.is_empty() {
            // A topic that is not there may come, with all that was in it.
            return Some(Step::Nothing);
        }
        let place = usize::try_from(self.run.id.partition).unwrap_or(usize::MAX);
        // One that has fewer partitions was made anew.
        let bounds = partitions.get(place).copied().unwrap_or_default();
        if bounds.begin > self.next {
            let next = bounds.begin.min(to);
            count(&shared.counters.expired, next - self.next);
            self.skip_to(shared, next);
            return Some(Step::Moved);
        }
        if bounds.end <= self.next && self.run.under_way() == 0 {
            return Some(Step::Missing { end: bounds.end });
        }
        Some(Step::Nothing)
    }

    async fn fetch<S: Ledger>(&mut self, shared: &Shared<L, S>) -> Result<(), LogError>
    where
        L: Clone,
    {
        let position = Position {
            topic: Arc::clone(&self.run.id.topic),
            partition: self.run.id.partition,
            offset: self.next,
        };
        if self.reader.is_none() {
            self.reader = Some(shared.log.reader_at(&position).await?);
            self.heard = Instant::now();
        }
        if let Some(reader) = &mut self.reader
            && let Ok(records) = tokio::time::timeout(RANGE_RETRY_INTERVAL, reader.next()).await
        {
            let next = self.next;
            let records = records?.into_iter();
            self.waiting
                .extend(records.filter(|record| record.offset >= next));
            self.has_given |= !self.waiting.is_empty();
            if !self.waiting.is_empty() {
                self.heard = Instant::now();
            }
        }
        if self.waiting.is_empty() && self.heard.elapsed() >= GRACE {
            // A log that was made anew is read from its beginning by a reader that was beyond its
            // end.
            // Not earlier: with Kafka a reader may take seconds to connect and to be told of its
            // leader.
            self.reader = None;
        }
        Ok(())
    }
}
