//! A real Apache Kafka for tests: one node, broker and controller at once, in a private directory
//! and on a loopback address of its own.
//!
//! It is here for what the mock cluster cannot show: TLS, SASL, durability, a broker that freezes
//! or dies. It needs Java 17 and Kafka's jars (see `kafka/jars.rs`); what this machine cannot have
//! is [`Unavailable`], not an error. There are no access rules: every user may do everything, on
//! either listener; but see [`RealKafka::start_strict`].

mod broker_process;
mod clients;
mod jars;
mod java;
mod topics;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rustix::process::Signal;
use tempfile::TempDir;

use self::broker_process::BrokerProcess;
use self::java::Java;
use crate::certificates::Certificates;
use crate::cut_proxy::CutProxy;
use crate::loopback;
pub use crate::unavailable::Unavailable;

const PLAINTEXT_PORT: u16 = 9092;
const CONTROLLER_PORT: u16 = 9093;
const SASL_SSL_PORT: u16 = 9094;
const MUTUAL_TLS_PORT: u16 = 9095;
/// Port of the first listener behind a proxy; the next one has the next port.
const PROXIED_PORT: u16 = 9100;

const SASL_USER: &str = "dovecast";
const SASL_PASSWORD: &str = "testkit-secret";

/// Settings of [`RealKafka::start_strict`].
const STRICT_SETTINGS: &str = "auto.create.topics.enable=false\n\
    authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
    super.users=User:ANONYMOUS\n";

/// What is the same for every broker.
const FIXED_SETTINGS: &str = include_str!("kafka/server.properties");

/// Any 16 bytes in base64url; each broker has its own directory and address, so they may all have
/// the same.
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// Three seconds on an idle machine; tests run many at a time.
const START_TIMEOUT: Duration = crate::PATIENCE;
const STOP_TIMEOUT: Duration = crate::PATIENCE;
const ADMIN_TIMEOUT: Duration = crate::PATIENCE;
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A broker of its own, with its data in a temporary directory; both are gone when this is dropped.
pub struct RealKafka {
    // Before `directory`: fields are dropped in order, and the process must not outlive its files.
    process: Option<BrokerProcess>,
    java: Java,
    address: Ipv4Addr,
    certificates: Certificates,
    proxies: Vec<CutProxy>,
    settings: String,
    directory: TempDir,
}

impl RealKafka {
    /// Starts a broker and waits until it answers. The first start on a machine fetches Kafka (40
    /// MB).
    ///
    /// The outer error is a failure; the inner one says that this machine lacks what it takes.
    pub fn start() -> Result<Result<RealKafka, Unavailable>> {
        Self::start_with_proxies(0)
    }

    /// Starts a broker that makes no topic by itself, and lets the SCRAM user do nothing: whoever
    /// comes without a login may do everything.
    pub fn start_strict() -> Result<Result<RealKafka, Unavailable>> {
        Self::start_as(0, STRICT_SETTINGS)
    }

    /// Starts a broker with so many ways to it that can be cut, each for itself.
    ///
    /// A client is sent to the address that the listener it asks advertises; so there is a listener
    /// for each proxy, which advertises the proxy.
    pub fn start_with_proxies(proxies: u16) -> Result<Result<RealKafka, Unavailable>> {
        Self::start_as(proxies, "")
    }

    fn start_as(proxies: u16, settings: &str) -> Result<Result<RealKafka, Unavailable>> {
        let libs = match jars::find()? {
            Ok(libs) => libs,
            Err(unavailable) => return Ok(Err(unavailable)),
        };
        let java = Java::new(&libs);
        if let Err(unavailable) = java.check() {
            return Ok(Err(unavailable));
        }
        let directory = tempfile::Builder::new()
            .prefix("dovecast-kafka-")
            .tempdir()
            .context("cannot create a directory for Kafka")?;
        let address = loopback::unique_address();
        let certificates = Certificates::create(directory.path(), address)?;
        let proxies = (0..proxies)
            .map(|number| CutProxy::start((address, PROXIED_PORT + number)))
            .collect::<Result<Vec<_>>>()?;
        let mut kafka = RealKafka {
            process: None,
            java,
            address,
            certificates,
            proxies,
            settings: settings.to_owned(),
            directory,
        };
        let settings = kafka.server_settings();
        fs::write(kafka.settings_path(), settings).context("cannot write Kafka's settings")?;
        kafka.format_storage()?;
        kafka.run()?;
        Ok(Ok(kafka))
    }

    /// `host:port` of the listener without TLS or login.
    pub fn bootstrap_plaintext(&self) -> String {
        format!("{}:{PLAINTEXT_PORT}", self.address)
    }

    /// A way to it that can be cut: it leads to a listener without TLS or login. See
    /// [`RealKafka::start_with_proxies`].
    pub fn proxy(&self, number: usize) -> Result<&CutProxy> {
        let proxy = self.proxies.get(number);
        proxy.with_context(|| format!("Kafka was started without a proxy `{number}`"))
    }

    /// `host:port` of the listener with TLS and SCRAM-SHA-512; it asks for no client certificate.
    pub fn bootstrap_sasl_ssl(&self) -> String {
        format!("{}:{SASL_SSL_PORT}", self.address)
    }

    /// `host:port` of the listener with TLS that demands a client certificate and no login.
    ///
    /// A listener that merely asks for one would prove nothing: librdkafka keeps back what it
    /// expects to be refused.
    pub fn bootstrap_mutual_tls(&self) -> String {
        format!("{}:{MUTUAL_TLS_PORT}", self.address)
    }

    /// The authority that signed the server's and the client's certificate (PEM).
    pub fn ca_path(&self) -> &Path {
        &self.certificates.ca
    }

    /// A client certificate the broker trusts (PEM).
    pub fn client_cert_path(&self) -> &Path {
        &self.certificates.client_certificate
    }

    /// The private key of [`RealKafka::client_cert_path`] (PEM, PKCS #8, not encrypted).
    pub fn client_key_path(&self) -> &Path {
        &self.certificates.client_key
    }

    /// The one SCRAM user.
    pub fn sasl_user(&self) -> &'static str {
        SASL_USER
    }

    /// The password of [`RealKafka::sasl_user`].
    pub fn sasl_password(&self) -> &'static str {
        SASL_PASSWORD
    }

    /// What the broker wrote so far, over all its runs.
    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("kafka.log")
    }

    /// Freezes the broker (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&self) -> Result<()> {
        self.running()?.signal(Signal::STOP)
    }

    /// Lets a frozen broker go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        self.running()?.signal(Signal::CONT)
    }

    /// Kills the broker (SIGKILL). Its data stay, for [`RealKafka::restart`].
    pub fn kill(&mut self) -> Result<()> {
        self.running()?;
        self.process = None;
        Ok(())
    }

    /// Shuts the broker down cleanly, which takes it about three seconds. Its data stay, for
    /// [`RealKafka::restart`].
    pub fn stop(&mut self) -> Result<()> {
        self.running()?;
        match self.process.take() {
            Some(process) => process.stop(STOP_TIMEOUT),
            None => Ok(()),
        }
    }

    /// Starts the broker again on the same address and data, after a clean shutdown if it still
    /// runs.
    pub fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            self.stop()?;
        }
        self.run()
    }

    fn running(&self) -> Result<&BrokerProcess> {
        self.process
            .as_ref()
            .with_context(|| format!("the broker on `{}` does not run", self.address))
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap_plaintext())
            .set("reconnect.backoff.ms", "20")
            .set("reconnect.backoff.max.ms", "100");
        config
    }

    fn settings_path(&self) -> PathBuf {
        self.directory.path().join("server.properties")
    }

    fn server_settings(&self) -> String {
        let address = self.address;
        let data = self.directory.path().join("data");
        let key_store = &self.certificates.server_key_store;
        let authority = &self.certificates.ca;
        let open = format!(
            "OPEN://{address}:{PLAINTEXT_PORT},LOGIN://{address}:{SASL_SSL_PORT},\
             MUTUAL://{address}:{MUTUAL_TLS_PORT}"
        );
        let mut kinds =
            vec!["OPEN:PLAINTEXT,LOGIN:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT".to_owned()];
        let mut listeners = vec![format!("{open},CONTROLLER://{address}:{CONTROLLER_PORT}")];
        let mut advertised = vec![open];
        for proxy in &self.proxies {
            let (at, port) = (proxy.address(), proxy.address().port());
            kinds.push(format!("PROXIED{port}:PLAINTEXT"));
            listeners.push(format!("PROXIED{port}://{address}:{port}"));
            advertised.push(format!("PROXIED{port}://{at}"));
        }
        let [kinds, listeners, advertised] =
            [kinds, listeners, advertised].map(|several| several.join(","));
        format!(
            "{FIXED_SETTINGS}\
             controller.quorum.bootstrap.servers={address}:{CONTROLLER_PORT}\n\
             listener.security.protocol.map={kinds}\n\
             listeners={listeners}\n\
             advertised.listeners={advertised}\n\
             ssl.keystore.location={}\n\
             ssl.truststore.location={}\n\
             log.dirs={}\n\
             {}",
            key_store.display(),
            authority.display(),
            data.display(),
            self.settings
        )
    }

    fn format_storage(&self) -> Result<()> {
        let log = self.log_path();
        let scram = format!("SCRAM-SHA-512=[name={SASL_USER},password={SASL_PASSWORD}]");
        let status = self
            .java
            .command("kafka.tools.StorageTool", &log)?
            .args(["format", "--standalone", "--cluster-id", CLUSTER_ID])
            .args(["--add-scram", &scram, "--config"])
            .arg(self.settings_path())
            .status()
            .with_context(|| format!("cannot run `{}`", self.java.program().display()))?;
        if !status.success() {
            bail!(
                "formatting Kafka's storage failed ({status}):\n{}",
                broker_process::tail(&log)
            );
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let mut process = BrokerProcess::start(
            &self.java,
            &self.settings_path(),
            &self.log_path(),
            self.directory.path(),
        )?;
        self.wait_until_ready(&mut process)?;
        self.process = Some(process);
        Ok(())
    }

    fn wait_until_ready(&self, process: &mut BrokerProcess) -> Result<()> {
        let client: BaseConsumer = self
            .client()
            .create()
            .context("cannot make a client to ask whether Kafka is ready")?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let trouble = match client.fetch_metadata(None, Duration::from_secs(1)) {
                Ok(metadata) if !metadata.brokers().is_empty() => return Ok(()),
                Ok(_) => "it answers, but names no broker".to_owned(),
                Err(error) => error.to_string(),
            };
            let log = self.log_path();
            if let Some(status) = process.exit_status()? {
                let tail = broker_process::tail(&log);
                bail!("Kafka on `{}` ended ({status}):\n{tail}", self.address);
            }
            if Instant::now() > deadline {
                let tail = broker_process::tail(&log);
                bail!(
                    "Kafka on `{}` is not ready after {START_TIMEOUT:?} ({trouble}):\n{tail}",
                    self.address
                );
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
