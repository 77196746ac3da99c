//! What of the topics each consumer of a group has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dovecast_log::{Assignment, Consumer, Log, NewRecord, Position};
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::process;

use crate::{ARRIVAL, PARTITIONS, Seen, TOPIC, USERS, connect, connect_with, consumer, round};

const OTHER: &str = "notifications";

/// How many partitions of each topic a consumer has.
fn shares(assignment: &dyn Assignment) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for partition in assignment.all() {
        *shares.entry(partition.topic.to_string()).or_default() += 1;
    }
    shares
}

/// Waits until each consumer has as many partitions of each of the topics as any other.
fn have_shares(assignments: &[Arc<dyn Assignment>], topics: &[&str]) -> Result<()> {
    let share = usize::try_from(PARTITIONS)? / assignments.len();
    let expected = topics.iter().map(|&topic| (topic.to_owned(), share));
    let expected: BTreeMap<String, usize> = expected.collect();
    let are_even = || {
        let mut shares = assignments.iter().map(|one| shares(&**one));
        shares.all(|one| one == expected).then_some(())
    };
    process::poll_until(ARRIVAL, are_even).with_context(|| {
        let found: Vec<_> = assignments.iter().map(|one| shares(&**one)).collect();
        format!("{found:?} instead of {expected:?} each")
    })
}

pub(crate) async fn each_has_its_share_of_each_topic(kafka: RealKafka) -> Result<()> {
    kafka.create_topic(OTHER, PARTITIONS)?;
    let topics = [TOPIC, OTHER].map(str::to_owned);
    let mut consumers = Vec::new();
    for name in ["node1", "node2", "node3"] {
        // A name that a member has is no other member's.
        let log = connect_with(&kafka, &[("group.instance.id", name)])?;
        consumers.push(log.consumer("readers", &topics).await?);
        let assignments: Vec<_> = consumers.iter().map(Consumer::assignment).collect();
        have_shares(&assignments, &[TOPIC, OTHER])?;
    }
    let log = connect(&kafka)?;
    for topic in [TOPIC, OTHER] {
        let of_topic = |record| NewRecord {
            topic: topic.into(),
            ..record
        };
        log.append(round(0).into_iter().map(of_topic).collect())
            .await?;
    }
    let mut end = BTreeMap::new();
    for topic in log.topics().await? {
        for (status, partition) in topic.partitions.into_iter().zip(0..) {
            end.insert((topic.name.clone(), partition), status.end);
        }
    }
    for consumer in &mut consumers {
        let has = consumer.assignment().all().into_iter();
        let mut left: BTreeMap<_, _> = has
            .map(|of| (of.topic.to_string(), of.partition))
            .filter_map(|of| end.get(&of).map(|end| (of, *end)))
            .filter(|(_, end)| *end > 0)
            .collect();
        ensure!(!left.is_empty(), "{end:?}");
        while !left.is_empty() {
            let records = tokio::time::timeout(ARRIVAL, consumer.next()).await;
            let records = records.with_context(|| format!("{left:?} have not come"))??;
            let read = Position::behind(&records);
            consumer.commit(&read).await?;
            for Position {
                topic,
                partition,
                offset,
            } in read
            {
                let of = (topic.to_string(), partition);
                let before = left.remove(&of).with_context(|| format!("{of:?} again"))?;
                if offset < before {
                    left.insert(of, before);
                }
            }
        }
    }
    let groups = log.groups().await?;
    ensure!(
        groups.iter().all(|group| group.end == group.committed),
        "{groups:?}"
    );
    let Some(group) = groups.first() else {
        bail!("no group");
    };
    let asked = [group.partition, 1_000];
    let progress = log.progress(&group.group, &group.topic, &asked).await?;
    ensure!(progress == [group.clone()], "{progress:?}");
    let of_nobody = log.progress("nobody", &group.topic, &asked).await?;
    ensure!(
        of_nobody.len() == 1 && (of_nobody[0].committed, of_nobody[0].end) == (0, group.end),
        "{of_nobody:?}"
    );
    ensure!(log.progress(&group.group, "none", &[0]).await?.is_empty());
    Ok(())
}

pub(crate) async fn shared(kafka: RealKafka) -> Result<()> {
    const ROUNDS: u32 = 50;
    const POLL_INTERVAL: Duration = Duration::from_millis(500);
    let log = connect(&kafka)?;
    let seen = Arc::new(tokio::sync::Mutex::new(Seen::default()));
    let (mut members, mut assignments) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut member = consumer(&log).await?;
        assignments.push(member.assignment());
        let seen = Arc::clone(&seen);
        members.push(tokio::spawn(async move {
            let mut partitions = BTreeSet::new();
            let deadline = Instant::now() + ARRIVAL;
            while seen.lock().await.count() < (ROUNDS * USERS) as usize {
                ensure!(Instant::now() < deadline, "not everything has come");
                // Another one may read the last of them.
                let next = tokio::time::timeout(POLL_INTERVAL, member.next());
                let Ok(records) = next.await else { continue };
                let records = records?;
                partitions.extend(records.iter().map(|record| record.partition));
                seen.lock().await.take(&records)?;
                member.commit(&Position::behind(&records)).await?;
            }
            anyhow::Ok(partitions)
        }));
    }
    // Given out before the first record is there.
    tokio::task::spawn_blocking(move || have_shares(&assignments, &[TOPIC])).await??;
    for number in 0..ROUNDS {
        log.append(round(number)).await?;
    }
    let mut all = BTreeSet::new();
    for member in members {
        let mine = member.await??;
        ensure!(!mine.is_empty(), "a member has read nothing");
        ensure!(all.is_disjoint(&mine), "{mine:?} were read by another, too");
        all.extend(mine);
    }
    seen.lock().await.check_once(ROUNDS)?;
    let groups = log.groups().await?;
    let lag: u64 = groups.iter().map(|group| group.end - group.committed).sum();
    ensure!(lag == 0, "{groups:?}");
    Ok(())
}
