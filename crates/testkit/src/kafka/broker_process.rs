//! One run of a broker: the Java process, its signals, and the watchdog that ends it if this
//! process dies first.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::java::Java;

/// A running broker; dropped, it is killed.
pub(super) struct BrokerProcess {
    child: Child,
    watchdog: Child,
}

impl BrokerProcess {
    /// Starts `kafka.Kafka` on a file of settings. `directory` goes with the broker if this process
    /// is killed.
    pub(super) fn start(
        java: &Java,
        settings: &Path,
        log: &Path,
        directory: &Path,
    ) -> Result<BrokerProcess> {
        let mut child = java
            .command("kafka.Kafka", log)?
            .arg(settings)
            .current_dir(directory)
            // Out of the way of a Ctrl-C meant for the tests: the watchdog cleans up after it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", java.program().display()))?;
        match watch(child.id(), directory) {
            Ok(watchdog) => Ok(BrokerProcess { child, watchdog }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// How it ended, if it has.
    pub(super) fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        let pid = self.child.id();
        self.child
            .try_wait()
            .with_context(|| format!("cannot ask after broker process `{pid}`"))
    }

    /// Sends one signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        // Not yet waited for, so the id is still this child's.
        kill_process(Pid::from_child(&self.child), signal).with_context(|| {
            format!(
                "cannot send {signal:?} to broker process `{}`",
                self.child.id()
            )
        })
    }

    /// Asks it to shut down cleanly and waits for `grace`; what has not ended by then is killed on
    /// drop.
    pub(super) fn stop(mut self, grace: Duration) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.signal(Signal::TERM)?;
        let deadline = Instant::now() + grace;
        while self.exit_status()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // The watchdog first: afterwards the broker's process id may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A shell that waits for the end of a pipe from this process, which comes however this process
/// ends.
fn watch(pid: u32, directory: &Path) -> Result<Child> {
    Command::new("sh")
        .args(["-c", r#"read -r _; kill -KILL "$1"; rm -rf "$2""#, "sh"])
        .arg(pid.to_string())
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start `sh` to watch over the broker")
}

/// The last lines of a log, for an error message.
pub(super) fn tail(log: &Path) -> String {
    const LINES: usize = 40;
    match fs::read_to_string(log) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LINES)..].join("\n")
        }
        Err(error) => format!("cannot read `{}`: {error}", log.display()),
    }
}
