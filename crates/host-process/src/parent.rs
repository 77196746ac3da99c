//! One process, as those see it who ask it.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
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

/// A process that is asked by frames; killed when this is dropped, with what it has started.
#[derive(Debug)]
pub struct Process {
    group: Group,
    input: ChildStdin,
    output: ChildStdout,
}

/// A process and all that it has started; killed when this is dropped.
#[derive(Debug)]
struct Group {
    child: Child,
    /// `None`: nothing is left to be killed.
    id: Option<Pid>,
}

impl Group {
    /// The group of a process that was started as the first one of it.
    fn of(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw);
        Self { child, id }
    }

    /// Kills all. The status of what has ended by itself stays what it is.
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // Nothing is there any more, which is what is wanted.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }

    /// Waits until the process has ended, and kills what it has left behind.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        // The system gives the number to another process only when nothing of the group is left,
        // and after all other numbers: what is killed here is of this group.
        self.kill();
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Process {
    /// Starts a process of this command, the program first, and waits until it is ready.
    pub async fn start(command: &[OsString], error: StandardError) -> io::Result<Self> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let child = Command::new(program)
            .args(arguments)
            // What configures a server, secrets among it, is not for what others have written.
            .env_clear()
            .current_dir("/")
            // What it starts is of its group, and is killed with it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(match error {
                StandardError::Nobody => Stdio::null(),
                StandardError::Caller => Stdio::piped(),
            })
            .kill_on_drop(true)
            .spawn()?;
        let mut group = Group::of(child);
        let pipes = group.child.stdin.take().zip(group.child.stdout.take());
        let (input, mut output) =
            pipes.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let mut ready = [0];
        if output.read_exact(&mut ready).await.is_err() || ready[0] != READY {
            group.kill();
            let status = group.ended().await?;
            return Err(io::Error::other(format!("it is not ready: {status}")));
        }
        Ok(Self {
            group,
            input,
            output,
        })
    }

    /// What the process writes to standard error, once.
    pub fn take_standard_error(&mut self) -> Option<ChildStderr> {
        self.group.child.stderr.take()
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

    /// Kills the process, if it has not ended, and what it has started, and says how it has ended.
    pub async fn kill(mut self) -> io::Result<ExitStatus> {
        self.group.kill();
        self.group.ended().await
    }

    /// How the process ends by itself, now that its pipes are closed; what it leaves is killed.
    pub async fn ended(self) -> io::Result<ExitStatus> {
        let Self {
            mut group,
            input,
            output,
        } = self;
        drop((input, output));
        group.ended().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    /// Waits until nobody has the standard error of a process any more.
    async fn has_left_nobody(mut output: ChildStderr) {
        let mut printed = Vec::new();
        let read = output.read_to_end(&mut printed);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await;
        read.expect("nothing runs any more").expect("read");
    }

    #[tokio::test]
    async fn what_a_process_has_started_is_killed_with_it() {
        let start = async |end: &str| {
            let script = shell(&format!("/bin/sleep 1000 & printf '\\001'; {end}"));
            let started = Process::start(&script, StandardError::Caller).await;
            let mut process = started.expect("ready");
            let output = process.take_standard_error().expect("once");
            (process, output)
        };
        let (process, output) = start("exec /bin/cat").await;
        process.kill().await.expect("killed");
        has_left_nobody(output).await;
        let (process, output) = start("exec /bin/cat").await;
        drop(process);
        has_left_nobody(output).await;
        let (process, output) = start("exit 3").await;
        assert_eq!(process.ended().await.expect("ended").code(), Some(3));
        has_left_nobody(output).await;
        let (process, output) = start("exit 3").await;
        drop(process);
        has_left_nobody(output).await;
    }
}
