//! Brokers that fail on purpose: librdkafka's mock cluster in this process, and one that accepts
//! and never answers.
//!
//! The mock cluster keeps records in memory only (5 MiB or 100,000 records per partition), creates
//! topics a client asks for, and has no consumer groups worth testing, no TLS and no durability:
//! those need [`crate::kafka`].

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
pub use rdkafka::types::{RDKafkaApiKey as ApiKey, RDKafkaRespErr as ResponseError};

use crate::loopback;

/// What librdkafka's mock functions take for "every broker".
const ALL_BROKERS: i32 = -1;
/// How long a broker that is up again may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A mock Kafka cluster on 127.0.0.1, gone when dropped.
///
/// It stays on the thread that started it (rdkafka's handle is not `Send`); clients may be
/// anywhere.
pub struct MockBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    brokers: i32,
}

impl MockBroker {
    /// Starts a cluster of `brokers` brokers, ready at once.
    pub fn start(brokers: i32) -> Result<MockBroker> {
        let cluster = MockCluster::new(brokers)
            .with_context(|| format!("cannot start a mock cluster of `{brokers}` brokers"))?;
        Ok(MockBroker { cluster, brokers })
    }

    /// The value for `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Creates a topic, replicated on every broker. Topics nobody created appear on demand with 4
    /// partitions.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.cluster
            .create_topic(name, partitions, self.brokers)
            .with_context(|| format!("cannot create topic `{name}` with `{partitions}` partitions"))
    }

    /// Closes all connections and refuses new ones until [`MockBroker::set_up`]. Records are kept.
    pub fn set_down(&self) -> Result<()> {
        self.cluster
            .broker_down(ALL_BROKERS)
            .context("cannot take the mock brokers down")
    }

    /// Accepts connections again, and answers when this returns. A mock broker that was down has
    /// been seen to answer nobody for minutes: it is taken down and up again until it does.
    pub fn set_up(&self) -> Result<()> {
        let deadline = Instant::now() + crate::PATIENCE;
        loop {
            self.cluster
                .broker_up(ALL_BROKERS)
                .context("cannot bring the mock brokers up")?;
            let Err(error) = self.answers() else {
                return Ok(());
            };
            ensure!(
                Instant::now() < deadline,
                "the mock brokers are up and do not answer: {error:#}"
            );
            self.set_down()?;
        }
    }

    fn answers(&self) -> Result<()> {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap_servers())
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "200")
            .create()?;
        client.fetch_metadata(None, ANSWER_TIMEOUT)?;
        Ok(())
    }

    /// Delays every answer of every broker by `delay` (whole milliseconds).
    pub fn set_round_trip_time(&self, delay: Duration) -> Result<()> {
        self.cluster
            .broker_round_trip_time(ALL_BROKERS, delay)
            .with_context(|| format!("cannot set the round trip time to `{delay:?}`"))
    }

    /// Lets the next produce requests fail, one per error, in this order.
    pub fn fail_next_produces(&self, errors: &[ResponseError]) {
        self.push_request_errors(ApiKey::Produce, errors);
    }

    /// Lets the next requests of one kind fail, one per error, in this order.
    ///
    /// `RD_KAFKA_RESP_ERR__TRANSPORT` closes the connection instead of answering.
    pub fn push_request_errors(&self, api_key: ApiKey, errors: &[ResponseError]) {
        self.cluster.request_errors(api_key, errors);
    }

    /// Answers every request that names this topic with `error`; `RD_KAFKA_RESP_ERR_NO_ERROR` ends
    /// it.
    pub fn fail_topic(&self, name: &str, error: ResponseError) -> Result<()> {
        self.cluster
            .topic_error(name, error)
            .with_context(|| format!("cannot let topic `{name}` fail"))
    }

    /// Forgets the errors pushed for one kind of request and not used up.
    pub fn clear_request_errors(&self, api_key: ApiKey) {
        self.cluster.clear_request_errors(api_key);
    }
}

/// A "broker" that accepts every connection and never reads or writes a byte, until dropped.
pub struct HungBroker {
    address: SocketAddrV4,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl HungBroker {
    /// Listens on a loopback address of its own.
    pub fn start() -> Result<HungBroker> {
        let host: Ipv4Addr = loopback::unique_address();
        let listener =
            TcpListener::bind((host, 0)).with_context(|| format!("cannot listen on `{host}`"))?;
        let port = listener
            .local_addr()
            .with_context(|| format!("cannot tell the port of the listener on `{host}`"))?
            .port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let acceptor = std::thread::Builder::new()
            .name("hung-broker".to_owned())
            .spawn(move || hold_connections(&listener, &stopping))
            .context("cannot start the thread of a hung broker")?;
        Ok(HungBroker {
            address: SocketAddrV4::new(host, port),
            stop,
            acceptor: Some(acceptor),
        })
    }

    /// The value for `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        self.address.to_string()
    }
}

fn hold_connections(listener: &TcpListener, stop: &AtomicBool) {
    let mut held = Vec::new();
    while let Ok((connection, _)) = listener.accept() {
        if stop.load(Ordering::Acquire) {
            return;
        }
        held.push(connection);
    }
}

impl Drop for HungBroker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // A connection of our own wakes the acceptor; without one it never looks at the flag, so do
        // not wait for it.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            let _ = acceptor.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::KafkaResult;
    use rdkafka::message::DeliveryResult;
    use rdkafka::producer::{
        BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer,
    };
    use rdkafka::{ClientContext, Message};

    use super::*;

    struct Reports(std::sync::mpsc::Sender<KafkaResult<Vec<u8>>>);

    impl ClientContext for Reports {}

    impl ProducerContext for Reports {
        type DeliveryOpaque = ();

        fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
            let report = match result {
                Ok(message) => Ok(message.payload().unwrap_or_default().to_vec()),
                Err((error, _)) => Err(error.clone()),
            };
            let _ = self.0.send(report);
        }
    }

    #[test]
    fn a_record_is_delivered_only_when_the_broker_is_up_again() {
        let broker = MockBroker::start(1).expect("a broker");
        broker.create_topic("events", 1).expect("a topic");
        let (sender, reports) = std::sync::mpsc::channel();
        let producer: ThreadedProducer<Reports> = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap_servers())
            .set("linger.ms", "0")
            .set("reconnect.backoff.max.ms", "100")
            .create_with_context(Reports(sender))
            .expect("a producer");
        let send = |value: &str| {
            producer
                .send(BaseRecord::<(), str>::to("events").payload(value))
                .expect("queued");
        };
        let timeout = crate::PATIENCE;

        send("before");
        let report = reports.recv_timeout(timeout).expect("a report");
        assert_eq!(report.expect("delivered"), b"before");

        broker.set_down().expect("down");
        send("during");
        let early = reports.recv_timeout(Duration::from_millis(700));
        assert!(early.is_err(), "delivered to a broker that is down");

        broker.set_up().expect("up");
        let report = reports.recv_timeout(timeout).expect("a report");
        assert_eq!(report.expect("delivered"), b"during");
    }

    #[test]
    fn an_injected_produce_error_reaches_the_producer() {
        let broker = MockBroker::start(1).expect("a broker");
        broker.create_topic("events", 1).expect("a topic");
        broker.fail_next_produces(&[ResponseError::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
        let (sender, reports) = std::sync::mpsc::channel();
        let producer: BaseProducer<Reports> = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap_servers())
            .create_with_context(Reports(sender))
            .expect("a producer");
        for value in ["refused", "taken"] {
            producer
                .send(BaseRecord::<(), str>::to("events").payload(value))
                .expect("queued");
            producer.flush(crate::PATIENCE).expect("flushed");
        }
        let results: Vec<bool> = reports.try_iter().map(|report| report.is_ok()).collect();
        assert_eq!(results, [false, true]);
    }

    #[test]
    fn the_round_trip_time_delays_answers() {
        let broker = MockBroker::start(1).expect("a broker");
        broker.create_topic("events", 1).expect("a topic");
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap_servers())
            .create()
            .expect("a client");
        let ask = || {
            let start = Instant::now();
            client
                .fetch_metadata(Some("events"), crate::PATIENCE)
                .expect("metadata");
            start.elapsed()
        };
        ask();
        broker
            .set_round_trip_time(Duration::from_millis(400))
            .expect("set");
        let slow = ask();
        assert!(slow >= Duration::from_millis(400), "answered in {slow:?}");
    }

    #[test]
    fn a_hung_broker_accepts_and_never_answers() {
        let broker = HungBroker::start().expect("a broker");
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap_servers())
            .create()
            .expect("a client");
        let answer = client.fetch_metadata(None, Duration::from_millis(300));
        assert!(answer.is_err());
        assert!(TcpStream::connect(broker.address).is_ok());
        let address = broker.address;
        drop(broker);
        assert!(TcpStream::connect(address).is_err(), "still listening");
    }
}
