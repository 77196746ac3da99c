//! What of a key is claimed at a time: its first owed delivery and some that follow it, so that no
//! mailbox transaction among them is begun and not ended, where there is room for that.

use bytes::Bytes;
use dovecast_dispatch::ledger::Owed;
use dovecast_notification::transactions::{PART_BYTES, PART_EVENTS};
use dovecast_notification::{NotificationId, OrderKey};

use super::whole::Whole;
use crate::connection::Connection;
use crate::deliveries::claims::count;
use crate::deliveries::due::owed;
use crate::deliveries::record::Bound;
use crate::error::Result;
use crate::row;

/// Deliveries that show that a transaction is too large to be delivered together.
pub(super) const PART: usize = PART_EVENTS + 1;
/// Deliveries that are read at a time, to find the end of a transaction.
const STEP: usize = 16;

pub(in crate::deliveries) const FOLLOWERS: &str = "SELECT record_offset, claimed_by, octet_length(content) AS bytes FROM owed WHERE endpoint_id = $1 AND order_key = $2 \
    AND record_offset > $3 ORDER BY record_offset LIMIT $4";
const CLAIM: &str = "UPDATE owed SET claimed_by = $5 WHERE endpoint_id = $1 AND order_key = $2 \
    AND record_offset > $3 AND record_offset <= $4 AND claimed_by IS NULL \
    RETURNING endpoint_id, notification_id, content, failures, due_ms, reason, note, log, topic, part, record_offset, order_key";
const UNCLAIM: &str = "UPDATE owed SET claimed_by = NULL WHERE endpoint_id = $1 AND order_key = $2 \
    AND record_offset > $3 AND record_offset <= $4 AND claimed_by = $5";
const CONTENTS: &str = "SELECT record_offset, notification_id, content FROM owed WHERE endpoint_id = $1 AND order_key = $2 \
    AND record_offset > $3 AND record_offset <= $4 AND claimed_by IS NULL ORDER BY record_offset";

/// A key of an endpoint of which the first delivery is claimed.
pub(super) struct Key {
    endpoint: String,
    name: String,
    us: String,
}

/// How much of a key is claimed.
pub(super) struct Limit {
    /// Deliveries with the first one, whatever they are.
    pub(super) share: usize,
    /// Bytes of those that follow the first one. A transaction may need some more.
    pub(super) bytes: usize,
    /// Deliveries where a transaction needs more of them.
    pub(super) enough: usize,
}

/// What follows the first of a key.
struct Followers {
    /// Offsets of those that may be claimed.
    free: Vec<i64>,
    /// Bytes of each of them.
    bytes: Vec<usize>,
    /// What comes behind them.
    behind: Behind,
}

/// What comes behind those that may be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Nothing,
    /// More than were asked for.
    More,
    /// A delivery that is claimed already.
    Claimed,
}

/// What was claimed of a key.
pub(super) enum Run {
    /// The first and what follows it, and whether that is all there is of the key.
    Claimed(Vec<Owed>, bool),
    /// Nothing but the first, which the caller has to give back: a whole transaction takes more
    /// than there is room for.
    NoRoom,
    /// Nothing but the first, which the caller has to give back: of its transaction others have
    /// something in hand. They are done with it, or dead, before long.
    InOtherHands,
}

impl Followers {
    /// How many there are of so many that have no more bytes than this together.
    fn within(&self, most: usize, bytes: usize) -> usize {
        let mut sum = 0_usize;
        let fits = |size: &&usize| {
            sum = sum.saturating_add(**size);
            sum <= bytes
        };
        self.bytes.iter().take(most).take_while(fits).count()
    }
}

impl Key {
    pub(super) fn new(first: &Owed, key: OrderKey, us: String) -> Self {
        Self {
            endpoint: first.endpoint.to_string(),
            name: key.to_string(),
            us,
        }
    }

    /// Claims what follows the first, up to what another dispatcher has claimed.
    /// `waits`: whether a transaction of which others have something in hand is left alone.
    pub(super) async fn claim(
        &self,
        connection: &mut Connection,
        first: Owed,
        limit: Limit,
        waits: bool,
    ) -> Result<Run> {
        let begin = offset(&first);
        let found = self.followers(connection, begin, limit.enough).await?;
        let share = found.within(limit.share.saturating_sub(1), limit.bytes);
        let (share, rest) = found.free.split_at(share);
        let mut run = vec![first];
        let mut end = begin;
        if let Some(to) = share.last() {
            run.extend(self.claim_behind(connection, begin, *to).await?);
            end = *to;
        }
        if rest.is_empty() && found.behind == Behind::Nothing {
            let is_complete = run.len() == share.len() + 1;
            return Ok(Run::Claimed(run, is_complete));
        }
        let mut offsets = Vec::new();
        let mut whole = Whole::default();
        for owed in &run {
            offsets.push(offset(owed));
            whole.take(owed.notification, &owed.content);
        }
        let mut read = end;
        for step in rest.chunks(STEP) {
            let Some(to) = step.last() else { break };
            if whole.count() > 0 || whole.bytes() >= PART_BYTES {
                break;
            }
            for (offset, id, content) in self.contents(connection, read, *to).await? {
                if whole.count() == 0 {
                    offsets.push(offset);
                    whole.take(id, &content);
                }
            }
            read = *to;
        }
        let is_read = rest.last().is_none_or(|last| *last == read);
        let is_enough = limit.enough >= PART || whole.bytes() >= PART_BYTES;
        let kept = match (whole.count(), found.behind) {
            (0, Behind::Claimed) if is_read && waits => 0,
            (0, Behind::Claimed | Behind::Nothing) if is_read => offsets.len(),
            (0, _) if is_enough => whole.but_the_last(),
            (count, _) => count,
        };
        let Some(last) = kept.checked_sub(1).and_then(|last| offsets.get(last)) else {
            self.unclaim_behind(connection, begin, end).await?;
            return Ok(match found.behind {
                Behind::Claimed if is_read => Run::InOtherHands,
                _ => Run::NoRoom,
            });
        };
        if *last > end {
            run.extend(self.claim_behind(connection, end, *last).await?);
        } else if *last < end {
            self.unclaim_behind(connection, *last, end).await?;
            run.truncate(kept);
        }
        let is_complete = found.behind == Behind::Nothing && run.len() == found.free.len() + 1;
        Ok(Run::Claimed(run, is_complete))
    }

    fn query(&self, statement: &'static str, from: i64, to: i64) -> Bound<'static> {
        sqlx::query(statement)
            .bind(self.endpoint.clone())
            .bind(self.name.clone())
            .bind(from)
            .bind(to)
    }

    /// What follows an offset, for so many in all.
    async fn followers(
        &self,
        connection: &mut Connection,
        begin: i64,
        most: usize,
    ) -> Result<Followers> {
        // And one more, if there is one.
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let found = self.query(FOLLOWERS, begin, limit);
        let found = found.fetch_all(connection).await?;
        let mut behind = if found.len() < most {
            Behind::Nothing
        } else {
            Behind::More
        };
        let (mut free, mut bytes) = (Vec::new(), Vec::new());
        for found in found.iter().take(most.saturating_sub(1)) {
            if row::optional_text(found, "claimed_by")?.is_some() {
                behind = Behind::Claimed;
                break;
            }
            free.push(row::number(found, "record_offset")?);
            bytes.push(count(found, "bytes")?);
        }
        Ok(Followers {
            free,
            bytes,
            behind,
        })
    }

    async fn claim_behind(
        &self,
        connection: &mut Connection,
        begin: i64,
        end: i64,
    ) -> Result<Vec<Owed>> {
        let claim = self.query(CLAIM, begin, end).bind(self.us.clone());
        let rows = claim.fetch_all(connection).await?;
        let mut claimed = rows.iter().map(owed).collect::<Result<Vec<Owed>>>()?;
        claimed.sort_by_key(offset);
        Ok(claimed)
    }

    async fn unclaim_behind(
        &self,
        connection: &mut Connection,
        begin: i64,
        end: i64,
    ) -> Result<()> {
        if begin < end {
            let unclaim = self.query(UNCLAIM, begin, end).bind(self.us.clone());
            unclaim.execute(connection).await?;
        }
        Ok(())
    }

    async fn contents(
        &self,
        connection: &mut Connection,
        begin: i64,
        end: i64,
    ) -> Result<Vec<(i64, NotificationId, Bytes)>> {
        let rows = self.query(CONTENTS, begin, end);
        let rows = rows.fetch_all(connection).await?;
        let read = rows.iter().map(|found| {
            let content = row::text(found, "content")?.into();
            let id = row::id(found, "notification_id")?;
            Ok((row::number(found, "record_offset")?, id, content))
        });
        read.collect()
    }
}

/// The place of a delivery of a key.
fn offset(owed: &Owed) -> i64 {
    let place = owed.place.as_ref();
    place.map_or(0, |place| super::super::ranges::offset(place.offset))
}
