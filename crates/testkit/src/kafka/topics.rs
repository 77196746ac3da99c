//! Topics of the broker: made and deleted, with patience until it is so.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataTopic;

use super::{ADMIN_TIMEOUT, POLL_INTERVAL, RealKafka};

impl RealKafka {
    /// Creates a topic and waits until its partitions can be written to. Others appear on demand
    /// with 1 partition.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, &[])
    }

    /// Creates a topic with settings of its own, and waits until its partitions can be written to.
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let what = || format!("cannot create topic `{name}` with `{partitions}` partitions");
        let admin: AdminClient<DefaultClientContext> = self.client().create().with_context(what)?;
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_TIMEOUT))
            .operation_timeout(Some(ADMIN_TIMEOUT));
        let results = futures_executor::block_on(admin.create_topics([&topic], &options))
            .with_context(what)?;
        for result in results {
            result
                .map_err(|(_, code)| anyhow!(code))
                .with_context(what)?;
        }
        let wanted = usize::try_from(partitions).with_context(what)?;
        let deadline = Instant::now() + ADMIN_TIMEOUT;
        while led_partitions(admin.inner(), name) < wanted {
            if Instant::now() > deadline {
                return Err(anyhow!("its partitions have no leader").context(what()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// Deletes a topic, with all that is in it, and waits until the broker knows of none: what is
    /// sent to one of this name from then on is lost to nobody.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        let what = || format!("cannot delete topic `{name}`");
        let admin: AdminClient<DefaultClientContext> = self.client().create().with_context(what)?;
        let options = AdminOptions::new()
            .request_timeout(Some(ADMIN_TIMEOUT))
            .operation_timeout(Some(ADMIN_TIMEOUT));
        let results = futures_executor::block_on(admin.delete_topics(&[name], &options))
            .with_context(what)?;
        for result in results {
            result
                .map_err(|(_, code)| anyhow!(code))
                .with_context(what)?;
        }
        // The controller has deleted it; the broker takes records for it until it hears of that.
        let deadline = Instant::now() + ADMIN_TIMEOUT;
        while is_listed(admin.inner(), name).with_context(what)? {
            if Instant::now() > deadline {
                return Err(anyhow!("the broker still has it").context(what()));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }
}

/// Whether the broker has a topic. It is asked for all: one that is asked for by name it may make.
fn is_listed(client: &Client<DefaultClientContext>, topic: &str) -> KafkaResult<bool> {
    let metadata = client.fetch_metadata(None, ADMIN_TIMEOUT)?;
    let mut topics = metadata.topics().iter();
    Ok(topics.any(|found| found.name() == topic))
}

/// How many partitions of a topic have a leader.
fn led_partitions(client: &Client<DefaultClientContext>, topic: &str) -> usize {
    let Ok(metadata) = client.fetch_metadata(Some(topic), ADMIN_TIMEOUT) else {
        return 0;
    };
    metadata
        .topics()
        .iter()
        .flat_map(MetadataTopic::partitions)
        .filter(|partition| partition.leader() >= 0)
        .count()
}
