//! What many sessions have to read, gathered: one thread looks at all their sockets at once, and
//! then rests for the interval before it looks again.
//!
//! While it rests no process waits for the sockets, so a mail process that sends wakes nobody:
//! waking another thread is what a command pays for most. What was sent meanwhile is read at once
//! when the rest is over. The first record after a quiet interval is read without a delay, every
//! other one after the interval at most; with nothing to read the thread sleeps for good.
//!
//! tokio's own reactor cannot do this: it is woken for each frame that arrives, and also whenever a
//! client reads an acknowledgement, as a socket is then writable anew. So the sockets are not
//! registered there. They are registered here edge-triggered, for reading alone; for writing only
//! while a client leaves its acknowledgements unread.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dovecast_log::embedded::{Embedded, Together};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll};
use rustix::io::Errno;
use tokio::sync::Notify;

/// Sockets that one look at them returns; more are ready with the next look, without a rest.
const EVENTS: usize = 256;
/// How long after a failure the sockets are looked at again.
const RETRY: Duration = Duration::from_millis(100);
/// Token of the event that wakes the thread; those of sockets are greater.
const WAKE: u64 = 0;

/// Readiness of the sockets of all sessions; the thread ends when this is dropped.
pub(super) struct Gather {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

struct Inner {
    epoll: OwnedFd,
    /// Wakes the thread when one of the next two has changed.
    wake: OwnedFd,
    /// Whether the relay stops: what comes is read at once, without a rest before.
    is_hurried: AtomicBool,
    /// Whether the thread has to end.
    is_over: AtomicBool,
    interval: Duration,
    log: Embedded,
    sockets: Mutex<HashMap<u64, Arc<Ready>>>,
    next_token: AtomicU64,
}

/// What one socket is ready for.
#[derive(Default)]
struct Ready {
    reading: Side,
    writing: Side,
    /// What is read now is to be one commit with what others read.
    together: Mutex<Option<Arc<Together>>>,
    /// Whether the socket is not read on for the time being: nobody is to wait for its append.
    is_full: AtomicBool,
}

impl Ready {
    fn together(&self) -> MutexGuard<'_, Option<Arc<Together>>> {
        self.together.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Readiness for reading or for writing; one task waits for it.
#[derive(Default)]
struct Side {
    is_ready: AtomicBool,
    /// Whether the other end is closed: ready from now on, as nothing will say so again.
    is_over: AtomicBool,
    news: Notify,
}

impl Side {
    fn set(&self, is_over: bool) {
        if is_over {
            self.is_over.store(true, Ordering::Release);
        }
        self.is_ready.store(true, Ordering::Release);
        self.news.notify_one();
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire) || self.is_over.load(Ordering::Acquire)
    }

    async fn ready(&self) {
        while !self.is_ready() {
            self.news.notified().await;
        }
    }
}

impl Gather {
    /// Begins to look, at most once in `interval`; what is read then goes to `log`.
    pub(super) fn start(interval: Duration, log: Embedded) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = rustix::event::eventfd(0, flags)?;
        let token = epoll::EventData::new_u64(WAKE);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &wake, token, flags)?;
        let inner = Arc::new(Inner {
            epoll,
            wake,
            is_hurried: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            interval,
            log,
            sockets: Mutex::default(),
            next_token: AtomicU64::new(WAKE + 1),
        });
        let looking = Arc::clone(&inner);
        let thread = thread::Builder::new()
            .name("relay-gather".to_owned())
            .spawn(move || looking.run())?;
        Ok(Self {
            inner,
            thread: Some(thread),
        })
    }

    /// From now on what comes is read at once: the relay stops, and who has not even been heard is
    /// not to wait.
    pub(super) fn hurry(&self) {
        self.inner.is_hurried.store(true, Ordering::Release);
        self.inner.wake();
    }

    /// Looks at a socket until what is returned is dropped, and the socket closed.
    pub(super) fn watch(&self, socket: impl AsFd) -> io::Result<Watch> {
        let token = self.inner.next_token.fetch_add(1, Ordering::Relaxed);
        let ready = Arc::<Ready>::default();
        self.inner.sockets().insert(token, Arc::clone(&ready));
        let watch = Watch {
            inner: Arc::clone(&self.inner),
            token,
            ready,
        };
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.inner.epoll, socket, data, READING)?;
        Ok(watch)
    }
}

impl Drop for Gather {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::Release);
        self.inner.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that gathers what clients send has panicked");
        }
    }
}

const READING: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::RDHUP)
    .union(epoll::EventFlags::ET);

/// A socket that is looked at.
pub(super) struct Watch {
    inner: Arc<Inner>,
    token: u64,
    ready: Arc<Ready>,
}

impl Watch {
    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) {
        self.ready.reading.ready().await;
    }

    /// Waits until something may be written; only after [`Self::begin_writing`].
    pub(super) async fn writable(&self) {
        self.ready.writing.ready().await;
    }

    /// What the next append is part of; once for each time that the socket is ready.
    pub(super) fn take_together(&self) -> Option<Arc<Together>> {
        self.ready.together().take()
    }

    /// Whether it is not read on, until this is called with `false`.
    pub(super) fn set_full(&self, is_full: bool) {
        self.ready.is_full.store(is_full, Ordering::Release);
        if is_full {
            self.take_together();
        }
    }

    /// Whether there may be something to read.
    pub(super) fn is_readable(&self) -> bool {
        self.ready.reading.is_ready()
    }

    /// To be called before the socket is read: what comes from then on makes it readable anew.
    pub(super) fn begin_reading(&self) {
        self.ready.reading.is_ready.store(false, Ordering::Release);
    }

    /// There is more to read than was taken.
    pub(super) fn keep_reading(&self) {
        self.ready.reading.is_ready.store(true, Ordering::Release);
    }

    /// Looks also for when the socket can be written.
    pub(super) fn begin_writing(&self, socket: impl AsFd) -> io::Result<()> {
        self.ready.writing.is_ready.store(false, Ordering::Release);
        let data = epoll::EventData::new_u64(self.token);
        let flags = READING | epoll::EventFlags::OUT;
        Ok(epoll::modify(&self.inner.epoll, socket, data, flags)?)
    }

    /// Looks for what can be read alone, as before.
    pub(super) fn end_writing(&self, socket: impl AsFd) -> io::Result<()> {
        let data = epoll::EventData::new_u64(self.token);
        Ok(epoll::modify(&self.inner.epoll, socket, data, READING)?)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The kernel forgets the socket when it is closed.
        self.inner.sockets().remove(&self.token);
    }
}

impl Inner {
    fn sockets(&self) -> MutexGuard<'_, HashMap<u64, Arc<Ready>>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only if it was woken very often and has not seen it yet.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.is_over.load(Ordering::Acquire) {
            match self.look(&mut events) {
                Ok(()) => self.release(&events),
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "what clients send cannot be looked for; this is retried");
                    self.rest(RETRY);
                }
            }
            if events.len() < EVENTS && !self.is_hurried.load(Ordering::Acquire) {
                self.rest(self.interval);
            }
        }
    }

    /// Waits until a socket is ready; takes those that are.
    fn look(&self, events: &mut Vec<epoll::Event>) -> Result<(), Errno> {
        events.clear();
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), None).map(|_| ())
    }

    fn release(&self, events: &[epoll::Event]) {
        let sockets = self.sockets();
        // Of one session alone there is nothing to be waited for.
        let together = (events.len() > 1).then(|| {
            let limit = self.interval / 2;
            Arc::new(self.log.together(limit))
        });
        for event in events {
            // One that is closed meanwhile is not there.
            let Some(ready) = sockets.get(&event.data.u64()) else {
                continue;
            };
            let flags = event.flags;
            let is_over = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
            let is_read = is_over || flags.contains(epoll::EventFlags::RDHUP);
            if is_read || flags.contains(epoll::EventFlags::IN) {
                if !ready.is_full.load(Ordering::Acquire) {
                    ready.together().clone_from(&together);
                }
                ready.reading.set(is_read);
            }
            if is_over || flags.contains(epoll::EventFlags::OUT) {
                ready.writing.set(is_over);
            }
        }
    }

    /// Looks at nothing for this time, or until it is woken.
    fn rest(&self, time: Duration) {
        let Ok(time) = Timespec::try_from(time) else {
            return;
        };
        let mut wake = [PollFd::new(&self.wake, PollFlags::IN)];
        // Interrupted by a signal it looks earlier, no more.
        let _ = rustix::event::poll(&mut wake, Some(&time));
    }
}
