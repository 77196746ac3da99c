//! A `dovecast serve` in a temporary directory, for one benchmark.

use std::fs::{self, File};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::config::Config;
use crate::control::client::Client;

/// How long it may take to be ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running server; it is killed and its directory removed when this is dropped.
pub(super) struct OwnServer {
    child: Child,
    config: Config,
    dir: TempDir,
}

impl OwnServer {
    /// With the default configuration, but for where it listens and that it may send webhooks to
    /// `sink`.
    pub(super) async fn start(sink: IpAddr) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("dovecast-bench-")
            .tempdir()
            .context("cannot make a temporary directory")?;
        let (file, data_dir) = (dir.path().join("dovecast.toml"), dir.path().join("data"));
        let text = format!(
            "roles = [\"dispatch\"]\n[http]\nlisten = \"127.0.0.1:0\"\n[dispatch]\nallowed_networks = [\"{sink}\"]\n"
        );
        fs::write(&file, text).context("cannot write a configuration")?;
        let config = Config::load(Some(&file), Some(&data_dir))?;
        let log = File::create(dir.path().join("server.log")).context("cannot make a log file")?;
        let program = std::env::current_exe().context("cannot find the program itself")?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&file);
        command.arg("--data-dir").arg(&data_dir).arg("serve");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start a server")?;
        let mut server = Self { child, config, dir };
        let ready = tokio::time::timeout(PATIENCE, server.is_ready()).await;
        ready.unwrap_or_else(|_| {
            bail!(
                "the server of the benchmark is not ready after {} s",
                PATIENCE.as_secs()
            )
        })?;
        Ok(server)
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    async fn is_ready(&mut self) -> Result<()> {
        let client = Client::new(&self.config);
        while client.endpoints(None).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.dir.path().join("server.log"));
                let log = log.unwrap_or_default();
                let last = log.lines().last().unwrap_or_default();
                bail!("the server has ended with {status}: {last}");
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Ends it as an operator does.
    pub(super) async fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .context("cannot stop the server")?;
        let ended = async {
            while self.child.try_wait()?.is_none() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            anyhow::Ok(())
        };
        let ended = tokio::time::timeout(PATIENCE, ended).await;
        ended.context("the server does not stop and is killed")?
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        // It may have ended, and nobody is there to be told.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
