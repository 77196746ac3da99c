//! What waits for one stream: a bounded queue that the feed fills and the stream empties. One that
//! is full ends its stream; its client comes back and goes on from the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use dovecast_mail_push::{Person, PushContent, Topics};

use super::told::Told;

/// Most messages that wait for the reader of one stream.
const MAX_WAITING: usize = 256;
/// Most bytes of them.
const MAX_WAITING_BYTES: usize = 1024 * 1024;
/// Largest queue whose memory is kept while it is empty, in messages.
const KEPT_CAPACITY: usize = 8;

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client reads too slowly, or the log has to be followed anew.
    Cut,
    /// The session, or token, is good no more.
    TokenOver,
    /// The server is being stopped.
    Stopping,
}

/// A stream as the feed sees it.
pub(super) struct Outlet {
    pub(super) person: Person,
    pub(super) topics: Topics,
    pub(super) content: PushContent,
    /// Token that it was opened with; a trusted proxy has none.
    pub(super) token: Option<Arc<str>>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Told>>,
    bytes: usize,
    /// Whether the log has lost something of which the stream was not told yet.
    has_gap: bool,
    end: Option<End>,
    reader: Option<Waker>,
}

impl Outlet {
    pub(super) fn new(
        person: Person,
        topics: Topics,
        content: PushContent,
        token: Option<Arc<str>>,
    ) -> Self {
        Self {
            person,
            topics,
            content,
            token,
            queue: Mutex::default(),
        }
    }

    /// Puts a message behind what waits; `false`: that is too much, and the stream is cut.
    pub(super) fn offer(&self, told: Arc<Told>) -> bool {
        let mut queue = self.queue();
        if queue.end.is_some() {
            return true;
        }
        let bytes = queue.bytes + told.weight();
        if queue.waiting.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            end(queue, End::Cut);
            return false;
        }
        queue.bytes = bytes;
        queue.waiting.push_back(told);
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// Has the stream told that something may be lost, before what waits: whoever compares the
    /// mailbox then sees all of it.
    pub(super) fn tell_gap(&self) {
        let mut queue = self.queue();
        queue.has_gap = true;
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Whether something may be lost of which the stream was not told yet; it is told now.
    pub(super) fn take_gap(&self) -> bool {
        std::mem::take(&mut self.queue().has_gap)
    }

    /// Ends the stream; what waits is dropped. `false`: it had ended.
    pub(super) fn end(&self, why: End) -> bool {
        let queue = self.queue();
        let is_open = queue.end.is_none();
        if is_open {
            end(queue, why);
        }
        is_open
    }

    /// Why the stream has ended, if it has. The reader that asks is woken when something comes.
    pub(super) fn poll_end(&self, context: &Context<'_>) -> Option<End> {
        let mut queue = self.queue();
        if queue.end.is_none() {
            wait(&mut queue, context);
        }
        queue.end
    }

    /// The next message that waits.
    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<Arc<Told>> {
        let mut queue = self.queue();
        let Some(told) = queue.waiting.pop_front() else {
            if queue.waiting.capacity() > KEPT_CAPACITY {
                queue.waiting = VecDeque::new();
            }
            wait(&mut queue, context);
            return Poll::Pending;
        };
        queue.bytes = queue.bytes.saturating_sub(told.weight());
        Poll::Ready(told)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wait(queue: &mut Queue, context: &Context<'_>) {
    match &mut queue.reader {
        Some(reader) => reader.clone_from(context.waker()),
        none => *none = Some(context.waker().clone()),
    }
}

fn end(mut queue: MutexGuard<'_, Queue>, why: End) {
    queue.end = Some(why);
    queue.waiting = VecDeque::new();
    queue.bytes = 0;
    let reader = queue.reader.take();
    drop(queue);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use dovecast_mail_push::{MailEvent, Topic};

    use super::super::cursor::RecordAt;
    use super::super::told::Forms;
    use super::*;

    const MIB: usize = 1024 * 1024;

    fn person() -> Person {
        Person::new("3", "11", "11@3").expect("a person")
    }

    fn outlet() -> Outlet {
        Outlet::new(person(), Topics::all(), PushContent::Ids, None)
    }

    /// A message that counts so many bytes.
    fn told(weight: usize) -> Arc<Told> {
        let of_mailbox = |chars: usize| {
            let event = MailEvent::something_new(person(), &"m".repeat(chars));
            let place = RecordAt {
                topic: "dovecot".into(),
                partition: 0,
                offset: 0,
            };
            Forms::new(&event, place, 0).told(Topic::MailNew, PushContent::Ids)
        };
        let told = of_mailbox(weight - of_mailbox(0).weight());
        assert_eq!(told.weight(), weight);
        told
    }

    /// Reads the next message.
    fn read(outlet: &Outlet) {
        let context = Context::from_waker(Waker::noop());
        assert!(outlet.poll_next(&context).is_ready());
    }

    fn ended(outlet: &Outlet) -> Option<End> {
        outlet.poll_end(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_stream_holds_256_messages_and_is_cut_at_the_next() {
        let outlet = outlet();
        for _ in 0..256 {
            assert!(outlet.offer(told(100)));
        }
        // What is read makes room.
        read(&outlet);
        assert!(outlet.offer(told(100)));
        assert_eq!(ended(&outlet), None);
        assert!(!outlet.offer(told(100)));
        assert_eq!(ended(&outlet), Some(End::Cut));
    }

    #[test]
    fn a_stream_holds_1_mib_and_is_cut_at_one_byte_more() {
        for (last, expected) in [(1000, None), (1001, Some(End::Cut))] {
            let outlet = outlet();
            assert!(outlet.offer(told(MIB)));
            // What is read makes room.
            read(&outlet);
            assert!(outlet.offer(told(MIB - 1000)));
            assert_eq!(outlet.offer(told(last)), expected.is_none());
            assert_eq!(ended(&outlet), expected);
        }
    }
}
