//! One process, as those see it who ask it.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::{READY, frame};

/// What becomes of what a process writes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandardError {
    /// Nobody reads it.
    Nobody,
    /// The caller reads it, see [`Process::take_standard_error`].
    Caller,
}

/// A process that is asked by frames; killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Process {
    /// Starts a process of this command, the program first, and waits until it is ready.
    pub async fn start(command: &[OsString], error: StandardError) -> io::Result<Self> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let mut child = Command::new(program)
            .args(arguments)
            // What configures a server, secrets among it, is not for what others have written.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(match error {
                StandardError::Nobody => Stdio::null(),
                StandardError::Caller => Stdio::piped(),
            })
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, mut output) =
            pipes.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let mut ready = [0];
        if output.read_exact(&mut ready).await.is_err() || ready[0] != READY {
            child.start_kill()?;
            let status = child.wait().await?;
            return Err(io::Error::other(format!("it is not ready: {status}")));
        }
        Ok(Self {
            child,
            input,
            output,
        })
    }

    /// What the process writes to standard error, once.
    pub fn take_standard_error(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Sends a frame. Whoever drops this or [`receive`](Self::receive) before its end leaves a
    /// process that nobody may ask again.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.write_all(&frame::encode(bytes)?).await?;
        self.input.write_all(bytes).await?;
        self.input.flush().await
    }

    /// Receives a frame of at most so many bytes.
    pub async fn receive(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.output.read_exact(&mut length).await?;
        let mut bytes = vec![0; frame::decode(length, most)?];
        self.output.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    /// Kills the process, if it has not ended, and says how it has ended.
    pub async fn kill(mut self) -> io::Result<ExitStatus> {
        // What has ended by itself cannot be killed, and says how.
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.child.start_kill()?;
        self.child.wait().await
    }

    /// How the process ends by itself, now that its pipes are closed.
    pub async fn ended(self) -> io::Result<ExitStatus> {
        let Self {
            mut child,
            input,
            output,
        } = self;
        drop((input, output));
        child.wait().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<OsString> {
        ["/bin/sh", "-c", script].map(OsString::from).to_vec()
    }

    #[tokio::test]
    async fn a_process_is_asked_and_answers_and_inherits_nothing() {
        let echo = shell("printf '\\001'; pwd >&2; env >&2; exec /bin/cat");
        let started = Process::start(&echo, StandardError::Caller).await;
        let mut process = started.expect("ready");
        process.send(b"hello").await.expect("sent");
        assert_eq!(process.receive(5).await.expect("answered"), b"hello");
        process.send(b"hello").await.expect("sent");
        let error = process.receive(4).await.expect_err("longer than wanted");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let mut printed = String::new();
        let mut output = process.take_standard_error().expect("once");
        assert!(process.take_standard_error().is_none());
        assert!(process.kill().await.expect("killed").code().is_none());
        output.read_to_string(&mut printed).await.expect("text");
        assert!(printed.starts_with("/\n") && !printed.contains("HOME="));
    }

    #[tokio::test]
    async fn a_process_that_ends_says_how() {
        let ends = shell("printf '\\001'; exit 3");
        let started = Process::start(&ends, StandardError::Nobody).await;
        let mut process = started.expect("ready");
        let error = process.receive(4).await.expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(process.ended().await.expect("ended").code(), Some(3));
        for command in [shell("exit 3"), shell("printf no"), Vec::new()] {
            let started = Process::start(&command, StandardError::Nobody).await;
            started.expect_err("never ready");
        }
    }
}
