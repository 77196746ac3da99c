//! What streams are told when the log is quiet or has lost something, and what becomes of clients
//! that do not read. The log does as the test says.

use std::future::poll_fn;

use dovecast_event::Record;
use dovecast_log::embedded::EmbeddedConsumer;
use dovecast_log::{
    Appended, GroupStatus, LogError, NewRecord, Position, Reader, StartAt, TopicStatus, now_ms,
};
use dovecast_mail_push::{MailEvent, Person, PushContent, Topic};

use super::cursor::{Cursor, RecordAt};
use super::outlet::End;
use super::request::Asked;
use super::source::Next;
use super::told::Forms;
use super::*;

const TOPIC: &str = "dovecot";
/// Records that a client has missed: more than are read ahead of it.
const MISSED: u64 = 400;
/// Far longer than a test lasts.
const LONG: Duration = Duration::from_mins(10);
/// Hardly anything: what does not come is not waited for.
const SHORT: Duration = Duration::from_millis(20);

const PATIENT: Patience = Patience {
    client: LONG,
    message: SHORT,
    quiet: LONG,
};

type Answer = Result<Vec<Record>, LogError>;
type Answers = mpsc::UnboundedReceiver<Answer>;

/// A log of one partition, or of more that are as long.
#[derive(Clone)]
struct Script {
    partitions: usize,
    /// Offset of the oldest record.
    begin: u64,
    /// Offset of the oldest record since any time.
    since: u64,
    end: u64,
    /// What readers from a time or a place on are answered; nothing comes after it.
    old: Arc<Mutex<Answers>>,
    /// What readers at the end are.
    new: Arc<Mutex<Answers>>,
}

/// What a test has the log say.
struct Says {
    new: mpsc::UnboundedSender<Answer>,
}

impl Script {
    fn new(end: u64, old: Vec<Record>) -> (Self, Says) {
        let (said, answers) = mpsc::unbounded_channel();
        if !old.is_empty() {
            said.send(Ok(old)).expect("a reader");
        }
        let (new, later) = mpsc::unbounded_channel();
        let script = Self {
            partitions: 1,
            begin: 0,
            since: 0,
            end,
            old: Arc::new(Mutex::new(answers)),
            new: Arc::new(Mutex::new(later)),
        };
        (script, Says { new })
    }
}

struct ScriptReader(Arc<Mutex<Answers>>);

impl Reader for ScriptReader {
    async fn next(&mut self) -> Answer {
        match self.0.lock().await.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

fn nothing<T>() -> Result<T, LogError> {
    Err(LogError::Invalid("nobody asks for this".to_owned()))
}

impl Log for Script {
    type Reader = ScriptReader;
    type Consumer = EmbeddedConsumer;

    async fn append(&self, _: Vec<NewRecord>) -> Result<Appended, LogError> {
        nothing()
    }

    async fn topics(&self) -> Result<Vec<TopicStatus>, LogError> {
        nothing()
    }

    async fn groups(&self) -> Result<Vec<GroupStatus>, LogError> {
        nothing()
    }

    async fn positions(&self, _: &str, start: StartAt) -> Result<Vec<u64>, LogError> {
        let offset = match start {
            StartAt::End => self.end,
            StartAt::Time(_) => self.since,
            _ => self.begin,
        };
        Ok(vec![offset; self.partitions])
    }

    async fn reader(&self, _: &str, start: StartAt) -> Result<ScriptReader, LogError> {
        let answers = if start == StartAt::End {
            &self.new
        } else {
            &self.old
        };
        Ok(ScriptReader(Arc::clone(answers)))
    }

    async fn reader_at(&self, _: &Position) -> Result<ScriptReader, LogError> {
        Ok(ScriptReader(Arc::clone(&self.old)))
    }

    async fn consumer(&self, _: &str, _: &[String]) -> Result<EmbeddedConsumer, LogError> {
        nothing()
    }
}

/// New mail for 11@3; its uid is its offset.
fn mail(offset: u64) -> Record {
    let json = format!(
        r#"{{"user":"11@3","mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":{}}}"#,
        offset + 1
    );
    Record {
        topic: TOPIC.into(),
        partition: 0,
        offset,
        key: None,
        value: json.into(),
        headers: Vec::new(),
        timestamp_ms: now_ms(),
    }
}

/// The streams of a node that follows such a log, and what they count.
fn streams(log: &Script, patience: Patience) -> (Streams, Arc<Counters>) {
    let limits = StreamLimits {
        per_person: 20,
        total: 20,
        ping: LONG,
        patience,
    };
    let counters = Arc::<Counters>::default();
    let streams = Streams::new(limits, Arc::clone(&counters));
    let (followed, log) = (streams.clone(), log.clone());
    tokio::spawn(async move {
        let topics = [TOPIC.to_owned()];
        followed.follow(&log, &topics, &EventAccount::User).await;
    });
    (streams, counters)
}

/// A stream of 11@3, which comes back with a cursor.
async fn open(streams: &Streams, from: Option<Cursor>) -> Source {
    let person = Person::of_login("11@3", &EventAccount::User).expect("a person");
    let asked = Asked {
        person,
        token: None,
        topics: None,
        content: None,
        from,
        connection: None,
    };
    streams.open(asked).await.expect("a stream")
}

/// What comes next, in a word.
async fn next(source: &mut Source) -> String {
    match poll_fn(|context| source.poll_next(context)).await {
        Ok(Next::Told(told)) => format!("offset {}", told.place.offset),
        Ok(Next::Gap) => "gap".to_owned(),
        Ok(Next::CaughtUp) => "caught up".to_owned(),
        Err(end) => format!("{end:?}"),
    }
}

#[tokio::test]
async fn records_that_do_not_come_are_told_as_a_gap() {
    let (log, _says) = Script::new(2, vec![mail(0)]);
    let patience = Patience {
        quiet: SHORT,
        ..PATIENT
    };
    let (streams, counters) = streams(&log, patience);
    let mut source = open(&streams, Some(Cursor::of_time(now_ms()))).await;
    for expected in ["offset 0", "gap", "caught up"] {
        assert_eq!(next(&mut source).await, expected);
    }
    assert_eq!(counters.get(Count::StreamGap), 1);
}

#[tokio::test]
async fn records_that_are_lost_are_told_to_open_streams_as_a_gap() {
    for is_damaged in [false, true] {
        let (topic, partition, offsets) = (TOPIC.to_owned(), 0, 0..5);
        let lost = if is_damaged {
            LogError::Corrupt {
                topic,
                partition,
                offsets,
                reason: "a test".to_owned(),
            }
        } else {
            LogError::Expired {
                topic,
                partition,
                offsets,
            }
        };
        let (log, says) = Script::new(0, Vec::new());
        let (streams, counters) = streams(&log, PATIENT);
        let mut sources = [open(&streams, None).await, open(&streams, None).await];
        says.new.send(Err(lost)).expect("a reader");
        says.new.send(Ok(vec![mail(5)])).expect("a reader");
        for source in &mut sources {
            for expected in ["gap", "offset 5"] {
                assert_eq!(next(source).await, expected);
            }
        }
        assert_eq!(counters.get(Count::Lost), 1);
        assert_eq!(counters.get(Count::StreamGap), 2);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_what_it_has_missed_is_cut() {
    let (log, _says) = Script::new(MISSED, (0..MISSED).map(mail).collect());
    let patience = Patience {
        client: SHORT,
        ..PATIENT
    };
    let (streams, counters) = streams(&log, patience);
    let mut source = open(&streams, Some(Cursor::of_time(now_ms()))).await;
    assert_eq!(next(&mut source).await, "offset 0");
    let end = poll_fn(|context| source.poll_end(context)).await;
    assert_eq!(end, End::Cut);
    assert_eq!(counters.get(Count::StreamCut), 1);
}

#[tokio::test]
async fn a_place_before_the_oldest_time_is_told_as_a_gap() {
    let (mut log, _says) = Script::new(10, vec![mail(8), mail(9)]);
    log.since = 8;
    let (streams, _) = streams(&log, PATIENT);
    let place = |offset| RecordAt {
        topic: TOPIC.into(),
        partition: 0,
        offset,
    };
    let mut source = open(&streams, Some(Cursor::at(now_ms(), place(0)))).await;
    for expected in ["gap", "offset 8", "offset 9", "caught up"] {
        assert_eq!(next(&mut source).await, expected);
    }
    // Nothing was missed of what is as old as the log hands out.
    let mut source = open(&streams, Some(Cursor::at(now_ms(), place(9)))).await;
    assert_eq!(next(&mut source).await, "caught up");
}

#[tokio::test]
async fn records_that_may_have_expired_since_a_time_are_told_as_a_gap() {
    let (mut log, _says) = Script::new(7, vec![mail(5), mail(6)]);
    (log.begin, log.since) = (5, 5);
    let (streams, _) = streams(&log, PATIENT);
    let mut source = open(&streams, Some(Cursor::of_time(now_ms()))).await;
    for expected in ["gap", "offset 5", "offset 6", "caught up"] {
        assert_eq!(next(&mut source).await, expected);
    }
}

#[tokio::test]
async fn a_partition_that_is_quiet_is_told_as_a_gap_while_others_are_busy() {
    let (mut log, _says) = Script::new(1, Vec::new());
    log.partitions = 2;
    let (busy, more) = mpsc::unbounded_channel();
    log.old = Arc::new(Mutex::new(more));
    busy.send(Ok(vec![mail(0)])).expect("a reader");
    let patience = Patience {
        quiet: SHORT,
        ..PATIENT
    };
    let (streams, _) = streams(&log, patience);
    let mut source = open(&streams, Some(Cursor::of_time(now_ms()))).await;
    let goes_on = async {
        for offset in 1.. {
            busy.send(Ok(vec![mail(offset)])).expect("a reader");
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let told = async {
        for expected in ["offset 0", "gap", "caught up"] {
            assert_eq!(next(&mut source).await, expected);
        }
    };
    tokio::select! {
        () = told => {}
        () = goes_on => {}
    }
}

#[tokio::test]
async fn a_time_to_come_is_told_as_a_gap() {
    let (log, _says) = Script::new(0, Vec::new());
    let (streams, _) = streams(&log, PATIENT);
    let to_come = now_ms() + 3_600_000;
    let mut source = open(&streams, Some(Cursor::of_time(to_come))).await;
    for expected in ["gap", "caught up"] {
        assert_eq!(next(&mut source).await, expected);
    }
}

#[tokio::test]
async fn nobody_is_told_of_anothers_mail_whatever_was_found() {
    let (log, says) = Script::new(0, Vec::new());
    let (streams, counters) = streams(&log, PATIENT);
    let mut source = open(&streams, None).await;
    let stranger = Person::of_login("12@3", &EventAccount::User).expect("a person");
    let of_stranger = || {
        Arc::new(Outlet::new(
            stranger.clone(),
            Topics::all(),
            PushContent::default(),
            None,
        ))
    };
    // The hub finds a stream of somebody else under the person of the event.
    let misplaced = of_stranger();
    let whose = Person::of_login("11@3", &EventAccount::User).expect("a person");
    streams.0.hub.misplace(&whose, &misplaced);
    says.new.send(Ok(vec![mail(0)])).expect("a reader");
    assert_eq!(next(&mut source).await, "offset 0");
    assert_eq!(counters.get(Count::WrongPerson), 1);
    assert!(
        poll_fn(|context| std::task::Poll::Ready(misplaced.poll_next(context).is_pending())).await
    );
    // A message of somebody else is in the queue of a stream.
    let json = mail(1).value;
    let event = String::from_utf8_lossy(&json).replace("11@3", "12@3");
    let event = MailEvent::parse(event.as_bytes(), &EventAccount::User).expect("an event");
    let place = RecordAt {
        topic: TOPIC.into(),
        partition: 0,
        offset: 1,
    };
    let told = Forms::new(&event, place, now_ms()).told(Topic::MailNew, PushContent::default());
    assert!(source.outlet().offer(told));
    says.new.send(Ok(vec![mail(2)])).expect("a reader");
    assert_eq!(next(&mut source).await, "offset 2");
    // Each of the two, and the misplaced one again.
    assert_eq!(counters.get(Count::WrongPerson), 3);
}

#[tokio::test]
async fn the_cursor_of_a_stream_that_is_told_nothing_goes_on_with_its_partition() {
    let (mut log, says) = Script::new(5, vec![mail(3), mail(4)]);
    log.partitions = 2;
    let (streams, _) = streams(&log, PATIENT);
    let from = |offset| RecordAt {
        topic: TOPIC.into(),
        partition: 0,
        offset,
    };
    let mut fresh = open(&streams, None).await;
    assert_eq!(fresh.idle_cursor(now_ms()), None, "no place is known");
    let mut source = open(&streams, Some(Cursor::at(now_ms(), from(2)))).await;
    assert_eq!(source.idle_cursor(now_ms()), None, "something was missed");
    for expected in ["offset 3", "offset 4", "caught up"] {
        assert_eq!(next(&mut source).await, expected);
    }
    let mut others = mail(5);
    others.value =
        br#"{"user":"12@3","mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":1}"#
            .to_vec()
            .into();
    says.new.send(Ok(vec![others, mail(6)])).expect("a reader");
    assert_eq!(next(&mut fresh).await, "offset 6");
    assert_eq!(next(&mut source).await, "offset 6");
    // What others were told is behind both as well.
    for source in [fresh, source] {
        let cursor = source.idle_cursor(now_ms()).expect("a cursor");
        assert_eq!(cursor.place, Some(from(6)));
    }
}
