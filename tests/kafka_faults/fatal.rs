//! Errors after which a client of librdkafka does nothing any more.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use dovecast_log::{Consumer, Log, Position, Reader, StartAt};
use dovecast_testkit::mock_broker::{ApiKey, MockBroker, ResponseError};

use crate::{ARRIVAL, connect, numbers, record};

pub(crate) async fn consumer(broker: &MockBroker) -> Result<()> {
    let topic = "consumed";
    broker.create_topic(topic, 1)?;
    let properties = [
        ("group.instance.id", "node1"),
        ("heartbeat.interval.ms", "200"),
        ("session.timeout.ms", "6000"),
    ];
    let log = connect(broker, &properties)?;
    log.append(vec![record(topic, 0, 10)]).await?;
    let mut member = log.consumer("readers", &[topic.to_owned()]).await?;
    let first = tokio::time::timeout(ARRIVAL, member.next()).await??;
    ensure!(numbers(&first) == [0], "{:?}", numbers(&first));
    member.commit(&Position::behind(&first)).await?;
    // Another member says that it is this one.
    broker.push_request_errors(
        ApiKey::Heartbeat,
        &[ResponseError::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID],
    );
    let renewed = async {
        while log.renewed() == 0 {
            tokio::time::sleep(crate::POLL).await;
        }
    };
    tokio::time::timeout(ARRIVAL, renewed).await?;
    log.append((1..10).map(|number| record(topic, number, 10)).collect())
        .await?;
    let mut seen = BTreeSet::new();
    while seen.len() < 9 {
        let records = tokio::time::timeout(ARRIVAL, member.next()).await??;
        seen.extend(numbers(&records));
        member.commit(&Position::behind(&records)).await?;
    }
    ensure!(seen == (1..10).collect(), "{seen:?}");
    ensure!(log.renewed() == 1, "{} times", log.renewed());
    Ok(())
}

pub(crate) async fn producer(broker: &MockBroker) -> Result<()> {
    let topic = "produced";
    broker.create_topic(topic, 1)?;
    let log = connect(broker, &[])?;
    log.append(vec![record(topic, 0, 10)]).await?;
    // What the idempotent producer cannot go on after.
    broker.fail_next_produces(&[ResponseError::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let records = (1..100).map(|number| record(topic, number, 10)).collect();
    let appended = tokio::time::timeout(ARRIVAL, log.append(records)).await??;
    ensure!(
        (appended.appended, appended.refused) == (99, 0),
        "{appended:?}"
    );
    ensure!(log.renewed() == 1, "{} times", log.renewed());
    let mut reader = log.reader(topic, StartAt::Beginning).await?;
    let mut seen = BTreeSet::new();
    while seen.len() < 100 {
        seen.extend(numbers(
            &tokio::time::timeout(ARRIVAL, reader.next()).await??,
        ));
    }
    ensure!(seen == (0..100).collect(), "{seen:?}");
    Ok(())
}
