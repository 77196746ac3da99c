//! The side of the process: its bounds, and the frames it reads and writes.

use std::fs::File;
use std::io::{self, Read, Write};

use rustix::process::{
    Resource, Rlimit, Signal, getpgrp, getpid, kill_current_process_group, setrlimit,
};
use rustix::stdio;

use crate::{READY, frame};

/// Bounds the memory of this process besides its program, and leaves nothing of it on a disk: what
/// is allocated beyond that fails, which ends the process.
pub fn bound_memory(bytes: u64) -> io::Result<()> {
    for (resource, most) in [(Resource::Data, bytes), (Resource::Core, 0)] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Takes standard input and output for frames alone: whatever else reads gets nothing, and what it
/// prints goes to standard error.
pub fn take_standard_streams() -> io::Result<(File, File)> {
    let input = rustix::io::fcntl_dupfd_cloexec(stdio::stdin(), 3)?;
    let output = rustix::io::fcntl_dupfd_cloexec(stdio::stdout(), 3)?;
    stdio::dup2_stdin(File::open("/dev/null")?)?;
    stdio::dup2_stdout(stdio::stderr())?;
    Ok((input.into(), output.into()))
}

/// Kills this process and all that it has started, where nobody is left who would do that. Does
/// nothing in a process that has no group of its own: the group is that of whoever has started it.
pub fn kill_own_group() {
    if getpgrp() == getpid() {
        // What cannot be killed ends with its caller.
        let _ = kill_current_process_group(Signal::KILL);
    }
}

/// Says that the bounds are set.
pub fn announce(output: &mut impl Write) -> io::Result<()> {
    output.write_all(&[READY])?;
    output.flush()
}

/// The next frame of at most so many bytes; `None`: there is none any more.
pub fn read_frame(input: &mut impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let mut bytes = vec![0; frame::decode(length, most)?];
    input.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a frame, in one piece where the pipe takes it.
pub fn write_frame(output: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = frame::encode(bytes)?;
    output.write_all(&[&length, bytes].concat())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written_until_there_are_no_more() {
        let mut written = Vec::new();
        for bytes in [&b"first"[..], b"", b"last"] {
            write_frame(&mut written, bytes).expect("written");
        }
        let mut reader = &written[..];
        let mut read = Vec::new();
        while let Some(bytes) = read_frame(&mut reader, 5).expect("short enough") {
            read.push(bytes);
        }
        assert_eq!(read, [&b"first"[..], b"", b"last"]);
        read_frame(&mut &written[..], 4).expect_err("too long");
        let cut = read_frame(&mut &written[..7], 5).expect_err("cut off");
        assert_eq!(cut.kind(), io::ErrorKind::UnexpectedEof);
    }
}
