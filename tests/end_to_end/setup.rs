//! A Dovecot with the plugin and a mock broker, wired together, in words that no Dovecot version
//! owns.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use dovecast_testkit::dovecot::{Builder, Dovecot, Installation, Series};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::plugin::{Build, modules};
use dovecast_testkit::server::Server;
use dovecast_testkit::topic::{Record, TopicReader};

/// How long a record may take to arrive before a test fails.
pub(crate) const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

/// A running Dovecot that publishes to a mock broker.
pub(crate) struct Setup {
    pub(crate) dovecot: Dovecot,
    pub(crate) broker: MockBroker,
}

impl Setup {
    /// One driver instance with these options; `configure` adds to Dovecot's configuration.
    pub(crate) fn start(
        on: Installation,
        options: &str,
        configure: impl FnOnce(Builder) -> Builder,
    ) -> Result<Self> {
        let broker = MockBroker::start(1)?;
        let builder = builder(on, &[options], &broker.bootstrap_servers())?;
        Ok(Self {
            dovecot: configure(builder).start()?,
            broker,
        })
    }

    pub(crate) fn reader(&self, topic: &str) -> Result<TopicReader> {
        reader(&self.broker, topic)
    }
}

/// Reads a topic of a mock broker from its beginning.
pub(crate) fn reader(broker: &MockBroker, topic: &str) -> Result<TopicReader> {
    let servers = ("bootstrap.servers".to_owned(), broker.bootstrap_servers());
    TopicReader::new(&[servers], topic)
}

/// A Dovecot that loads the plugin and has no driver instance.
pub(crate) fn with_plugin(on: Installation, build: Build) -> Result<Builder> {
    let modules = modules(on, build)?;
    let builder = Dovecot::builder().installation(on).plugin(modules.plugin);
    Ok(match modules.settings {
        Some(module) => builder.settings_module(module),
        None => builder,
    })
}

/// A Dovecot with one driver instance of kafka per element of `instances`.
pub(crate) fn builder(on: Installation, instances: &[&str], brokers: &str) -> Result<Builder> {
    let builder = with_plugin(on, Build::Dev)?.kafka("kafka_brokers", brokers);
    let add = |builder: Builder, options: &&str| builder.driver(&format!("kafka:{options}"));
    Ok(instances.iter().fold(builder, add))
}

/// The userdb field that overrides a general setting, named as in Dovecot 2.3, of the first driver
/// instance.
pub(crate) fn override_field(on: Installation, setting: &str) -> String {
    match on.series() {
        Series::V2_3 => format!("kafka.notification.{setting}"),
        Series::V2_4 => format!("push_notification/d1/{setting}"),
    }
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

/// Delivers mails to alice over LMTP, each over a connection of its own.
pub(crate) fn deliver_all(dovecot: &Dovecot, mails: &[&[u8]]) -> Result<()> {
    for mail in mails {
        let mut lmtp = dovecot.lmtp()?;
        lmtp.deliver_ok("bob@sender.example", &["alice"], mail)?;
        lmtp.quit()?;
    }
    Ok(())
}

/// Dovecot's own driver ox with what the METADATA entry of a user says, for a server of ours at
/// this address.
pub(crate) fn ox_by_metadata(on: Installation, address: &str) -> String {
    let named = match on.series() {
        Series::V2_3 => "user_from_metadata",
        Series::V2_4 => "user_from_metadata=yes",
    };
    format!("ox:url=http://dovecot:s3cret@{address}/preliminary/http-notify/v1/notify {named}")
}

/// Has a server that is down listen at this address when it starts.
pub(crate) fn listen_at(server: &Server, address: &str) -> Result<()> {
    let text = fs::read_to_string(server.config_file())?;
    // The port behind that may be another's.
    let listen = format!("{address}\"\nmonitor_listen = \"127.0.0.1:0");
    let text = text.replacen("127.0.0.1:0", &listen, 1);
    Ok(fs::write(server.config_file(), text)?)
}
