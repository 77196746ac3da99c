//! Records that Kafka does not take at first, and those behind them.

use anyhow::{Result, ensure};
use dovecast_log::{Log, Reader, StartAt};
use dovecast_testkit::mock_broker::{MockBroker, ResponseError};

use crate::{ARRIVAL, connect, numbers, record};

/// Requests of ten records of one user, of which the first is refused in a way that librdkafka does
/// not retry.
pub(crate) async fn behind_a_refused_request(broker: &MockBroker) -> Result<()> {
    for (topic, refusal) in [
        (
            "denied",
            ResponseError::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
        ),
        (
            "against_policy",
            ResponseError::RD_KAFKA_RESP_ERR_POLICY_VIOLATION,
        ),
        (
            "too_large",
            ResponseError::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        ),
    ] {
        broker.create_topic(topic, 1)?;
        let log = connect(broker, &[("batch.num.messages", "10")])?;
        broker.fail_next_produces(&[refusal]);
        let records = (0..1000).map(|number| record(topic, number, 10)).collect();
        let appended = tokio::time::timeout(ARRIVAL, log.append(records)).await??;
        ensure!(
            (appended.appended, appended.refused) == (1000, 0),
            "{topic}: {appended:?}"
        );
        let mut reader = log.reader(topic, StartAt::Beginning).await?;
        let mut seen = Vec::new();
        while seen.len() < 1000 {
            seen.extend(numbers(
                &tokio::time::timeout(ARRIVAL, reader.next()).await??,
            ));
        }
        ensure!(seen.is_sorted_by(|a, b| a < b), "{topic}: {seen:?}");
    }
    Ok(())
}
