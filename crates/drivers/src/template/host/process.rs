//! One process, as those see it who ask it.

use std::ffi::OsString;
use std::io;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{READY, length};
use crate::template::MAX_OUTPUT_BYTES;

/// Longest answer: the body, or a form of which each byte is escaped, and what says which it is.
const MAX_ANSWER_BYTES: usize = 4 * MAX_OUTPUT_BYTES;

/// A process that renders templates; killed when this is dropped.
pub(super) struct Process {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Process {
    /// Starts a process, and waits until it is ready.
    pub(super) async fn start(command: &[OsString]) -> io::Result<Self> {
        let [program, arguments @ ..] = command else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let mut child = Command::new(program)
            .args(arguments)
            // What configures a server, secrets among it, is not for those who render.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
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
            _child: child,
            input,
            output,
        })
    }

    /// Sends a request and waits for its answer. One that is dropped before leaves a process that
    /// nobody may ask again.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.input.write_all(&length(request)?).await?;
        self.input.write_all(request).await?;
        self.input.flush().await?;
        let mut length = [0; 4];
        self.output.read_exact(&mut length).await?;
        let length = usize::try_from(u32::from_le_bytes(length));
        let length = length.ok().filter(|length| *length <= MAX_ANSWER_BYTES);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let mut answer = vec![0; length];
        self.output.read_exact(&mut answer).await?;
        Ok(answer)
    }
}
