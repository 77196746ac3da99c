//! Panics in every part of the dispatcher: nothing is lost, nothing stands still, and each is
//! counted.

mod parts;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dovecast_log::embedded::{Embedded, EmbeddedConsumer, EmbeddedReader};
use dovecast_log::{
    Appended, Assignment, Consumer, GroupStatus, Log, LogError, NewRecord, Position, Reader,
    Record, StartAt, TopicStatus,
};
use tokio::runtime::{Builder, Runtime};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::sink::{Answer, OK, Sink};
use crate::world::{World, until, until_taken};

/// Panics, so many times.
#[derive(Clone, Default)]
pub(crate) struct Mine(Arc<AtomicUsize>);

impl Mine {
    fn lay(&self, times: usize) {
        self.0.store(times, Ordering::SeqCst);
    }

    fn step_on(&self) {
        let less = |left: usize| left.checked_sub(1);
        let step = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        assert!(step.is_err(), "a mine");
    }

    fn left(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Follows the dispatcher's spans and events, and panics at one of them: there is one in each of
/// its parts.
#[derive(Clone)]
struct Trap {
    /// What an event says, level and module of an event, the name of a span, or that and the name
    /// of a field.
    at: &'static str,
    mine: Mine,
    /// Parts of the dispatcher that have said of themselves that they have panicked.
    caught: Arc<Mutex<BTreeSet<String>>>,
}

impl Trap {
    fn at(at: &'static str) -> Self {
        Self {
            at,
            mine: Mine::default(),
            caught: Arc::default(),
        }
    }

    /// Whether a part has panicked.
    fn has_caught(&self, part: &str) -> bool {
        self.caught.lock().expect("not poisoned").contains(part)
    }
}

impl Visit for Trap {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "part" {
            let mut caught = self.caught.lock().expect("not poisoned");
            caught.insert(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" && format!("{value:?}") == self.at {
            self.mine.step_on();
        }
    }
}

impl Subscriber for Trap {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("dovecast_dispatch")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let metadata = span.metadata();
        let name = metadata.name();
        let mut fields = metadata.fields().iter();
        if name == self.at || fields.any(|field| self.at == format!("{name} {}", field.name())) {
            self.mine.step_on();
        }
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if self.at == format!("{} {}", metadata.level(), metadata.target()) {
            self.mine.step_on();
        }
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Threads whose spans and events go through the trap.
fn runtime(trap: Trap) -> Runtime {
    let trap = Dispatch::new(trap);
    Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || {
            // Until the thread ends.
            std::mem::forget(tracing::dispatcher::set_default(&trap));
        })
        .enable_all()
        .build()
        .expect("a runtime")
}

fn panics(world: &World) -> u64 {
    let dispatcher = world.dispatcher.as_ref().expect("it runs");
    dispatcher.stats().panics
}

/// Sends to an endpoint that is up and to one that is down for a while, with panics where `at`
/// says. A record that cannot be read for them is a dead letter; everything else arrives.
async fn check(at: &'static str) {
    const PANICS: usize = 3;
    let mut world = World::new();
    let (up, down) = (Sink::start().await, Sink::start().await);
    down.answer(Answer { status: 503, ..OK });
    world.put(1, &up, |_| {});
    world.put(2, &down, |_| {});
    let trap = Trap::at(at);
    let mine = trap.mine.clone();
    let runtime = runtime(trap);
    {
        let _entered = runtime.enter();
        world.start();
    }
    mine.lay(PANICS);
    world.notify(100).await;
    until(at, || async { panics(&world) > 0 }).await;
    down.answer(OK);
    world.notify(100).await;
    let taken = |sink: &Sink| sink.distinct() + world.ledger.kept().dead.len();
    until(
        &format!("all are taken, after panics at `{at}`"),
        || async { taken(&up) >= 200 && taken(&down) >= 200 },
    )
    .await;
    world.committed().await;
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.owed.is_empty() && kept.ranges.is_empty()
    })
    .await;
    assert_eq!(panics(&world), (PANICS - mine.left()) as u64, "at `{at}`");
    world.stop().await;
    assert!(world.ledger.kept().dead.len() <= PANICS, "at `{at}`");
    runtime.shutdown_background();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_the_log_is_read_costs_a_record_and_stops_no_partition() {
    check("notification").await;
    check("matched").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_deliveries_are_left_to_a_range_loses_none() {
    check("left to a range of the log").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_worker_costs_an_attempt() {
    for at in ["attempt", "delivered", "failed"] {
        check(at).await;
    }
}

/// Without a reactor whatever connects panics.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_panics_fails_its_attempts_and_nothing_else() {
    let mut world = World::new();
    let sink = Sink::start().await;
    world.put(1, &sink, |_| {});
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    {
        let _entered = runtime.enter();
        world.start();
    }
    world.notify(20).await;
    world.committed().await;
    assert!(panics(&world) >= 10, "{}", panics(&world));
    {
        let kept = world.ledger.kept();
        let failed: Vec<_> = kept.attempts.iter().map(|row| &*row.said).collect();
        let is_told = |said: &&str| said.starts_with("the driver has panicked: ");
        assert!(
            !failed.is_empty() && failed.iter().all(is_told),
            "{failed:?}"
        );
    }
    world.stop().await;
    runtime.shutdown_background();
    world.start();
    until_taken(&sink, 20).await;
    until("nothing is owed", || async {
        let kept = world.ledger.kept();
        kept.owed.is_empty() && kept.ranges.is_empty()
    })
    .await;
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_panics_is_asked_again() {
    let mut world = World::new();
    let (up, down) = (Sink::start().await, Sink::start().await);
    down.answer(Answer { status: 503, ..OK });
    world.put(1, &up, |_| {});
    world.put(2, &down, |_| {});
    for round in 0..6 {
        world.ledger.kept().panics = 2;
        if round == 0 {
            world.start();
        }
        until("it has panicked", || async {
            world.ledger.kept().panics == 0
        })
        .await;
        world.notify(20).await;
        until_taken(&up, 20 * (round + 1)).await;
    }
    down.answer(OK);
    until_taken(&down, 120).await;
    world.committed().await;
    assert_eq!(panics(&world), 12);
    world.stop().await;
    assert_eq!(world.ledger.made_again(), 0);
}

/// A log whose consumer and readers panic, and that may be away for readers.
#[derive(Clone)]
pub(crate) struct Mined {
    log: Embedded,
    consumer: Mine,
    reader: Mine,
    is_away: Arc<AtomicBool>,
}

impl Mined {
    pub(crate) fn new(world: &World) -> Self {
        Self {
            log: world.log.clone(),
            consumer: Mine::default(),
            reader: Mine::default(),
            is_away: Arc::default(),
        }
    }

    /// Has so many reads of readers panic.
    pub(crate) fn mine_readers(&self, count: usize) {
        self.reader.lay(count);
    }

    /// Reads of readers that are still to panic.
    pub(crate) fn mines_of_readers(&self) -> usize {
        self.reader.left()
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }
}

pub(crate) struct MinedConsumer(EmbeddedConsumer, Mine);

pub(crate) struct MinedReader(EmbeddedReader, Mine);

impl Log for Mined {
    type Reader = MinedReader;
    type Consumer = MinedConsumer;

    async fn append(&self, records: Vec<NewRecord>) -> Result<Appended, LogError> {
        self.log.append(records).await
    }

    async fn topics(&self) -> Result<Vec<TopicStatus>, LogError> {
        self.log.topics().await
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, LogError> {
        self.log.groups().await
    }

    async fn positions(&self, topic: &str, start: StartAt) -> Result<Vec<u64>, LogError> {
        self.log.positions(topic, start).await
    }

    async fn reader(&self, topic: &str, start: StartAt) -> Result<MinedReader, LogError> {
        let reader = self.log.reader(topic, start).await?;
        Ok(MinedReader(reader, self.reader.clone()))
    }

    async fn reader_at(&self, position: &Position) -> Result<MinedReader, LogError> {
        if self.is_away.load(Ordering::SeqCst) {
            return Err(LogError::Io {
                doing: "read",
                place: "a log".to_owned(),
                reason: "it is away".to_owned(),
            });
        }
        let reader = self.log.reader_at(position).await?;
        Ok(MinedReader(reader, self.reader.clone()))
    }

    async fn consumer(&self, group: &str, topics: &[String]) -> Result<MinedConsumer, LogError> {
        let consumer = self.log.consumer(group, topics).await?;
        Ok(MinedConsumer(consumer, self.consumer.clone()))
    }
}

impl Consumer for MinedConsumer {
    fn assignment(&self) -> Arc<dyn Assignment> {
        self.0.assignment()
    }

    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let records = self.0.next().await;
        self.1.step_on();
        records
    }

    async fn commit(&mut self, positions: &[Position]) -> Result<(), LogError> {
        self.1.step_on();
        self.0.commit(positions).await
    }
}

impl Reader for MinedReader {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let records = self.0.next().await;
        self.1.step_on();
        records
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_panics_is_made_anew_and_nothing_is_left_out() {
    let mut world = World::new();
    let (up, paused) = (Sink::start().await, Sink::start().await);
    world.put(1, &up, |_| {});
    world.put(2, &paused, |endpoint| endpoint.is_paused = true);
    let log = Mined::new(&world);
    world.start_with(log.clone());
    world.notify(100).await;
    world.committed().await;
    // The first meets what is read, the second the commit of what is read again.
    log.consumer.lay(2);
    world.notify(100).await;
    until("it has panicked", || async { log.consumer.left() == 0 }).await;
    until_taken(&up, 200).await;
    world.committed().await;
    // What it owed in a former life it still owes, and gets, whatever the readers do.
    log.reader.lay(2);
    world.put(2, &paused, |_| {});
    until_taken(&paused, 200).await;
    until("nothing is owed", || async {
        world.ledger.kept().ranges.is_empty()
    })
    .await;
    let stats = world.dispatcher.as_ref().expect("it runs").stats();
    world.stop().await;
    assert!((1..=2).contains(&stats.restarts), "{stats:?}");
    assert_eq!(stats.panics, 4, "{stats:?}");
}
