//! From the log to pushes that wait: follows the events as a consumer group of its own, finds the
//! subscriptions of their persons, and writes what is to be pushed. The offset is committed only
//! when that is written; what is read again after a crash replaces itself, or was told.

use std::sync::Arc;
use std::time::Duration;

use dovecast_event::Record;
use dovecast_log::{Consumer, LineLimit, Log, LogError, Position, now_ms};
use dovecast_mail_push::plan::{deadline_ms, plan};
use dovecast_mail_push::{EventPlan, MailEvent, Person, Subscription};
use dovecast_notification::{EventAccount, Notification};
use dovecast_store::{Store, SubscriptionRecord};

use super::conditions::{Compiled, OfEvent};
use super::counters::{Count, Counters};
use super::sender::News;

/// Events whose plans are written in one transaction.
const EVENTS_AT_A_TIME: usize = 256;
/// How long until the log or the store is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How far the clock of whoever has appended a record, or of whoever has written when a
/// subscription was made, may be from ours.
const SKEW_MS: i64 = 60_000;

/// About a log that cannot be read, and a store that takes no pushes.
static LINES: LineLimit = LineLimit::a_minute(1);
/// About events that are lost.
static LOST_LINES: LineLimit = LineLimit::a_minute(20);

/// What events are turned into pushes with.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(super) store: Store,
    pub(super) account: EventAccount,
    pub(super) counters: Arc<Counters>,
    /// Whoever sends is told that something waits.
    pub(super) news: News,
    compiled: Arc<Compiled>,
}

/// An event with the record it was in.
struct Told {
    event: MailEvent,
    notification: Notification,
    time_ms: i64,
}

impl Engine {
    pub(super) fn new(
        store: Store,
        account: EventAccount,
        counters: Arc<Counters>,
        news: News,
    ) -> Self {
        Self {
            store,
            account,
            counters,
            news,
            compiled: Arc::default(),
        }
    }

    /// Follows the log until it is closed.
    pub(super) async fn follow<L: Log>(&self, log: &L, group: &str, topics: &[String]) {
        let mut consumer = loop {
            match log.consumer(group, topics).await {
                Ok(consumer) => break consumer,
                Err(LogError::Closed) => return,
                Err(error) => self.trouble(&error).await,
            }
        };
        loop {
            match consumer.next().await {
                Ok(records) => {
                    for records in records.chunks(EVENTS_AT_A_TIME) {
                        while !self.take(records).await {
                            tokio::time::sleep(RETRY_INTERVAL).await;
                        }
                    }
                    if let Err(error) = consumer.commit(&Position::behind(&records)).await {
                        // The next commit says the same and more.
                        self.trouble(&error).await;
                    }
                }
                Err(LogError::Closed) => return,
                Err(error @ (LogError::Expired { .. } | LogError::Corrupt { .. })) => {
                    self.counters.add(Count::Lost, 1);
                    if LOST_LINES.take() {
                        tracing::error!(%error, "events are lost, and no device is told of them");
                    }
                }
                Err(error) => self.trouble(&error).await,
            }
        }
    }

    async fn trouble(&self, error: &LogError) {
        if LINES.take() {
            tracing::warn!(%error, "mail push cannot read the log; this is retried");
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }

    /// Writes what records mean for devices; `false`: the store is away.
    async fn take(&self, records: &[Record]) -> bool {
        let now_ms = now_ms();
        let told: Vec<Told> = records
            .iter()
            .filter_map(|record| self.read(record, now_ms))
            .collect();
        if told.is_empty() {
            return true;
        }
        match self.write(told, now_ms).await {
            Ok(()) => true,
            Err(error) => {
                if LINES.take() {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    tracing::warn!(
                        error,
                        "pushes cannot be written to the store; this is retried"
                    );
                }
                false
            }
        }
    }

    async fn write(&self, told: Vec<Told>, now_ms: i64) -> dovecast_store::Result<()> {
        let mut persons: Vec<Person> = Vec::new();
        for one in &told {
            if !persons.contains(&one.event.person) {
                persons.push(one.event.person.clone());
            }
        }
        let records = self.store.subscriptions_of(&persons).await?;
        if records.is_empty() {
            return Ok(());
        }
        let (compiled, counters) = (Arc::clone(&self.compiled), Arc::clone(&self.counters));
        // Conditions of persons are evaluated, and some are compiled, beside the runtime.
        let planned = tokio::task::spawn_blocking(move || {
            let plan = |one: &Told| planned(one, &records, &compiled, (&counters, now_ms));
            told.iter().map(plan).collect::<Vec<_>>()
        });
        let Ok(plans) = planned.await else {
            // What has panicked once does so again: these events ring nobody.
            self.counters.add(Count::Panicked, 1);
            tracing::error!("a condition has panicked: no device is told of some events");
            return Ok(());
        };
        let written = self.store.write_pushes(&plans).await?;
        for (what, count) in [
            (Count::Written, written.pushes),
            (Count::Gathered, written.gathered),
            (Count::TakenBack, written.taken_back),
            (Count::Closing, written.closings),
            (Count::Crowded, written.crowded),
        ] {
            self.counters.add(what, count);
        }
        if written.pushes + written.closings > 0 {
            self.news.notify_one();
        }
        Ok(())
    }

    fn read(&self, record: &Record, now_ms: i64) -> Option<Told> {
        self.counters.add(Count::Event, 1);
        // Nobody is rung for what is hours old: a group that is new reads all that the log holds.
        if record.timestamp_ms < now_ms - deadline_ms() {
            self.counters.add(Count::Late, 1);
            return None;
        }
        let notification = Notification::from_event(record, &self.account);
        let event = MailEvent::parse(&record.value, &self.account);
        let (Ok(notification), Ok(event)) = (notification, event) else {
            self.counters.add(Count::Unreadable, 1);
            return None;
        };
        Some(Told {
            event,
            notification,
            time_ms: record.timestamp_ms,
        })
    }
}

/// Whether a device was subscribed when an event was told. A subscription that was made in a time
/// to come was made by a clock that was set back since, and is of now: it hides nothing.
fn was_subscribed(created_ms: i64, event_ms: i64, now_ms: i64) -> bool {
    created_ms <= event_ms.saturating_add(SKEW_MS) || created_ms > now_ms.saturating_add(SKEW_MS)
}

/// What an event means for the devices of its person that were subscribed when it was.
fn planned(
    told: &Told,
    records: &[SubscriptionRecord],
    compiled: &Compiled,
    (counters, now_ms): (&Counters, i64),
) -> (Person, EventPlan) {
    let person = &told.event.person;
    let theirs = records
        .iter()
        .filter(|record| record.subscription.person == *person);
    let (theirs, later): (Vec<&SubscriptionRecord>, Vec<_>) =
        theirs.partition(|record| was_subscribed(record.created_ms, told.time_ms, now_ms));
    counters.add(Count::BeforeSubscription, later.len() as u64);
    let theirs: Vec<Subscription> = theirs
        .into_iter()
        .map(|record| record.subscription.clone())
        .collect();
    let mut conditions = OfEvent::new(compiled, &told.notification, counters);
    let plan = plan(&told.event, &theirs, &mut conditions, now_ms);
    counters.add(Count::WrongPerson, plan.others as u64);
    (person.clone(), plan)
}
