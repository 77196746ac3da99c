//! Records over real brokers: what arrives, byte by byte; what each failure means; which clusters
//! an account may use.
//!
//! Where there is no Kafka its cases say so, loudly, and count as ignored.

mod faults;
mod real;
mod settings;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use dovecast_dispatch::driver::{
    Attempt, Courier, Delivery, Driver, Part, Settings, SettingsError,
};
use dovecast_drivers::kafka::{ClusterOptions, KafkaDriver};
use dovecast_log::kafka::KafkaOptions;
use dovecast_notification::{Notification, NotificationId};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Time of an attempt that is to succeed, on a machine that others use too.
const LONG: Duration = Duration::from_secs(45);
/// Time of an attempt that is to fail.
const SHORT: Duration = Duration::from_secs(2);

/// What a case does; `None`: this machine lacks what it takes, which it has said.
type Case = fn() -> Result<Option<()>>;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases = [settings::CASES, faults::CASES, real::CASES].concat();
    let trials = cases.into_iter().map(|(name, case)| {
        Trial::ignorable_test(name, move || match case() {
            Ok(Some(())) => Ok(Completion::Completed),
            Ok(None) => Ok(Completion::ignored()),
            Err(error) => Err(Failed::from(dovecast_testkit::failure(&error))),
        })
    });
    let ended = libtest_mimic::run(&arguments, trials.collect());
    // Brokers must not outlive the process.
    real::stop();
    ended.exit_code()
}

/// A cluster that account 7 may write anything to.
fn cluster(name: &str, properties: Vec<(String, String)>) -> ClusterOptions {
    let is_brokers = |(name, _): &(String, String)| name == "bootstrap.servers";
    let (brokers, properties): (Vec<_>, Vec<_>) = properties.into_iter().partition(is_brokers);
    let brokers = brokers.into_iter().map(|(_, value)| value).collect();
    ClusterOptions {
        name: name.to_owned(),
        kafka: KafkaOptions {
            brokers,
            properties,
        },
        accounts: vec!["7".to_owned()],
        topics: vec!["*".to_owned()],
    }
}

fn owned(properties: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    properties.iter().map(owned).collect()
}

/// Opens the receiver of an endpoint of an account.
fn open(
    driver: &KafkaDriver,
    account: &str,
    settings: &Value,
) -> Result<Box<dyn Courier>, SettingsError> {
    let open = settings.as_object().cloned().unwrap_or_default();
    let target = driver.target(&Settings {
        account: &Arc::from(account),
        open: &open,
        secret: &Map::new(),
    });
    Ok(target?.open())
}

/// Opens a topic of a cluster.
fn topic(driver: &KafkaDriver, cluster: &str, topic: &str) -> Result<Box<dyn Courier>> {
    Ok(open(
        driver,
        "7",
        &json!({"cluster": cluster, "topic": topic}),
    )?)
}

fn notification(message: &str) -> Notification {
    Notification {
        id: NotificationId(Uuid::from_u128(1)),
        application: "a".into(),
        event_type: "e".into(),
        level: None,
        account: "7".into(),
        timestamp: Bytes::from_static(b"1"),
        message: Bytes::from(json!(message).to_string()),
        key: None,
        headers: Vec::new(),
    }
}

async fn deliver(courier: &mut Box<dyn Courier>, notification: Notification) -> Attempt {
    let delivery = Delivery {
        note: String::new(),
        id: "msg_1".to_owned(),
        number: 1,
        notifications: vec![Arc::new(notification)],
        part: Part::WHOLE,
    };
    courier.deliver(&delivery).await
}

/// Runs a case's asynchronous part.
fn run(case: impl Future<Output = Result<()>>) -> Result<Option<()>> {
    let runtime = tokio::runtime::Runtime::new().context("a runtime")?;
    runtime.block_on(case).map(Some)
}
