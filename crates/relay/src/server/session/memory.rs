//! Memory of a client: for a frame that has not arrived whole, and for what waits for the log. Each
//! has little of its own, and a share of what all have together beyond that.

use std::time::Instant;

use super::{READ_BYTES, Session};

/// What each client may have waiting for the log without a share: the records of a command.
pub(super) const WAITING_BYTES: usize = 4 * 1024;
/// Shares of the memory for what waits are multiples of this: few are asked for.
const WAITING_STEP: u64 = 16 * 1024;

impl Session<'_> {
    /// Whether a frame that has begun may be read to its end. Its share is taken as a whole: of
    /// several that have a part each none would ever be whole.
    pub(super) fn has_room(&mut self) -> bool {
        let bytes = self.inbox.frame_bytes();
        let wanted = if bytes > READ_BYTES { bytes } else { 0 };
        let has_room = self.unfinished.set(wanted as u64);
        // A frame that is there waits for the log, and not for the client.
        if has_room && wanted > 0 && !self.inbox.is_whole() {
            self.unfinished_since.get_or_insert_with(Instant::now);
        } else {
            self.unfinished_since = None;
        }
        has_room
    }

    /// Whether there is memory for what waits for the log and the rest of the frame that is next,
    /// whose records it has room for one by one. Without it nothing more is taken, nor read.
    pub(super) fn has_memory(&mut self) -> bool {
        let next = if self.inbox.is_whole() {
            self.inbox.frame_bytes()
        } else {
            0
        };
        let bytes = self.appending_bytes + self.batch.bytes() + next;
        if bytes <= WAITING_BYTES {
            return self.waiting.set(0);
        }
        self.waiting
            .set((bytes as u64).next_multiple_of(WAITING_STEP))
    }

    /// Waits until a frame has not arrived whole for too long.
    pub(super) async fn unfinished_too_long(&self) {
        match self.unfinished_since {
            None => std::future::pending().await,
            Some(since) => {
                let until = since + self.relay.options.unread_time;
                tokio::time::sleep_until(until.into()).await;
            }
        }
    }
}
