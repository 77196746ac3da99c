//! Looks now and then at ranges that no dispatcher has claimed, and that none may ever claim: those
//! of endpoints that are paused, of topics that are not dispatched, of partitions that are not
//! there.
//!
//! What of them the log does not have any more is ended, and counted as it would be if it were
//! read. What is owed of a topic that is not dispatched stays, and the log says so: its records are
//! read as nothing until the configuration says what they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::Log;

use crate::behind::MISSING_CHECKS;
use crate::bounds::Bounds;
use crate::ledger::{Ledger, LedgerError, OwedRange, TopicPartition};
use crate::range_reader::RANGE_RETRY_INTERVAL;
use crate::shared::Shared;
use crate::stats::count;

/// Time between two looks: what is ended is ended by retention, which takes hours.
const LOOK_INTERVAL: Duration = Duration::from_mins(5);
/// Endpoints that a line about a topic names.
const NAMED: usize = 20;

pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    let mut told = BTreeSet::new();
    loop {
        if shared.can_read()
            && let Err(error) = look(&shared, &mut told).await
        {
            shared.ledger_failed(&error).await;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn look<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    told: &mut BTreeSet<Arc<str>>,
) -> Result<(), LedgerError> {
    let owed = async { shared.ledger.partitions_of_free_ranges().await };
    let mut partitions: BTreeMap<Arc<str>, Vec<u32>> = BTreeMap::new();
    for of in shared.ask(owed).await? {
        partitions.entry(of.topic).or_default().push(of.partition);
    }
    told.retain(|topic| partitions.contains_key(topic));
    for (topic, numbers) in partitions {
        let bounds = bounds(shared, &topic, &numbers).await;
        if let Some(bounds) = bounds {
            end_lost(shared, &topic, &numbers, &bounds).await?;
        }
        if !shared.is_dispatched(&topic) && !told.contains(&topic) {
            tell(shared, &topic).await?;
            told.insert(topic);
        }
    }
    Ok(())
}

/// The bounds of all partitions of a topic; `None`: they are not known now, or there is no such
/// topic, which may come with all that was in it. Where one of these partitions is not there, the
/// log has said so several times.
async fn bounds<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    topic: &Arc<str>,
    numbers: &[u32],
) -> Option<Arc<[Bounds]>> {
    let last = numbers.iter().max().copied()?;
    let last = usize::try_from(last).unwrap_or(usize::MAX);
    let mut checks = 0;
    loop {
        let asked = shared.bounds.since(&shared.log, topic, Instant::now());
        let known = match asked.await {
            Ok(known) => known,
            Err(error) => {
                tracing::debug!(%error, topic = &**topic, "where a topic begins is not known now");
                return None;
            }
        };
        checks += 1;
        if known.is_empty() {
            return None;
        }
        if last < known.len() || checks == MISSING_CHECKS {
            return Some(known);
        }
        tokio::time::sleep(RANGE_RETRY_INTERVAL).await;
    }
}

/// Ends what the log does not have any more, or has no partition for.
async fn end_lost<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    topic: &Arc<str>,
    numbers: &[u32],
    bounds: &[Bounds],
) -> Result<(), LedgerError> {
    for number in numbers {
        let of = TopicPartition {
            topic: Arc::clone(topic),
            partition: *number,
        };
        let place = usize::try_from(*number).unwrap_or(usize::MAX);
        let known = bounds.get(place);
        let until = known.map_or(u64::MAX, |bounds| bounds.begin);
        // Nothing is before the first offset.
        if until == 0 {
            continue;
        }
        loop {
            let ended = async { shared.ledger.end_free_ranges(of.clone(), until).await };
            let ended = shared.ask(ended).await?;
            if ended.is_empty() {
                break;
            }
            for OwedRange { id, from, to } in ended {
                if known.is_some() {
                    count(&shared.counters.expired, to.saturating_sub(from));
                } else {
                    shared.missing(&id, from..to, 0);
                }
            }
        }
    }
    Ok(())
}

/// Says who owes anything of a topic that is not dispatched.
async fn tell<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    topic: &Arc<str>,
) -> Result<(), LedgerError> {
    let now_ms = shared.now_ms();
    let owing = async {
        let topics = vec![Arc::clone(topic)];
        shared.ledger.owing_ranges(now_ms, topics).await
    };
    let owing = shared.ask(owing).await?;
    if owing.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = owing.iter().take(NAMED).map(ToString::to_string).collect();
    tracing::warn!(
        topic = &**topic,
        endpoints = owing.len(),
        endpoint.ids = named.join(" "),
        "endpoints owe records of a topic that is not dispatched: they stay owed until it is dispatched again, or the log has removed them"
    );
    Ok(())
}
