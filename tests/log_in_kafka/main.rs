//! The log in a real Kafka: groups, rebalancing, commits, outages; what was read is counted against
//! what was appended.
//!
//! Where no Kafka can be had each case says so and is counted as ignored.

mod anew;
mod compacted;
mod refused;
mod removed;
mod shares;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dovecast_log::kafka::{KafkaConsumer, KafkaLog, KafkaOptions};
use dovecast_log::{Consumer, Log, LogError, NewRecord, Position, Reader, Record, StartAt};
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::{Unavailable, clock};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

const TOPIC: &str = "events";
const PARTITIONS: i32 = 6;
const USERS: u32 = 20;
/// The time of the record with number 0; the numbers of others are added as milliseconds.
static START_MS: LazyLock<i64> = LazyLock::new(clock::now_ms);
const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

type Case = fn(RealKafka, &tokio::runtime::Runtime) -> Result<()>;

const CASES: [(&str, Case); 13] = [
    (
        "members_of_a_group_share_the_partitions_and_each_record_is_read_once",
        |kafka, runtime| runtime.block_on(shares::shared(kafka)),
    ),
    (
        "what_a_member_has_not_committed_when_it_goes_another_gets",
        |kafka, runtime| runtime.block_on(uncommitted(kafka)),
    ),
    (
        "members_that_come_and_go_under_load_leave_nothing_out",
        |kafka, runtime| runtime.block_on(rebalanced(kafka)),
    ),
    (
        "a_commit_for_a_partition_that_was_taken_away_is_left_out",
        |kafka, runtime| runtime.block_on(late_commit(kafka)),
    ),
    (
        "an_append_waits_for_a_cluster_that_is_away",
        |kafka, runtime| runtime.block_on(away(kafka)),
    ),
    (
        "a_backlog_for_a_topic_with_small_batches_arrives_but_for_what_is_too_large_itself",
        |kafka, runtime| runtime.block_on(refused::small_batches(kafka)),
    ),
    (
        "a_member_that_is_slower_than_the_group_allows_for_a_poll_keeps_its_partitions",
        |kafka, runtime| runtime.block_on(slow_member(kafka)),
    ),
    (
        "a_record_that_is_too_large_is_refused_alone_and_times_are_found",
        |kafka, runtime| runtime.block_on(refused::and_times(kafka)),
    ),
    (
        "records_that_were_removed_are_told_apart_from_what_transactions_leave",
        |kafka, runtime| runtime.block_on(removed::told_apart_from_transactions(kafka)),
    ),
    (
        "offsets_that_compaction_leaves_without_a_record_are_no_records_that_were_removed",
        |kafka, runtime| runtime.block_on(compacted::is_nothing_removed(kafka)),
    ),
    (
        "what_a_topic_takes_is_known_from_its_settings",
        |kafka, runtime| runtime.block_on(removed::settings(kafka)),
    ),
    (
        "of_several_topics_each_consumer_has_its_share_of_each",
        |kafka, runtime| runtime.block_on(shares::each_has_its_share_of_each_topic(kafka)),
    ),
    (
        "topics_made_anew_are_read_whatever_had_been_read_and_committed_of_them",
        |kafka, runtime| runtime.block_on(anew::all(kafka)),
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let trials = CASES.map(|(name, case)| {
        Trial::ignorable_test(name, move || match run(case) {
            Ok(Ok(())) => Ok(Completion::Completed),
            Ok(Err(unavailable)) => {
                println!("\n*** {name} SKIPPED: no real Kafka can be had: {unavailable}\n");
                Ok(Completion::ignored_with(unavailable.to_string()))
            }
            Err(error) => Err(Failed::from(dovecast_testkit::failure(&error))),
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn run(case: Case) -> Result<Result<(), Unavailable>> {
    let kafka = match RealKafka::start()? {
        Ok(kafka) => kafka,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    kafka.create_topic(TOPIC, PARTITIONS)?;
    let runtime = tokio::runtime::Runtime::new()?;
    case(kafka, &runtime).map(Ok)
}

fn connect(kafka: &RealKafka) -> Result<KafkaLog> {
    connect_with(kafka, &[])
}

fn connect_with(kafka: &RealKafka, more: &[(&str, &str)]) -> Result<KafkaLog> {
    let properties = [
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "500"),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Ok(KafkaLog::connect(&KafkaOptions {
        brokers: kafka.bootstrap_plaintext(),
        properties: properties.iter().chain(more).copied().map(owned).collect(),
    })?)
}

fn record(user: u32, number: u32) -> NewRecord {
    NewRecord {
        topic: Arc::from(TOPIC),
        key: Some(format!("user{user}").into()),
        value: number.to_string().into(),
        headers: Vec::new(),
        timestamp_ms: *START_MS + i64::from(number),
        id: None,
    }
}

/// One of each user, with the same number.
fn round(number: u32) -> Vec<NewRecord> {
    (0..USERS).map(|user| record(user, number)).collect()
}

async fn consumer(log: &KafkaLog) -> Result<KafkaConsumer> {
    Ok(log.consumer("readers", &[TOPIC.to_owned()]).await?)
}

/// What was read, by key, in the order in which it was read.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<u32>>);

impl Seen {
    fn take(&mut self, records: &[Record]) -> Result<()> {
        for record in records {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let key = text(record.key.as_deref().context("no key")?);
            self.0
                .entry(key)
                .or_default()
                .push(text(&record.value).parse()?);
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// That of each user `0..rounds` was read, in order and once.
    fn check_once(&self, rounds: u32) -> Result<()> {
        let expected: Vec<u32> = (0..rounds).collect();
        ensure!(self.0.len() == USERS as usize, "{} users", self.0.len());
        for (user, numbers) in &self.0 {
            ensure!(*numbers == expected, "of {user}: {numbers:?}");
        }
        Ok(())
    }
}

/// Reads and commits until nothing has come for a while after `count` records.
async fn read(member: &mut KafkaConsumer, seen: &mut Seen, count: usize) -> Result<()> {
    while seen.count() < count {
        let records = tokio::time::timeout(ARRIVAL, member.next()).await;
        let records = records.with_context(|| format!("{} of {count}", seen.count()))??;
        seen.take(&records)?;
        member.commit(&Position::behind(&records)).await?;
    }
    Ok(())
}

async fn uncommitted(kafka: RealKafka) -> Result<()> {
    let log = connect(&kafka)?;
    log.append(round(0)).await?;
    let mut first = consumer(&log).await?;
    read(&mut first, &mut Seen::default(), USERS as usize).await?;
    log.append(round(1)).await?;
    let mut lost = Seen::default();
    while lost.count() < USERS as usize {
        lost.take(&tokio::time::timeout(ARRIVAL, first.next()).await??)?;
    }
    drop(first);
    let mut second = consumer(&log).await?;
    let mut seen = Seen::default();
    read(&mut second, &mut seen, USERS as usize).await?;
    ensure!(
        seen.0.values().all(|numbers| *numbers == [1]),
        "{:?}",
        seen.0
    );
    Ok(())
}

async fn rebalanced(kafka: RealKafka) -> Result<()> {
    const ROUNDS: u32 = 400;
    let log = connect(&kafka)?;
    let seen = Arc::new(tokio::sync::Mutex::new(Seen::default()));
    let is_over = Arc::new(AtomicBool::new(false));
    let appending = tokio::spawn({
        let log = log.clone();
        async move {
            for number in 0..ROUNDS {
                log.append(round(number)).await?;
                // The pace of the load, so that it lasts while members come and go.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        }
    });
    // One stays, others come, read a little without committing the last of it, and go.
    let mut members = Vec::new();
    for at in 0..3_u64 {
        let (log, seen, is_over) = (log.clone(), Arc::clone(&seen), Arc::clone(&is_over));
        members.push(tokio::spawn(async move {
            while !is_over.load(Ordering::Acquire) {
                let mut member = consumer(&log).await?;
                let end = Instant::now() + Duration::from_secs(2 + 3 * at);
                while !is_over.load(Ordering::Acquire) && (at == 0 || Instant::now() < end) {
                    let next = tokio::time::timeout(Duration::from_millis(500), member.next());
                    let Ok(records) = next.await else { continue };
                    let records = records?;
                    seen.lock().await.take(&records)?;
                    if at == 0 || Instant::now() < end {
                        member.commit(&Position::behind(&records)).await?;
                    }
                }
            }
            anyhow::Ok(())
        }));
    }
    appending.await??;
    let total = (ROUNDS * USERS) as usize;
    let deadline = Instant::now() + ARRIVAL;
    let distinct = loop {
        let distinct: usize = {
            let seen = seen.lock().await;
            let distinct = |numbers: &Vec<u32>| numbers.iter().collect::<BTreeSet<_>>().len();
            seen.0.values().map(distinct).sum()
        };
        if distinct == total || Instant::now() > deadline {
            break distinct;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    is_over.store(true, Ordering::Release);
    for member in members {
        member.await??;
    }
    ensure!(distinct == total, "{distinct} of {total} were read");
    let seen = seen.lock().await;
    println!("{} records were read again", seen.count() - total);
    Ok(())
}

async fn late_commit(kafka: RealKafka) -> Result<()> {
    let log = connect(&kafka)?;
    log.append(round(0)).await?;
    let mut first = consumer(&log).await?;
    let mut records = Vec::new();
    while records.len() < USERS as usize {
        records.extend(tokio::time::timeout(ARRIVAL, first.next()).await??);
    }
    // A second member takes half of them over; the first commits what it had read before.
    let mut second = consumer(&log).await?;
    let mut seen = Seen::default();
    let taken = tokio::time::timeout(ARRIVAL, second.next()).await??;
    seen.take(&taken)?;
    first.commit(&Position::behind(&records)).await?;
    let groups = log.groups().await?;
    let committed: BTreeSet<u32> = groups
        .iter()
        .filter(|group| group.group == "readers" && group.committed > 0)
        .map(|group| group.partition)
        .collect();
    let theirs: BTreeSet<u32> = taken.iter().map(|record| record.partition).collect();
    ensure!(
        committed.is_disjoint(&theirs) && !committed.is_empty(),
        "committed {committed:?}, which {theirs:?} are another's"
    );
    Ok(())
}

async fn away(mut kafka: RealKafka) -> Result<()> {
    let log = connect(&kafka)?;
    log.append(round(0)).await?;
    kafka.kill()?;
    let appending = tokio::spawn({
        let log = log.clone();
        async move {
            for number in 1..20 {
                log.append(round(number)).await?;
            }
            Ok::<(), LogError>(())
        }
    });
    let kafka = tokio::task::spawn_blocking(move || kafka.restart().map(|()| kafka)).await??;
    tokio::time::timeout(ARRIVAL, appending).await???;
    let mut seen = Seen::default();
    let mut reader = log.reader(TOPIC, StartAt::Beginning).await?;
    while seen.count() < (20 * USERS) as usize {
        seen.take(&tokio::time::timeout(ARRIVAL, reader.next()).await??)?;
    }
    drop(kafka);
    seen.check_once(20)
}

async fn slow_member(kafka: RealKafka) -> Result<()> {
    const ROUNDS: u32 = 1500;
    let longest = [("max.poll.interval.ms", "6000")];
    let log = connect_with(&kafka, &longest)?;
    for first in (0..ROUNDS).step_by(100) {
        log.append((first..first + 100).flat_map(round).collect())
            .await?;
    }
    let mut member = consumer(&log).await?;
    let mut seen = Seen::default();
    read(&mut member, &mut seen, 1).await?;
    // This is the slowness itself: longer than a member may be silent, `max.poll.interval.ms`. More
    // is fetched than there is room for.
    tokio::time::sleep(Duration::from_secs(9)).await;
    read(&mut member, &mut seen, (ROUNDS * USERS) as usize).await?;
    seen.check_once(ROUNDS)
}
