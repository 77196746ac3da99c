//! When a client leaves records in its spill file, and whose file that is.

use std::io;
use std::time::{Duration, Instant};

use super::spill_file::Making;
use super::{Client, Link, NO_ROOM, News, RETRY_BUSY, RETRY_FIRST};

/// How long after a failure to spill the next attempt is made; what has no room meanwhile is lost.
pub(super) const SPILL_AGAIN: Duration = Duration::from_secs(1);

/// What is done where the relay reads the spill file that the client comes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenLocked {
    /// The queue waits for the timer: mail must not.
    Leave,
    /// A short rest, as records are lost otherwise.
    Wait,
}

/// The user who may do everything: a process is it between the users that it serves.
const ROOT: u32 = 0;

impl Client {
    /// Connects and makes files as this user only.
    pub(super) fn bind(&mut self, user: u32, in_effect: fn() -> u32) {
        self.user = Some((user, in_effect));
    }

    /// Whether a connection that is made now belongs to the right user. That of root would not: a
    /// relay has another opinion of root than of the user.
    pub(super) fn is_itself(&self) -> bool {
        self.user
            .is_none_or(|(user, in_effect)| in_effect() == user)
    }

    /// Whether a spill file may be made now, and for whom.
    pub(super) fn making(&self) -> Making {
        match self.user {
            None => Making::Own,
            Some((user, in_effect)) => match in_effect() {
                now if now == user => Making::Own,
                ROOT => Making::For(user),
                // Rather in another's file, whose name only the relay sees, than lost.
                _ if self.is_ending => Making::Own,
                _ => Making::Never,
            },
        }
    }

    /// Whether so much more in memory is more than all clients of the process may have there.
    pub(super) fn is_over(&self, bytes: usize) -> bool {
        self.others_bytes + self.queue.bytes() + bytes > self.options.queue_bytes
    }

    /// Whether a record may be taken though there is no room for it: alone. Where others hold the
    /// room it is spilled at the end of the transaction.
    pub(super) fn may_pass(&self) -> bool {
        self.queue.is_empty()
    }

    /// Makes room for a record: by sending, else by spilling what waits.
    pub(super) fn make_room(&mut self, bytes: usize) {
        self.queue.close_frame();
        self.advance();
        // To try goes through the whole queue: not for each record that is lost.
        let may_spill = self.may_spill_again() || self.is_spill_locked;
        if may_spill && self.is_over(bytes) && !self.may_pass() {
            self.spill_all(WhenLocked::Wait);
        }
    }

    /// Spills what has no room beside what others hold.
    pub(super) fn leave_room(&mut self) {
        if self.others_bytes == 0 || self.queue.is_empty() || !self.is_over(0) {
            return;
        }
        if !self.spill_all(WhenLocked::Wait) {
            let records = self.forget_queue();
            self.lose(records, NO_ROOM);
        }
    }

    /// Forgets all that waits; says how many records that was. The connection goes with it: the
    /// relay counts what was sent on it, and would acknowledge with the old records the next ones.
    /// Nor must what comes next overtake what is in the spill file, which the next connection names
    /// first.
    pub(super) fn forget_queue(&mut self) -> u64 {
        if matches!(self.link, Link::Up(_)) {
            self.stay_away(RETRY_FIRST);
        }
        self.queue.clear()
    }

    /// Moves all that waits into the spill file; `false` if that is not possible.
    pub(super) fn spill_all(&mut self, when_locked: WhenLocked) -> bool {
        let making = self.making();
        // Once in a while, whoever has the lock.
        let may_wait =
            when_locked == WhenLocked::Wait && (self.is_ending || self.may_spill_again());
        let done = self
            .spill
            .append(&self.options, &mut self.queue, making, may_wait);
        self.is_spill_locked = false;
        match done {
            Ok(unread) => {
                self.forget_queue();
                self.spill_failed = None;
                if unread > 0 {
                    self.lose(unread, "they cannot be read back from memory");
                }
                true
            }
            // The relay reads the file: in a moment it is free, and what waits has room.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !may_wait => {
                self.is_spill_locked = true;
                false
            }
            Err(error) => {
                self.is_spill_locked = error.kind() == io::ErrorKind::WouldBlock;
                if self.spill_failed.replace(Instant::now()).is_none() {
                    let dir = self.options.spill_dir.display();
                    let text = format!("cannot spill events to `{dir}`: {error}");
                    self.news.push(News::Trouble(text));
                }
                false
            }
        }
    }

    /// Whether the last failure to spill is long enough ago for another attempt.
    pub(super) fn may_spill_again(&self) -> bool {
        let failed = self.spill_failed;
        failed.is_none_or(|failed| failed.elapsed() >= SPILL_AGAIN)
    }

    /// How many descriptors the client has open.
    pub(super) fn descriptors(&self) -> usize {
        usize::from(matches!(self.link, Link::Up(_))) + usize::from(self.spill.is_open())
    }

    /// Closes its descriptors; what is not acknowledged is sent or spilled when the process is its
    /// user again.
    pub(super) fn let_go(&mut self) {
        self.spill.park();
        if matches!(self.link, Link::Up(_)) {
            self.queue.begin_again();
            self.stay_away(RETRY_BUSY);
        }
    }
}
