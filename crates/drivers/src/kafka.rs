//! The driver `kafka`: notifications become records of a topic, in a cluster that the operator has
//! named.
//!
//! A record has the key and the headers of the one that its notification was read from (and
//! `dovecast-id`, where that had none); its value is what a record of `hooks.outbox` holds. It is
//! delivered when all replicas in sync have it. All endpoints of a cluster share one producer.
//!
//! What is about this record alone, its size or its form, ends the delivery; what an operator can
//! put right, a topic that is not there or that may not be written to, is retried like a cluster
//! that is away.

mod cluster;
mod outcome;
mod producer;
mod topics;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_dispatch::driver::{
    Answer, Attempt, Boxed, Courier, Delivery, Driver, Outcome, Settings, SettingsError, Target,
};

use cluster::Cluster;
use producer::Stored;

pub use cluster::{ClusterError, ClusterOptions};

const CLUSTER: &str = "cluster";
const TOPIC: &str = "topic";

/// The driver `kafka`.
pub struct KafkaDriver {
    clusters: Vec<Arc<Cluster>>,
}

impl KafkaDriver {
    /// Name of the driver.
    pub const NAME: &str = "kafka";

    /// Makes the producers of the clusters, which need not be there. `timeout` bounds an attempt.
    pub fn new(clusters: &[ClusterOptions], timeout: Duration) -> Result<Self, ClusterError> {
        let clusters = clusters.iter();
        let made = clusters.map(|options| Cluster::new(options, timeout).map(Arc::new));
        Ok(Self {
            clusters: made.collect::<Result<_, _>>()?,
        })
    }
}

impl Driver for KafkaDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn target(&self, settings: &Settings<'_>) -> Result<Arc<dyn Target>, SettingsError> {
        settings.known(&[CLUSTER, TOPIC], &[])?;
        let name = settings.text(CLUSTER)?;
        let of_name = self.clusters.iter().find(|cluster| cluster.name() == name);
        // The same words for both: names of clusters are the operator's.
        let cluster = of_name
            .filter(|cluster| cluster.may_be_used_by(settings.account))
            .ok_or_else(|| {
                let reason =
                    format!("names `{name}`, which is no cluster that this account may use");
                SettingsError::new(CLUSTER, reason)
            })?;
        let topic = settings.text(TOPIC)?;
        let checked = topics::check_name(topic).and_then(|()| {
            let may_write = cluster.may_write(settings.account, topic);
            may_write
                .then_some(())
                .ok_or("which this account may not write to")
        });
        checked.map_err(|why| SettingsError::new(TOPIC, format!("names `{topic}`, {why}")))?;
        Ok(Arc::new(KafkaTarget {
            authority: format!("{}:{name}", Self::NAME),
            cluster: Arc::clone(cluster),
            topic: topic.into(),
        }))
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(async {
            for cluster in &self.clusters {
                cluster.close().await;
            }
        })
    }
}

/// A topic of a cluster.
struct KafkaTarget {
    authority: String,
    cluster: Arc<Cluster>,
    topic: Arc<str>,
}

impl Target for KafkaTarget {
    fn authority(&self) -> Option<&str> {
        Some(&self.authority)
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Writer(self))
    }
}

impl fmt::Debug for KafkaTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kafka")
            .field(&self.authority)
            .field(&self.topic)
            .finish()
    }
}

/// Writes to a topic; the producer is the cluster's.
struct Writer(Arc<KafkaTarget>);

impl Writer {
    async fn attempt(&self, delivery: &Delivery) -> Attempt {
        let started = Instant::now();
        let mut stored = None;
        for notification in &delivery.notifications {
            // One after the other: what is behind one that fails is not stored before it.
            match self.0.cluster.store(&self.0.topic, notification).await {
                Ok(place) => stored = Some(place),
                Err(attempt) => {
                    return Attempt {
                        latency: started.elapsed(),
                        ..attempt
                    };
                }
            }
        }
        Attempt {
            note: None,
            outcome: Outcome::Delivered,
            answer: stored.map(|Stored { partition, offset }| Answer {
                status: None,
                head: format!("partition {partition}, offset {offset}"),
            }),
            latency: started.elapsed(),
        }
    }
}

impl Courier for Writer {
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery) -> Boxed<'a, Attempt> {
        Box::pin(self.attempt(delivery))
    }
}
