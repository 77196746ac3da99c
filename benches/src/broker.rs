//! A mock cluster in a process of its own, so that its threads are nobody else's: this executable,
//! started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use dovecast_testkit::mock_broker::MockBroker;

/// The hidden subcommand that runs the cluster: `broker COUNT`.
pub(crate) const SUBCOMMAND: &str = "broker";

/// A running cluster; gone when dropped.
pub(crate) struct BrokerProcess {
    child: Child,
    bootstrap_servers: String,
}

impl BrokerProcess {
    /// Starts a cluster of `brokers` brokers.
    pub(crate) fn start(brokers: u32) -> Result<Self> {
        let executable = std::env::current_exe().context("no path to this executable")?;
        let mut child = Command::new(executable)
            .args([SUBCOMMAND, &brokers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a broker process")?;
        let output = child.stdout.take().context("the broker has no output")?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("the broker said nothing")?;
        Ok(Self {
            child,
            bootstrap_servers: line.trim().to_owned(),
        })
    }

    /// The value for `bootstrap.servers`.
    pub(crate) fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process itself: prints where the cluster is and stays until its parent closes the pipe or
/// ends.
pub(crate) fn serve(brokers: Option<&str>) -> Result<()> {
    let brokers = brokers
        .and_then(|count| count.parse().ok())
        .context("broker: how many?")?;
    let cluster = MockBroker::start(brokers)?;
    println!("{}", cluster.bootstrap_servers());
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
