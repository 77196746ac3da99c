//! What is measured: a Dovecot with some drivers, and brokers in the states that brokers get into.

use std::cell::RefCell;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dovecast_testkit::dovecot::{Builder, Dovecot, Installation, MAIL_UID};
use dovecast_testkit::loopback;
use dovecast_testkit::mock_broker::HungBroker;
use dovecast_testkit::plugin::{Build, Modules, modules};
use dovecast_testkit::server::Server;
use tempfile::NamedTempFile;

use crate::broker::BrokerProcess;
use crate::receiver::{self, Receiver, Started, ask_for_ox};

/// State of the brokers that the plugin is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brokers {
    Up,
    /// As `Up`, three of them.
    ThreeUp,
    /// Nobody listens.
    Down,
    /// Accept connections and never answer.
    Hung,
    /// Their name does not resolve.
    Unresolvable,
}

impl Brokers {
    /// The four states that mail must not notice.
    pub(crate) const STATES: [Self; 4] = [Self::Up, Self::Down, Self::Hung, Self::Unresolvable];
}

/// State of the relay that the plugin is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relays {
    /// `dovecast serve` with its embedded log.
    Up,
    /// As `Up`, with `commit_interval_ms = 0`: each frame is read and committed for itself.
    UpEachFrame,
    /// Nobody listens: events are spilled.
    Down,
    /// Accepts connections and neither reads nor answers.
    Hung,
}

impl Relays {
    /// The states that mail must not notice.
    pub(crate) const STATES: [Self; 4] = [Self::Up, Self::UpEachFrame, Self::Down, Self::Hung];
}

/// What is loaded into Dovecot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// No mail plugin at all.
    NoPlugins,
    /// The push-notification framework without a driver: the baseline.
    Framework,
    /// Dovecot's own driver that writes to the debug log.
    Dlog,
    /// Dovecot's own Lua driver with empty functions: what it costs that the framework gathers
    /// every event's data.
    EmptyLua,
    /// Dovecot's own Lua driver with a script that works.
    Lua,
    /// Our plugin.
    Kafka { instances: u32, brokers: Brokers },
    /// Our plugin, as it is built without librdkafka, one instance.
    Relay(Relays),
    /// Our plugin with all details, and a server behind it that delivers to this receiver.
    Behind(Receiver),
    /// Our plugin, one instance, brokers up, as [`World::variants`] says at this place.
    Variant(usize),
}

/// What is measured beside the plugin as it is.
#[derive(Clone, Debug)]
pub(crate) enum Variant {
    /// Another build of it.
    Build(PathBuf),
    /// Other options of the driver instance.
    Options(String),
    /// A general setting, without its prefix.
    Setting(String, String),
}

impl fmt::Display for Subject {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlugins => out.write_str("no plugins"),
            Self::Framework => out.write_str("framework, no driver"),
            Self::Dlog => out.write_str("dlog"),
            Self::EmptyLua => out.write_str("lua, empty functions"),
            Self::Lua => out.write_str("lua"),
            Self::Variant(i) => write!(out, "kafka 1, up, variant {}", i + 1),
            Self::Relay(Relays::UpEachFrame) => out.write_str("relay, up, each frame"),
            Self::Behind(receiver) => receiver.fmt(out),
            Self::Relay(state) => write!(out, "relay, {}", format!("{state:?}").to_lowercase()),
            Self::Kafka { instances, brokers } => {
                let state = match brokers {
                    Brokers::Up => "up",
                    Brokers::ThreeUp => "up, 3 brokers",
                    Brokers::Down => "down",
                    Brokers::Hung => "hung",
                    Brokers::Unresolvable => "unresolvable",
                };
                write!(out, "kafka {instances}, {state}")
            }
        }
    }
}

impl Subject {
    /// Whether it is our plugin, and so has to meet the bars.
    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Kafka { .. } | Self::Variant(_) | Self::Relay(_) | Self::Behind(_)
        )
    }

    /// How many records each event makes where brokers take them.
    pub(crate) fn records_per_event(self) -> u32 {
        match self {
            Self::Kafka {
                instances,
                brokers: Brokers::Up | Brokers::ThreeUp,
            } => instances,
            Self::Variant(_) => 1,
            _ => 0,
        }
    }
}

/// Everything the subjects need, alive as long as they are measured.
pub(crate) struct World {
    /// How many rounds every table takes, if it is not to be the table's own number.
    rounds: Option<usize>,
    config: String,
    wanted: Vec<String>,
    on: Installation,
    modules: Modules,
    relay_modules: Modules,
    variants: Vec<Variant>,
    one: BrokerProcess,
    three: BrokerProcess,
    hung_servers: String,
    _hung: HungBroker,
    refusing: String,
    lua: NamedTempFile,
    working_lua: NamedTempFile,
    relays: RefCell<Vec<Server>>,
    hung_relays: RefCell<Vec<UnixListener>>,
    receivers: RefCell<Vec<Started>>,
}

impl World {
    pub(crate) fn new(
        on: Installation,
        rounds: Option<usize>,
        config: String,
        wanted: Vec<String>,
        variants: Vec<Variant>,
    ) -> Result<Self> {
        let hung = HungBroker::start()?;
        Ok(Self {
            rounds,
            config,
            wanted,
            on,
            modules: modules(on, Build::Release)?,
            relay_modules: modules(on, Build::ReleaseRelayOnly)?,
            variants,
            one: BrokerProcess::start(1)?,
            three: BrokerProcess::start(3)?,
            hung_servers: hung.bootstrap_servers(),
            _hung: hung,
            refusing: format!("{}:9092", loopback::unique_address()),
            lua: receiver::empty_script()?,
            working_lua: receiver::script(receiver::WORKS)?,
            relays: RefCell::default(),
            hung_relays: RefCell::default(),
            receivers: RefCell::default(),
        })
    }

    /// How many rounds a table takes: `usual`, unless the command line says otherwise.
    pub(crate) fn rounds(&self, usual: usize) -> usize {
        self.rounds.unwrap_or(usual)
    }

    /// The subjects whose speed is measured against [`Subject::Framework`], which is among them:
    /// its own ratio shows how far the others can be trusted.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let mut subjects = vec![
            Subject::NoPlugins,
            Subject::Framework,
            Subject::Dlog,
            Subject::EmptyLua,
        ];
        for instances in [1, 2] {
            subjects.extend(Brokers::STATES.map(|brokers| Subject::Kafka { instances, brokers }));
        }
        subjects.extend(Relays::STATES.map(Subject::Relay));
        subjects.extend((0..self.variants.len()).map(Subject::Variant));
        subjects.retain(|subject| self.is_wanted(*subject));
        for (i, variant) in self.variants.iter().enumerate() {
            println!("variant {}: {variant:?}", i + 1);
        }
        subjects
    }

    /// The subjects of which one is compared with [`Receiver::Nobody`].
    pub(crate) fn behind(&self) -> Vec<Subject> {
        let mut subjects = Receiver::MEASURED.map(Subject::Behind).to_vec();
        subjects.retain(|subject| self.is_wanted(*subject));
        subjects
    }

    /// Whether the command line asks for a subject.
    fn is_wanted(&self, subject: Subject) -> bool {
        let name = subject.to_string();
        self.wanted.is_empty() || self.wanted.iter().any(|text| name.contains(text))
    }

    /// The value for `bootstrap.servers`.
    pub(crate) fn bootstrap_servers(&self, brokers: Brokers) -> &str {
        match brokers {
            Brokers::Up => self.one.bootstrap_servers(),
            Brokers::ThreeUp => self.three.bootstrap_servers(),
            Brokers::Down => &self.refusing,
            Brokers::Hung => &self.hung_servers,
            Brokers::Unresolvable => "no-such-broker.invalid:9092",
        }
    }

    /// Starts a Dovecot. Driver instances publish to the topics `topic`-1, `topic`-2...
    pub(crate) fn start(&self, subject: Subject, topic: &str) -> Result<Dovecot> {
        let builder = self.builder();
        let builder = match subject {
            Subject::NoPlugins => builder.no_plugins(),
            Subject::Framework => builder,
            Subject::Dlog => builder.driver("dlog"),
            Subject::EmptyLua => with_script(builder, &self.lua),
            Subject::Lua => with_script(builder, &self.working_lua),
            Subject::Kafka { instances, brokers } => {
                let brokers = self.bootstrap_servers(brokers);
                self.kafka(&self.modules.plugin, instances, brokers, topic, "")
            }
            Subject::Relay(_) => self
                .ours(&self.relay_modules)
                .relay()
                .driver(&format!("kafka:topic={topic}-1")),
            // Drivers get what is in the topic of events, which is the plugin's own.
            Subject::Behind(_) => self
                .ours(&self.relay_modules)
                .relay()
                .driver(&format!("kafka:{}", Receiver::plugin_options())),
            Subject::Variant(i) => {
                let servers = self.bootstrap_servers(Brokers::Up);
                let plugin = &self.modules.plugin;
                match &self.variants[i] {
                    Variant::Build(other) => self.kafka(other, 1, servers, topic, ""),
                    Variant::Options(text) => self.kafka(plugin, 1, servers, topic, text),
                    Variant::Setting(name, value) => {
                        self.kafka(plugin, 1, servers, topic, "").kafka(name, value)
                    }
                }
            }
        };
        let dovecot = builder
            .config(&self.config)
            .start()
            .with_context(|| subject.to_string())?;
        match subject {
            Subject::Relay(state) => self.start_relay(state, &dovecot)?,
            Subject::Behind(receiver) => self.start_behind(receiver, &dovecot)?,
            _ => {}
        }
        Ok(dovecot)
    }

    /// Starts a relay for a Dovecot. Its socket goes with Dovecot's directory, so it may stay as
    /// long as the world.
    fn start_relay(&self, state: Relays, dovecot: &Dovecot) -> Result<()> {
        let socket = dovecot.relay_dir().join("relay.sock");
        match state {
            Relays::Down => {}
            Relays::Up => self.relays.borrow_mut().push(relay_for(dovecot)?),
            Relays::UpEachFrame => {
                let relay = relay_with(dovecot, "commit_interval_ms = 0")?;
                self.relays.borrow_mut().push(relay);
            }
            Relays::Hung => {
                let listener = UnixListener::bind(&socket).context("no socket for a hung relay")?;
                fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
                self.hung_relays.borrow_mut().push(listener);
            }
        }
        Ok(())
    }

    /// Starts a server for a Dovecot that delivers to a receiver.
    fn start_behind(&self, receiver: Receiver, dovecot: &Dovecot) -> Result<()> {
        let started = receiver.start()?;
        let server = relay_with(dovecot, &started.config)?;
        self.receivers.borrow_mut().push(started);
        self.relays.borrow_mut().push(server);
        ask_for_ox(dovecot, "alice")
    }

    /// Asks the server that was started last.
    pub(crate) fn behind_server<T>(&self, ask: impl FnOnce(&Server) -> Result<T>) -> Result<T> {
        ask(self
            .relays
            .borrow()
            .last()
            .context("no server was started")?)
    }

    /// Deliveries do not wait for the disk: that wait is many times what is measured here, and
    /// every disk's is another.
    fn builder(&self) -> Builder {
        Dovecot::builder()
            .installation(self.on)
            .config("mail_fsync = never")
    }

    fn ours(&self, modules: &Modules) -> Builder {
        let builder = self.builder().plugin(&modules.plugin);
        match &modules.settings {
            Some(settings) => builder.settings_module(settings),
            None => builder,
        }
    }

    fn kafka(
        &self,
        plugin: &Path,
        instances: u32,
        brokers: &str,
        topic: &str,
        options: &str,
    ) -> Builder {
        let mut builder = self
            .builder()
            .plugin(plugin)
            .kafka("kafka_brokers", brokers);
        if let Some(settings) = &self.modules.settings {
            builder = builder.settings_module(settings);
        }
        (1..=instances).fold(builder, |builder, instance| {
            builder.driver(&format!("kafka:topic={topic}-{instance} {options}"))
        })
    }
}

/// With Dovecot's own Lua driver.
fn with_script(builder: Builder, script: &NamedTempFile) -> Builder {
    builder
        .extra_mail_plugins("mail_lua push_notification_lua")
        .file(script.path())
        .driver(&format!("lua:file={}", script.path().display()))
}

/// A relay for this Dovecot, as operators run it.
pub(crate) fn relay_for(dovecot: &Dovecot) -> Result<Server> {
    relay_with(dovecot, "")
}

/// A relay for this Dovecot with more in the section `[relay]`.
pub(crate) fn relay_with(dovecot: &Dovecot, config: &str) -> Result<Server> {
    let dir = dovecot.relay_dir();
    Server::builder()
        .release()
        .relay(dir.join("relay.sock"), dir.join("spill"))
        .config(&format!("allow = [\"root\", \"{MAIL_UID}\"]"))
        .config("topics = [\"*\"]")
        .config(config)
        .start()
}
