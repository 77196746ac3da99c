//! The log in a Kafka that fails on purpose: librdkafka's mock cluster in this process, which needs
//! no Java.

mod fatal;
mod lines;
mod ordered;
mod skipped;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dovecast_log::kafka::{KafkaLog, KafkaOptions};
use dovecast_log::{NewRecord, Record};
use dovecast_testkit::mock_broker::MockBroker;
use libtest_mimic::{Arguments, Failed, Trial};

/// How long something that has to come may take, on a machine that others use too.
const ARRIVAL: Duration = Duration::from_mins(2);

/// How often it is looked whether something has come.
const POLL: Duration = Duration::from_millis(20);

type Case = fn(&MockBroker, &tokio::runtime::Runtime) -> Result<()>;

const CASES: [(&str, Case); 6] = [
    (
        "records_behind_a_request_that_is_refused_do_not_overtake_it",
        |broker, runtime| runtime.block_on(ordered::behind_a_refused_request(broker)),
    ),
    (
        "a_reader_is_told_which_records_were_removed_before_it_came_to_them",
        |broker, runtime| runtime.block_on(skipped::by_a_reader(broker)),
    ),
    (
        "a_group_is_told_which_records_were_removed_before_it_came_to_them",
        |broker, runtime| runtime.block_on(skipped::by_a_group(broker)),
    ),
    ("what_librdkafka_logs_is_in_our_log", |broker, runtime| {
        runtime.block_on(lines::are_ours(broker))
    }),
    (
        "a_consumer_that_has_failed_for_good_is_replaced_and_nothing_is_left_out",
        |broker, runtime| runtime.block_on(fatal::consumer(broker)),
    ),
    (
        "a_producer_that_has_failed_for_good_is_replaced_and_nothing_is_left_out",
        |broker, runtime| runtime.block_on(fatal::producer(broker)),
    ),
];

fn main() -> ExitCode {
    lines::capture();
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let trials = CASES.map(|(name, case)| {
        Trial::test(name, move || {
            run(case).map_err(|error| Failed::from(dovecast_testkit::failure(&error)))
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn run(case: Case) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let runtime = tokio::runtime::Runtime::new()?;
    case(&broker, &runtime)
}

fn connect(broker: &MockBroker, properties: &[(&str, &str)]) -> Result<KafkaLog> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Ok(KafkaLog::connect(&KafkaOptions {
        brokers: broker.bootstrap_servers(),
        properties: properties.iter().map(owned).collect(),
    })?)
}

/// A record of about this many bytes, which begins with its number.
fn record(topic: &str, number: u64, bytes: usize) -> NewRecord {
    NewRecord {
        topic: Arc::from(topic),
        key: Some("a user".into()),
        value: format!("{number} {}", "x".repeat(bytes)).into(),
        headers: Vec::new(),
        timestamp_ms: 0,
        id: None,
    }
}

fn numbers(records: &[Record]) -> Vec<u64> {
    let number = |record: &Record| {
        let text = String::from_utf8_lossy(&record.value).into_owned();
        text.split(' ')
            .next()
            .and_then(|number| number.parse().ok())
    };
    records.iter().filter_map(number).collect()
}
