//! A Dovecot with the plugin and a mock broker, wired together.

use std::time::Duration;

use anyhow::Result;
use dovecast_testkit::dovecot::{Builder, Dovecot};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::plugin::{Build, shared_object};
use dovecast_testkit::topic::{Record, TopicReader};

/// How long a record may take to arrive before a test fails.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(20);

/// A running Dovecot that publishes to a mock broker.
pub(crate) struct Setup {
    pub(crate) dovecot: Dovecot,
    pub(crate) broker: MockBroker,
}

impl Setup {
    /// One driver instance with these options; `configure` adds to Dovecot's configuration.
    pub(crate) fn start(options: &str, configure: impl FnOnce(Builder) -> Builder) -> Result<Self> {
        let broker = MockBroker::start(1)?;
        let builder = builder(&[options], &broker.bootstrap_servers())?;
        Ok(Self {
            dovecot: configure(builder).start()?,
            broker,
        })
    }

    pub(crate) fn reader(&self, topic: &str) -> Result<TopicReader> {
        let settings = [(
            "bootstrap.servers".to_owned(),
            self.broker.bootstrap_servers(),
        )];
        TopicReader::new(&settings, topic)
    }
}

/// A Dovecot with one driver instance of kafka per element of `instances`.
pub(crate) fn builder(instances: &[&str], brokers: &str) -> Result<Builder> {
    let mut builder = Dovecot::builder()
        .plugin(shared_object(Build::Dev)?)
        .plugin_setting("kafka.notification.kafka_brokers", brokers);
    for (i, options) in instances.iter().enumerate() {
        let name = if i == 0 {
            String::new()
        } else {
            (i + 1).to_string()
        };
        builder = builder.plugin_setting(
            &format!("push_notification_driver{name}"),
            &format!("kafka:{options}"),
        );
    }
    Ok(builder)
}

/// A record's value with what differs from run to run replaced: UIDVALIDITY, unless it is 0.
pub(crate) fn value(record: &Record) -> String {
    normalise(&String::from_utf8_lossy(&record.value))
}

pub(crate) fn normalise(json: &str) -> String {
    const KEY: &str = "\"uidvalidity\":";
    let Some(at) = json.find(KEY).map(|at| at + KEY.len()) else {
        return json.to_owned();
    };
    let digits = json[at..].bytes().take_while(u8::is_ascii_digit).count();
    let shown = if &json[at..at + digits] == "0" {
        "0"
    } else {
        "V"
    };
    format!("{}{shown}{}", &json[..at], &json[at + digits..])
}
