//! What librdkafka's mock cluster can show: errors that no broker gives on demand.

use anyhow::{Result, ensure};
use dovecast_dispatch::driver::{Driver, Outcome};
use dovecast_drivers::kafka::KafkaDriver;
use dovecast_testkit::mock_broker::{MockBroker, ResponseError as E};

use crate::{Case, LONG, cluster, deliver, notification, owned, run, topic};

pub(crate) const CASES: &[(&str, Case)] = &[
    (
        "an_error_of_a_batch_is_judged_record_by_record",
        an_error_of_a_batch_is_judged_record_by_record,
    ),
    (
        "a_producer_that_has_failed_for_good_is_replaced",
        a_producer_that_has_failed_for_good_is_replaced,
    ),
    (
        "nothing_is_delivered_when_the_driver_is_closed",
        nothing_is_delivered_when_the_driver_is_closed,
    ),
];

fn driver(broker: &MockBroker) -> Result<KafkaDriver> {
    let properties = owned(&[("bootstrap.servers", &broker.bootstrap_servers())]);
    Ok(KafkaDriver::new(&[cluster("c", properties)], LONG)?)
}

fn an_error_of_a_batch_is_judged_record_by_record() -> Result<Option<()>> {
    let broker = MockBroker::start(1)?;
    broker.create_topic("t", 1)?;
    let driver = driver(&broker)?;
    run(async {
        let mut courier = topic(&driver, "c", "t")?;
        for (errors, expected) in [
            // The batch is refused, the record alone is not.
            (vec![E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE], "delivered"),
            (vec![E::RD_KAFKA_RESP_ERR_INVALID_RECORD], "delivered"),
            (
                vec![E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2],
                "is larger than the cluster takes",
            ),
            (
                vec![E::RD_KAFKA_RESP_ERR_INVALID_RECORD; 2],
                "the cluster does not take the record",
            ),
        ] {
            broker.fail_next_produces(&errors);
            let attempt = deliver(&mut courier, notification("hi")).await;
            let said = match &attempt.outcome {
                Outcome::Delivered => "delivered",
                Outcome::Refused { reason } => reason,
                Outcome::Gone { .. } => "gone",
                Outcome::Failed { .. } | Outcome::NotMade { .. } => "failed",
            };
            ensure!(said.contains(expected), "{attempt:?}");
            ensure!(attempt.answer.is_some(), "the cluster has answered");
        }
        Ok(())
    })
}

fn a_producer_that_has_failed_for_good_is_replaced() -> Result<Option<()>> {
    let broker = MockBroker::start(1)?;
    broker.create_topic("t", 1)?;
    let driver = driver(&broker)?;
    run(async {
        let mut courier = topic(&driver, "c", "t")?;
        let attempt = deliver(&mut courier, notification("before")).await;
        ensure!(attempt.outcome == Outcome::Delivered, "{attempt:?}");
        // What the idempotent producer cannot go on after.
        broker.fail_next_produces(&[E::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
        let attempt = deliver(&mut courier, notification("meanwhile")).await;
        let is_retried = matches!(attempt.outcome, Outcome::Failed { .. });
        ensure!(is_retried, "{attempt:?}");
        let attempt = deliver(&mut courier, notification("after")).await;
        ensure!(attempt.outcome == Outcome::Delivered, "{attempt:?}");
        Ok(())
    })
}

fn nothing_is_delivered_when_the_driver_is_closed() -> Result<Option<()>> {
    let broker = MockBroker::start(1)?;
    let driver = driver(&broker)?;
    run(async {
        let mut courier = topic(&driver, "c", "t")?;
        let attempt = deliver(&mut courier, notification("before")).await;
        ensure!(attempt.outcome == Outcome::Delivered, "{attempt:?}");
        driver.close().await;
        let attempt = deliver(&mut courier, notification("after")).await;
        let Outcome::Failed { reason, .. } = attempt.outcome else {
            anyhow::bail!("{attempt:?}");
        };
        ensure!(reason == "the server stops", "{reason}");
        Ok(())
    })
}
