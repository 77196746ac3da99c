//! The topic is deleted and made anew while an endpoint owes ranges of it.

use anyhow::{Context, Result};
use dovecast_testkit::clock::now_ms;
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::json;

use crate::cases::cases;
use crate::cluster::{Cluster, PARTITIONS, PATIENCE, Services, TOPIC, eventually, messages};
use crate::load::{append, notification};

cases![what_comes_in_a_topic_that_was_made_anew_arrives_and_what_is_gone_is_counted,];

/// Ranges of each partition begin behind the end that the new topic will have.
fn what_comes_in_a_topic_that_was_made_anew_arrives_and_what_is_gone_is_counted(
    services: &mut Services,
) -> Result<()> {
    let cluster = Cluster::start(services, "anew", 1)?;
    let load = Numbers::new(&cluster)?;
    load.append(0..300)?;
    cluster.arrives(300)?;
    let paused = HookEndpoint::start()?;
    let fields = json!({"name": "paused", "url": paused.url(), "active": true, "paused": true, "filter": {}});
    let made = cluster.ask(0, "POST", "/endpoints", &json!({"endpoint": fields}))?;
    let id = made["data"]["id"].as_str().context("no id")?;
    load.append(300..600)?;
    cluster.arrives_but_for_ranges(600)?;
    cluster.services.kafka.delete_topic(TOPIC)?;
    cluster.services.kafka.create_topic(TOPIC, PARTITIONS)?;
    load.append(600..660)?;
    cluster.arrives_but_for_ranges(660)?;
    let goes_on = json!({"endpoint": {"paused": false}});
    cluster.ask(0, "PUT", &format!("/endpoints/{id}"), &goes_on)?;
    let missing = || {
        let came = messages(&paused.hooks());
        let missing: Vec<u32> = (600..660).filter(|n| !came.contains_key(n)).collect();
        format!("{missing:?} do not arrive")
    };
    eventually(PATIENCE, missing, || {
        let came = messages(&paused.hooks());
        Ok((600..660).all(|n| came.contains_key(&n)))
    })?;
    // Nothing is left of the former topic.
    cluster.arrives(660)?;
    let gone = || Ok(cluster.count(0, "dovecast_dispatch_missing_records_total")? == 300);
    eventually(PATIENCE, || "300 are counted as missing".to_owned(), gone)?;
    let told = "an endpoint owes records that the log does not have";
    cluster.nodes[0].log_with(&[told, id, TOPIC])?;
    Ok(())
}

/// Messages that are numbers.
struct Numbers {
    runtime: tokio::runtime::Runtime,
    log: dovecast_log::kafka::KafkaLog,
    account: String,
}

impl Numbers {
    fn new(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            log: cluster.log()?,
            account: cluster.account.clone(),
        })
    }

    fn append(&self, numbers: std::ops::Range<u32>) -> Result<()> {
        let now_ms = now_ms();
        let record = |number| -> Result<_> {
            let mut record = notification(&self.account, "", number);
            record.timestamp_ms = now_ms;
            Ok(record)
        };
        append(
            &self.runtime,
            &self.log,
            numbers.map(record).collect::<Result<_>>()?,
        )
    }
}
