//! Reads a topic back the way a test wants it: from the beginning, all partitions, "exactly these
//! and no more".
//!
//! No consumer group takes part: partitions are assigned and offsets kept here, so a reader sees
//! everything and disturbs nobody. A reader sees the partitions its topic had when it first found
//! the topic. Transactions are left out: their markers take offsets that no record ever has, and
//! [`TopicReader::drain`] would wait for them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

/// How long [`TopicReader::drain`] tries before it gives up on a broker.
const DRAIN_TIMEOUT: Duration = crate::PATIENCE;

/// How long one request for metadata or offsets may take before it is tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The pause between two looks for a topic that is not there yet.
const TOPIC_POLL_INTERVAL: Duration = Duration::from_millis(50);

/// One record as it lies in the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition it lies in.
    pub partition: i32,
    /// Place of the record in its partition.
    pub offset: i64,
    /// The key; `None` where the record has none, which is not the same as an empty one.
    pub key: Option<Vec<u8>>,
    /// The value; empty for a tombstone too.
    pub value: Vec<u8>,
    /// The headers in their order; names may repeat.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Milliseconds since the epoch, by the producer or the broker as the topic says.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_slice())
    }

    fn from_message(message: &BorrowedMessage<'_>) -> Record {
        let headers = message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| {
                    let value = header.value.unwrap_or_default();
                    (header.key.to_owned(), value.to_vec())
                })
                .collect()
        });
        Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
            headers,
            timestamp_ms: message.timestamp().to_millis(),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.as_deref().map_or(Cow::Borrowed("-"), printable);
        let value = printable(&self.value);
        write!(f, "[{}/{}] {key}: {value}", self.partition, self.offset)
    }
}

/// The beginning of `bytes` as text, for an error message.
fn printable(bytes: &[u8]) -> Cow<'_, str> {
    const LONGEST: usize = 300;
    if bytes.len() <= LONGEST {
        String::from_utf8_lossy(bytes)
    } else {
        let start = String::from_utf8_lossy(&bytes[..LONGEST]);
        Cow::Owned(format!("{start}... ({} bytes)", bytes.len()))
    }
}

/// Reads all partitions of one topic from the beginning.
pub struct TopicReader {
    topic: String,
    consumer: BaseConsumer,
    /// The next offset to come, per partition; empty until the topic has been found.
    next_offsets: BTreeMap<i32, i64>,
    /// What the client last complained about; librdkafka retries, so it matters only when time runs
    /// out.
    last_trouble: Option<KafkaError>,
}

impl TopicReader {
    /// Makes a reader; the broker is first asked by the first read, so neither it nor the topic
    /// need exist yet.
    ///
    /// `client_settings` are librdkafka properties: `bootstrap.servers` and what TLS and SASL need.
    pub fn new(client_settings: &[(String, String)], topic: &str) -> Result<TopicReader> {
        ensure!(
            client_settings
                .iter()
                .any(|(name, _)| name == "bootstrap.servers"),
            "a reader of topic `{topic}` needs the setting `bootstrap.servers`"
        );
        let mut config = ClientConfig::new();
        config
            // librdkafka wants a group's name even for assign(); nothing joins or commits to it.
            .set("group.id", "dovecast-testkit-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "20")
            .set("fetch.error.backoff.ms", "20")
            .set("topic.metadata.refresh.fast.interval.ms", "50")
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200");
        for (name, value) in client_settings {
            config.set(name, value);
        }
        let consumer = config
            .create()
            .with_context(|| format!("cannot make a consumer for topic `{topic}`"))?;
        Ok(TopicReader {
            topic: topic.to_owned(),
            consumer,
            next_offsets: BTreeMap::new(),
            last_trouble: None,
        })
    }

    /// The next record, or `None` if none comes in time, be it for want of records, of the topic or
    /// of a broker.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Record>> {
        let deadline = Instant::now() + timeout;
        if self.wait_for_topic(deadline)? {
            self.next_until(deadline)
        } else {
            Ok(None)
        }
    }

    /// Exactly `count` records; an error that lists what did arrive if they do not all come in
    /// time.
    pub fn read(&mut self, count: usize, timeout: Duration) -> Result<Vec<Record>> {
        let deadline = Instant::now() + timeout;
        let mut records = Vec::new();
        while records.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(record) = self.next(left)? else {
                return Err(self.too_few(count, timeout, &records));
            };
            records.push(record);
        }
        Ok(records)
    }

    /// All records from where the reader stands to the end of the topic as it is now; none if there
    /// is no such topic.
    pub fn drain(&mut self) -> Result<Vec<Record>> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        if self.next_offsets.is_empty() && !self.topic_exists(deadline)? {
            return Ok(Vec::new());
        }
        if !self.wait_for_topic(deadline)? {
            return Err(self.gave_up("find the partitions"));
        }
        let ends = self.high_watermarks(deadline)?;
        let mut records = Vec::new();
        while !self.has_reached(&ends) {
            match self.next_until(deadline)? {
                Some(record) => records.push(record),
                None => return Err(self.gave_up(&format!("read up to {ends:?}"))),
            }
        }
        Ok(records)
    }

    fn has_reached(&self, ends: &BTreeMap<i32, i64>) -> bool {
        ends.iter()
            .all(|(partition, end)| self.next_offsets.get(partition) >= Some(end))
    }

    /// The end of each partition now; moves past what retention has deleted, which no read would
    /// ever deliver.
    fn high_watermarks(&mut self, deadline: Instant) -> Result<BTreeMap<i32, i64>> {
        let partitions: Vec<i32> = self.next_offsets.keys().copied().collect();
        let mut ends = BTreeMap::new();
        for partition in partitions {
            let (low, high) = loop {
                let watermarks =
                    self.consumer
                        .fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT);
                match watermarks {
                    Ok(watermarks) => break watermarks,
                    Err(error) => self.note_trouble(error)?,
                }
                if !pause_before(deadline) {
                    return Err(self.gave_up(&format!("learn the end of partition `{partition}`")));
                }
            };
            ends.insert(partition, high);
            let next = self.next_offsets.entry(partition).or_insert(low);
            *next = low.max(*next);
        }
        Ok(ends)
    }

    fn next_until(&mut self, deadline: Instant) -> Result<Option<Record>> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let polled = match self.consumer.poll(left) {
                Some(Ok(message)) => Ok(Record::from_message(&message)),
                Some(Err(error)) => Err(error),
                None if left.is_zero() => return Ok(None),
                None => continue,
            };
            match polled {
                Ok(record) => {
                    self.next_offsets
                        .insert(record.partition, record.offset + 1);
                    return Ok(Some(record));
                }
                Err(error) => self.note_trouble(error)?,
            }
        }
    }

    /// Assigns the partitions once the topic has them; false if it has not by the deadline.
    fn wait_for_topic(&mut self, deadline: Instant) -> Result<bool> {
        while self.next_offsets.is_empty() {
            let partitions = self.partitions(deadline)?.unwrap_or_default();
            if !partitions.is_empty() {
                self.assign(&partitions)?;
            } else if !pause_before(deadline) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the broker knows the topic, asked until the broker answers.
    fn topic_exists(&mut self, deadline: Instant) -> Result<bool> {
        loop {
            if let Some(partitions) = self.partitions(deadline)? {
                return Ok(!partitions.is_empty());
            }
            if !pause_before(deadline) {
                return Err(self.gave_up("learn whether it exists"));
            }
        }
    }

    /// The partitions the broker names: none for an unknown topic, `None` if it does not say.
    fn partitions(&mut self, deadline: Instant) -> Result<Option<Vec<i32>>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let metadata = match self
            .consumer
            .fetch_metadata(Some(&self.topic), left.min(REQUEST_TIMEOUT))
        {
            Ok(metadata) => metadata,
            Err(error) => {
                self.note_trouble(error)?;
                return Ok(None);
            }
        };
        let Some(topic) = metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == self.topic)
        else {
            return Ok(Some(Vec::new()));
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(
                topic
                    .partitions()
                    .iter()
                    .map(MetadataPartition::id)
                    .collect(),
            )),
            Some(code) => {
                self.note_trouble(KafkaError::MetadataFetch(code))?;
                let unknown = code == RDKafkaErrorCode::UnknownTopicOrPartition;
                Ok(unknown.then(Vec::new))
            }
        }
    }

    fn assign(&mut self, partitions: &[i32]) -> Result<()> {
        let mut assignment = TopicPartitionList::new();
        for partition in partitions {
            assignment
                .add_partition_offset(&self.topic, *partition, Offset::Beginning)
                .with_context(|| format!("no partition `{partition}` of topic `{}`", self.topic))?;
        }
        self.consumer
            .assign(&assignment)
            .with_context(|| format!("cannot assign partitions of topic `{}`", self.topic))?;
        self.next_offsets = partitions.iter().map(|partition| (*partition, 0)).collect();
        Ok(())
    }

    /// Keeps an error librdkafka retries after; returns one that waiting cannot mend.
    ///
    /// TLS and SASL errors are of the first kind: a broker that goes down or comes up causes them
    /// in passing.
    fn note_trouble(&mut self, error: KafkaError) -> Result<()> {
        let hopeless = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || matches!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::InvalidTopic | RDKafkaErrorCode::TopicAuthorizationFailed)
            );
        if hopeless {
            return Err(error).with_context(|| format!("cannot read topic `{}`", self.topic));
        }
        self.last_trouble = Some(error);
        Ok(())
    }

    fn gave_up(&self, aim: &str) -> anyhow::Error {
        anyhow!(
            "could not {aim} of topic `{}` in time; {}",
            self.topic,
            self.trouble()
        )
    }

    fn too_few(&self, count: usize, timeout: Duration, records: &[Record]) -> anyhow::Error {
        /// Thousands of lines would hide what else a test says.
        const LISTED: usize = 50;
        let mut listed: Vec<String> = records.iter().take(LISTED).map(Record::to_string).collect();
        if records.len() > LISTED {
            listed.push(format!("... and {} more", records.len() - LISTED));
        }
        anyhow!(
            "`{}` of `{count}` records arrived in topic `{}` within {timeout:?}; {}\n{}",
            records.len(),
            self.topic,
            self.trouble(),
            listed.join("\n")
        )
    }

    fn trouble(&self) -> String {
        match (&self.last_trouble, self.next_offsets.is_empty()) {
            (Some(error), true) => format!("the topic was not found, last error: {error}"),
            (None, true) => "the topic was not found".to_owned(),
            (Some(error), false) => format!("last error: {error}"),
            (None, false) => "the client saw no error".to_owned(),
        }
    }
}

/// Waits a moment before the next try; false if the deadline has come.
fn pause_before(deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    std::thread::sleep(TOPIC_POLL_INTERVAL.min(left));
    !left.is_zero()
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;
    use crate::mock_broker::MockBroker;

    const TIMEOUT: Duration = crate::PATIENCE;

    fn settings(broker: &MockBroker) -> Vec<(String, String)> {
        vec![("bootstrap.servers".to_owned(), broker.bootstrap_servers())]
    }

    fn produce(broker: &MockBroker, topic: &str, values: &[&str]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap_servers())
            .create()
            .expect("a producer");
        for value in values {
            let headers = OwnedHeaders::new()
                .insert(Header {
                    key: "event",
                    value: Some("MessageNew"),
                })
                .insert(Header {
                    key: "empty",
                    value: None::<&str>,
                });
            let record = BaseRecord::to(topic)
                .key("alice")
                .payload(*value)
                .headers(headers)
                .timestamp(1_700_000_000_123);
            producer.send(record).expect("queued");
        }
        producer.flush(TIMEOUT).expect("flushed");
        assert_eq!(producer.in_flight_count(), 0);
    }

    fn values(records: &[Record]) -> Vec<String> {
        let mut values: Vec<String> = records
            .iter()
            .map(|record| String::from_utf8_lossy(&record.value).into_owned())
            .collect();
        values.sort();
        values
    }

    #[test]
    fn a_record_comes_back_as_it_was_sent() {
        let broker = MockBroker::start(1).expect("a broker");
        broker.create_topic("events", 1).expect("a topic");
        produce(&broker, "events", &["hello"]);
        let mut reader = TopicReader::new(&settings(&broker), "events").expect("a reader");
        let record = reader.next(TIMEOUT).expect("no error").expect("a record");
        let expected = Record {
            partition: 0,
            offset: 0,
            key: Some(b"alice".to_vec()),
            value: b"hello".to_vec(),
            headers: vec![
                ("event".to_owned(), b"MessageNew".to_vec()),
                ("empty".to_owned(), Vec::new()),
            ],
            timestamp_ms: Some(1_700_000_000_123),
        };
        assert_eq!(record, expected);
        assert_eq!(record.header("event"), Some(&b"MessageNew"[..]));
        assert_eq!(record.to_string(), "[0/0] alice: hello");
        assert_eq!(reader.next(Duration::ZERO).expect("no error"), None);
    }

    #[test]
    fn a_drain_reads_to_the_end_of_all_partitions_and_goes_on_from_there() {
        let broker = MockBroker::start(2).expect("a broker");
        broker.create_topic("events", 3).expect("a topic");
        let mut reader = TopicReader::new(&settings(&broker), "events").expect("a reader");
        assert_eq!(reader.drain().expect("drained"), []);
        produce(&broker, "events", &["a", "b", "c"]);
        assert_eq!(values(&reader.drain().expect("drained")), ["a", "b", "c"]);
        assert_eq!(reader.drain().expect("drained"), []);
        produce(&broker, "events", &["d", "e"]);
        assert_eq!(values(&reader.read(1, TIMEOUT).expect("read")).len(), 1);
        assert_eq!(reader.drain().expect("drained").len(), 1);
    }

    #[test]
    fn too_few_records_are_an_error_that_lists_them() {
        let broker = MockBroker::start(1).expect("a broker");
        produce(&broker, "events", &["only"]);
        let mut reader = TopicReader::new(&settings(&broker), "events").expect("a reader");
        let error = reader
            .read(2, Duration::from_secs(1))
            .expect_err("one is missing")
            .to_string();
        assert!(error.starts_with("`1` of `2` records"), "{error}");
        assert!(error.contains("alice: only"), "{error}");
    }

    #[test]
    fn a_topic_may_appear_after_its_reader() {
        let broker = MockBroker::start(1).expect("a broker");
        let mut reader = TopicReader::new(&settings(&broker), "late").expect("a reader");
        assert_eq!(reader.drain().expect("drained"), []);
        let soon = Duration::from_millis(200);
        assert_eq!(reader.next(soon).expect("no error"), None);
        produce(&broker, "late", &["x"]);
        assert_eq!(values(&reader.read(1, TIMEOUT).expect("read")), ["x"]);
    }

    #[test]
    fn a_reader_survives_a_broker_that_goes_and_comes_back() {
        let broker = MockBroker::start(1).expect("a broker");
        broker.create_topic("events", 1).expect("a topic");
        produce(&broker, "events", &["a"]);
        let mut reader = TopicReader::new(&settings(&broker), "events").expect("a reader");
        assert_eq!(values(&reader.read(1, TIMEOUT).expect("read")), ["a"]);
        broker.set_down().expect("down");
        let soon = Duration::from_millis(300);
        assert_eq!(reader.next(soon).expect("no error"), None);
        broker.set_up().expect("up");
        produce(&broker, "events", &["b"]);
        assert_eq!(values(&reader.read(1, TIMEOUT).expect("read")), ["b"]);
    }

    #[test]
    fn settings_without_servers_are_refused() {
        let error = TopicReader::new(&[], "events").err().expect("refused");
        assert!(error.to_string().contains("bootstrap.servers"), "{error}");
    }
}
