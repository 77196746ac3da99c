//! `[kafka_clusters.NAME]`: clusters that endpoints of the driver `kafka` may write to, and which
//! accounts may.

use std::collections::BTreeMap;

#[cfg(feature = "kafka")]
use dovecast_drivers::kafka::ClusterOptions;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaOptions;
use serde::{Deserialize, Deserializer};

#[cfg(feature = "kafka")]
use super::elsewhere::Absent;
use super::properties::Properties;

/// Clusters by their names.
pub(crate) type KafkaClusters = BTreeMap<String, KafkaCluster>;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(
    not(feature = "kafka"),
    allow(dead_code, reason = "checked in every build, used in one with Kafka")
)]
pub(crate) struct KafkaCluster {
    #[serde(deserialize_with = "super::brokers")]
    brokers: Vec<String>,
    #[serde(default)]
    accounts: Vec<String>,
    #[serde(default, deserialize_with = "super::topics::of_accounts")]
    topics: Vec<String>,
    #[serde(default)]
    pub(super) properties: Properties,
}

/// Reads all clusters, of which a build without Kafka takes none.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KafkaClusters, D::Error> {
    let clusters = KafkaClusters::deserialize(deserializer)?;
    if cfg!(not(feature = "kafka")) && !clusters.is_empty() {
        return Err(serde::de::Error::custom(
            "this dovecast was built without the feature `kafka`",
        ));
    }
    Ok(clusters)
}

/// Clusters as the driver takes them.
#[cfg(feature = "kafka")]
pub(super) fn options(
    clusters: &KafkaClusters,
    absent: Absent,
) -> anyhow::Result<Vec<ClusterOptions>> {
    let option = |(name, cluster): (&String, &KafkaCluster)| {
        let section = format!("kafka_clusters.{name}.properties");
        Ok(ClusterOptions {
            name: name.clone(),
            kafka: KafkaOptions {
                brokers: cluster.brokers.join(","),
                properties: cluster.properties.read(&section, absent)?,
            },
            accounts: cluster.accounts.clone(),
            topics: cluster.topics.clone(),
        })
    };
    clusters.iter().map(option).collect()
}
