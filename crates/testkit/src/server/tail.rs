//! A `dovecast tail` that runs beside a test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// A `dovecast tail`, and what it prints.
#[derive(Debug)]
pub struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run dovecast tail")?;
        let out = child.stdout.take().context("it has no output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line; `None` if none comes in time.
    pub fn next(&self, timeout: Duration) -> Result<Option<String>> {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(anyhow!("dovecast tail has ended")),
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It ends with the server at the latest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
