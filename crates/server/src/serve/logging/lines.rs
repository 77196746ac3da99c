//! Lines on their way to standard error: a bounded queue and the thread that writes.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;

/// Bytes of lines that wait while standard error takes nothing; some thousand lines.
const QUEUE_BYTES: usize = 1024 * 1024;
/// How long the end of the process waits for lines that were not written yet.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How soon a standard error that does not block is tried again when it is full.
const FULL_RETRY: Duration = Duration::from_millis(20);

/// Clones write to the same place.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread has taken a line that it has not written yet.
    is_writing: bool,
}

impl Lines {
    /// Lines are written to `out` by a thread that ends with the process.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self(Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            lost: AtomicU64::new(0),
        }));
        let own = lines.clone();
        std::thread::Builder::new()
            .name("log-lines".to_owned())
            .spawn(move || own.run(out))?;
        Ok(lines)
    }

    /// Lines that are lost: there was no room for them, or they could not be written.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until all lines are written, for a moment at most.
    pub(super) fn drain(&self) {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        let mut queue = self.queue();
        while queue.is_writing || !queue.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > QUEUE_BYTES {
            drop(queue);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.0.changed.notify_all();
    }

    /// The next line, once there is one.
    fn take(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            let waited = self.0.changed.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, mut out: impl Write) {
        let (lines, mut logged) = (LineLimit::default(), 0);
        let mut is_torn = false;
        loop {
            let line = self.take();
            let written = write_line(&mut out, &line, &mut is_torn);
            self.queue().is_writing = false;
            self.0.changed.notify_all();
            if written.is_err() {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let lost = self.lost();
            if lost > logged && lines.take() {
                tracing::warn!(
                    lines = lost - logged,
                    "lines of this log could not be written and are lost"
                );
                logged = lost;
            }
        }
    }
}

/// Writes a line, on a line of its own if the one before it was cut off.
fn write_line(out: &mut impl Write, line: &[u8], is_torn: &mut bool) -> io::Result<()> {
    if *is_torn {
        write_some(out, b"\n").map_err(|(_, error)| error)?;
        *is_torn = false;
    }
    write_some(out, line).map_err(|(written, error)| {
        *is_torn = written > 0;
        error
    })
}

/// Writes all of `bytes`, or tells how much of it was written.
fn write_some(out: &mut impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match out.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(FULL_RETRY);
            }
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

/// Each write is a whole event. Nothing waits, and no error is given back: it would be printed.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes what a test lets it take.
    struct Out {
        results: std::sync::mpsc::Receiver<io::Result<usize>>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // One that is never told waits as a full pipe does.
            let bytes = match self.results.recv() {
                Ok(done) => &bytes[..done?.min(bytes.len())],
                Err(_) => bytes,
            };
            self.written.lock().expect("bytes").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_what_there_is_no_room_for_is_counted() {
        let (results, received) = std::sync::mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let out = Out {
            results: received,
            written: Arc::clone(&written),
        };
        let lines = Lines::start(out).expect("a thread");
        let line = [b'x'; 1024];
        // One more may be with the thread.
        for _ in 0..QUEUE_BYTES / line.len() + 11 {
            (&lines).write_all(&line).expect("no error");
        }
        let lost = lines.lost();
        assert!((10..=11).contains(&lost), "{lost}");
        drop(results);
        while lines.queue().is_writing || !lines.queue().lines.is_empty() {
            lines.drain();
        }
        let kept = written.lock().expect("bytes").len();
        assert_eq!(kept as u64 / 1024 + lost, QUEUE_BYTES as u64 / 1024 + 11);
    }

    #[test]
    fn a_line_that_was_cut_off_is_ended_before_the_next_one() {
        let (results, received) = std::sync::mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let out = Out {
            results: received,
            written: Arc::clone(&written),
        };
        let lines = Lines::start(out).expect("a thread");
        for done in [
            Ok(3),
            Err(io::ErrorKind::StorageFull.into()),
            Err(io::ErrorKind::BrokenPipe.into()),
        ] {
            results.send(done).expect("a thread");
        }
        drop(results);
        for line in ["first\n", "second\n", "third\n"] {
            (&lines).write_all(line.as_bytes()).expect("no error");
        }
        while lines.queue().is_writing || !lines.queue().lines.is_empty() {
            lines.drain();
        }
        let written = String::from_utf8(written.lock().expect("bytes").clone()).expect("text");
        assert_eq!((written.as_str(), lines.lost()), ("fir\nthird\n", 2));
    }
}
