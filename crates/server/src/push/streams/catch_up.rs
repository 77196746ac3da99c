//! Catching up: what a stream has missed since its cursor is read from the log, up to where the
//! feed was when it came back. It goes no faster than the client reads, and ends the stream of one
//! that reads too slowly.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dovecast_event::Record;
use dovecast_log::{Log, LogError, Position, Reader, StartAt, now_ms};
use dovecast_mail_push::MailEvent;
use dovecast_mail_push::plan::deadline_ms;
use dovecast_notification::EventAccount;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, timeout};

use super::cursor::{Cursor, RecordAt};
use super::hub::Seen;
use super::outlet::{End, Outlet};
use super::told::{Forms, Told};
use super::turns::{Turn, Turns, TurnsOfPerson};
use crate::push::counters::{Count, Counters};

/// Messages that are read ahead of the client.
const AHEAD: usize = 16;
/// How far before the time of a cursor is read, where that is all that is known: clocks of those
/// who append differ. What comes twice so has the same id.
const SKEW_MS: i64 = 2_000;
/// Failures of the log after which a stream goes on with a gap.
const MAX_FAILURES: u32 = 10;
/// How long until the log is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long it is waited for somebody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a client in all, when as many messages wait for it as are read ahead. A stream that is
    /// cut goes on where it was when its client comes back.
    pub(super) client: Duration,
    /// How much of that a message gives back that is read: who reads ten in a second has all the
    /// time that it needs.
    pub(super) message: Duration,
    /// For a record that the log should have. Offsets of Kafka may be markers that nobody reads: a
    /// stream whose records do not come is told of a gap, and goes on.
    pub(super) quiet: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            client: Duration::from_secs(30),
            message: Duration::from_millis(100),
            quiet: Duration::from_secs(5),
        }
    }
}

/// A stream that has missed something.
pub(super) struct CatchUp {
    outlet: Arc<Outlet>,
    from: Cursor,
    until: Seen,
    sink: mpsc::Sender<Caught>,
    turns_of_person: TurnsOfPerson,
    /// `None`: it is waited for.
    turn: Option<Turn>,
    patience: Patience,
    /// How long the client is still waited for.
    left: Duration,
}

/// What catching up brings.
pub(super) enum Caught {
    Told(Arc<Told>),
    /// Some of what was missed is not there any more.
    Gap,
    /// Nothing more was missed.
    All,
}

/// Why there is nothing more to be caught up with.
enum Stop {
    /// Nobody reads it any more, or the log is closed.
    Gone,
    /// The client reads too slowly.
    Slow,
    /// The log has failed again and again.
    Failed,
}

/// What the log is read with.
pub(super) struct Catching<L> {
    pub(super) log: L,
    pub(super) topics: Arc<[String]>,
    pub(super) account: EventAccount,
    pub(super) counters: Arc<Counters>,
    pub(super) turns: Turns,
}

impl CatchUp {
    pub(super) fn new(
        outlet: Arc<Outlet>,
        (from, until): (Cursor, Seen),
        turns_of_person: TurnsOfPerson,
        patience: Patience,
    ) -> (Self, mpsc::Receiver<Caught>) {
        let (sink, caught) = mpsc::channel(AHEAD);
        let catch_up = Self {
            outlet,
            from,
            until,
            sink,
            turns_of_person,
            turn: None,
            patience,
            left: patience.client,
        };
        (catch_up, caught)
    }

    /// Waits for its turn.
    async fn begin(&mut self, turns: &Turns) -> Result<(), Stop> {
        self.turn = tokio::select! {
            turn = turns.take(&self.turns_of_person) => Some(turn),
            () = self.sink.closed() => return Err(Stop::Gone),
        };
        Ok(())
    }

    /// Lets others read if it has for long.
    async fn share(&mut self) -> Result<(), Stop> {
        let Some(turn) = &mut self.turn else {
            return Ok(());
        };
        tokio::select! {
            () = turn.share() => Ok(()),
            () = self.sink.closed() => Err(Stop::Gone),
        }
    }

    /// Hands on what comes next, as soon as there is room for it: nobody waits for the client but
    /// its own stream, and that only as long as there is patience.
    async fn send(&mut self, caught: Caught) -> Result<(), Stop> {
        let caught = match self.sink.try_send(caught) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(Stop::Gone),
            Err(TrySendError::Full(caught)) => caught,
        };
        let (sink, left) = (&self.sink, self.left);
        let read = async {
            let since = Instant::now();
            let room = timeout(left, sink.reserve()).await;
            (room, since.elapsed())
        };
        let (room, waited) = match &mut self.turn {
            Some(turn) => turn.aside(read).await,
            None => read.await,
        };
        let room = room.map_err(|_| Stop::Slow)?.map_err(|_| Stop::Gone)?;
        room.send(caught);
        let left = left.saturating_sub(waited) + self.patience.message;
        self.left = left.min(self.patience.client);
        Ok(())
    }
}

impl<L: Log> Catching<L> {
    /// Tells the stream all that it has missed.
    pub(super) async fn run(&self, mut request: CatchUp) {
        let mut ended = self.tell(&mut request).await;
        if let Err(Stop::Failed) = ended {
            ended = request.send(Caught::Gap).await;
        }
        if ended.is_ok() {
            ended = request.send(Caught::All).await;
        }
        if let Err(Stop::Slow) = ended
            && request.outlet.end(End::Cut)
        {
            self.counters.add(Count::StreamCut, 1);
        }
    }

    async fn tell(&self, request: &mut CatchUp) -> Result<(), Stop> {
        request.begin(&self.turns).await?;
        let now_ms = now_ms();
        // What is older nobody is rung for either.
        let oldest_ms = now_ms - deadline_ms();
        let is_old = request.from.time_ms < oldest_ms;
        if is_old {
            request.send(Caught::Gap).await?;
        }
        for topic in self.topics.iter() {
            let place = request.from.place.clone();
            if let Some(place) = place.filter(|place| *place.topic == **topic && !is_old) {
                self.behind(request, &place, oldest_ms).await?;
            } else {
                if request.from.time_ms > now_ms + SKEW_MS {
                    // What was missed in a time that has not come nobody knows.
                    request.send(Caught::Gap).await?;
                }
                let time_ms = request.from.time_ms.clamp(oldest_ms, now_ms) - SKEW_MS;
                self.since(request, topic, time_ms).await?;
            }
        }
        Ok(())
    }

    /// What is in the partition of a record behind it, unless it is older: the time of a cursor is
    /// what its client says, and may be another than that of the record.
    async fn behind(
        &self,
        request: &mut CatchUp,
        place: &RecordAt,
        oldest_ms: i64,
    ) -> Result<(), Stop> {
        let partition = (Arc::clone(&place.topic), place.partition);
        let until = request.until.get(&partition).copied().unwrap_or(0);
        let from = place.offset.saturating_add(1);
        if from > until {
            let ends = attempt(|| self.log.positions(&place.topic, StartAt::End)).await?;
            let end = ends.get(place.partition as usize).copied().unwrap_or(0);
            if from > end {
                // A log that was begun anew: offsets are names in it of other records.
                return request.send(Caught::Gap).await;
            }
        }
        let oldest = StartAt::Time(oldest_ms - SKEW_MS);
        let oldest = attempt(|| self.log.positions(&place.topic, oldest)).await?;
        let oldest = oldest.get(place.partition as usize).copied().unwrap_or(0);
        if from < oldest {
            request.send(Caught::Gap).await?;
        }
        let from = from.max(oldest);
        if from >= until {
            return Ok(());
        }
        let position = Position {
            topic: Arc::clone(&place.topic),
            partition: place.partition,
            offset: from,
        };
        let mut reader = attempt(|| self.log.reader_at(&position)).await?;
        let targets = HashMap::from([(place.partition, until)]);
        self.read(request, &mut reader, targets).await
    }

    /// What is in a topic since a time.
    async fn since(&self, request: &mut CatchUp, topic: &str, time_ms: i64) -> Result<(), Stop> {
        let start = StartAt::Time(time_ms);
        let begins = attempt(|| self.log.positions(topic, start)).await?;
        let mut targets = HashMap::new();
        for (partition, begin) in (0..).zip(begins.iter().copied()) {
            let until = request.until.get(&(topic.into(), partition));
            if let Some(until) = until.filter(|until| begin < **until) {
                targets.insert(partition, *until);
            }
        }
        let reader = if targets.is_empty() {
            None
        } else {
            Some(attempt(|| self.log.reader(topic, start)).await?)
        };
        // Asked for behind the reader, so that nothing expires between the two. What is begun at
        // the oldest record there is may have had others before it that were missed.
        let oldest = attempt(|| self.log.positions(topic, StartAt::Beginning)).await?;
        let mut ranges = begins.iter().zip(&oldest);
        if ranges.any(|(begin, oldest)| *oldest > 0 && begin <= oldest) {
            request.send(Caught::Gap).await?;
        }
        match reader {
            Some(mut reader) => self.read(request, &mut reader, targets).await,
            None => Ok(()),
        }
    }

    /// Reads until each partition is where the feed was.
    async fn read<R: Reader>(
        &self,
        request: &mut CatchUp,
        reader: &mut R,
        mut targets: HashMap<u32, u64>,
    ) -> Result<(), Stop> {
        let quiet = request.patience.quiet;
        let mut failures = 0;
        // Since when none of the partitions has brought anything that are still read.
        let mut heard = Instant::now();
        while !targets.is_empty() {
            let waits = Instant::now();
            request.share().await?;
            heard += waits.elapsed();
            let left = quiet.saturating_sub(heard.elapsed());
            let next = tokio::select! {
                next = timeout(left, reader.next()) => next,
                () = request.sink.closed() => return Err(Stop::Gone),
            };
            match next {
                Err(_) => return request.send(Caught::Gap).await,
                Ok(Ok(records)) => {
                    failures = 0;
                    let mut is_heard = false;
                    for record in &records {
                        let Some(until) = targets.get(&record.partition).copied() else {
                            continue;
                        };
                        is_heard = true;
                        if record.offset < until {
                            self.take(request, record).await?;
                        }
                        if record.offset + 1 >= until {
                            targets.remove(&record.partition);
                        }
                    }
                    if is_heard {
                        heard = Instant::now();
                    } else if heard.elapsed() >= quiet {
                        return request.send(Caught::Gap).await;
                    }
                }
                Ok(Err(LogError::Closed)) => return Err(Stop::Gone),
                Ok(Err(
                    LogError::Expired { partition, .. } | LogError::Corrupt { partition, .. },
                )) => {
                    request.send(Caught::Gap).await?;
                    if targets.contains_key(&partition) {
                        heard = Instant::now();
                    }
                }
                Ok(Err(_)) if failures < MAX_FAILURES => {
                    failures += 1;
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    heard = Instant::now();
                }
                Ok(Err(_)) => return Err(Stop::Failed),
            }
        }
        Ok(())
    }

    async fn take(&self, request: &mut CatchUp, record: &Record) -> Result<(), Stop> {
        let outlet = &request.outlet;
        let Ok(event) = MailEvent::parse(&record.value, &self.account) else {
            return Ok(());
        };
        if event.person != outlet.person {
            return Ok(());
        }
        let Some(topic) = outlet.topics.form_of(event.kind) else {
            return Ok(());
        };
        let place = RecordAt {
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
        };
        let mut forms = Forms::new(&event, place, record.timestamp_ms);
        let told = forms.told(topic, outlet.content);
        request.send(Caught::Told(told)).await
    }
}

/// Asks the log, again if it fails.
async fn attempt<T, F: Future<Output = Result<T, LogError>>>(
    ask: impl Fn() -> F,
) -> Result<T, Stop> {
    for _ in 0..MAX_FAILURES {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(LogError::Closed) => return Err(Stop::Gone),
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
    Err(Stop::Failed)
}
