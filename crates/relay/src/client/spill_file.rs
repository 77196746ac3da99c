//! The spill file that no relay has confirmed yet.

use std::io;

use super::Options;
use super::queue::Queue;
use crate::spill;
use crate::wire::WireRecord;

/// Whether a file may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Making {
    /// The process is another user now, whose file it would be.
    Never,
    /// A file of the user who makes it.
    Own,
    /// A file that root makes for this user: of root's own the relay would think otherwise.
    For(u32),
}

/// There is one at most.
pub(super) enum SpillFile {
    /// Everything older than the queue is with the relay.
    None,
    /// More may be appended.
    Open(spill::Writer),
    /// Closed and unlocked for now; more may be appended after it was opened again.
    Parked(spill::Parked),
    /// Complete; its name. Nothing can be spilled until a relay has it: a second file could be
    /// taken in before it.
    Closed(String),
}

impl SpillFile {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Open(writer) => Some(writer.name()),
            Self::Parked(parked) => Some(parked.name()),
            Self::Closed(name) => Some(name),
        }
    }

    /// Unlocked: the relay may take it for complete.
    pub(super) fn close(&mut self) {
        if let Self::Open(writer) = self {
            *self = Self::Closed(writer.name().to_owned());
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Takes no descriptor until more is appended.
    pub(super) fn park(&mut self) {
        if let Self::Open(writer) = self
            && let Ok(parked) = spill::Parked::of(writer)
        {
            *self = Self::Parked(parked);
        }
    }

    /// Opens a file that was parked. One that is gone a relay has taken in.
    fn reopen(&mut self, may_wait: bool) -> io::Result<()> {
        if let Self::Parked(parked) = self {
            *self = parked.reopen(may_wait)?.map_or(Self::None, Self::Open);
        }
        Ok(())
    }

    /// Appends all that waits; makes the file if there is none. Says how many records could not be
    /// read, and are not in the file. A file that the relay reads at the moment is `WouldBlock`.
    pub(super) fn append(
        &mut self,
        options: &Options,
        queue: &mut Queue,
        making: Making,
        may_wait: bool,
    ) -> io::Result<u64> {
        if queue.is_empty() {
            return Ok(0);
        }
        self.reopen(may_wait)?;
        let mut failed = None;
        let unread = queue.for_each(|record| {
            if failed.is_some() {
                return;
            }
            if matches!(self, Self::None) {
                match create(options, record, making) {
                    Ok(writer) => *self = Self::Open(writer),
                    Err(error) => failed = Some(error),
                }
            }
            if let Self::Open(writer) = self {
                writer.push(record);
            }
        });
        match (failed, &mut *self) {
            (Some(error), _) => Err(error),
            (None, Self::Open(writer)) => {
                let done = writer.flush();
                if writer.is_broken() {
                    // The relay takes in what is whole of it.
                    self.close();
                }
                done.map(|()| unread)
            }
            (None, Self::Closed(name)) => {
                let text = format!("the relay has to take in `{name}` first");
                Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
            }
            (None, Self::None | Self::Parked(_)) => Ok(unread),
        }
    }
}

fn create(options: &Options, first: &WireRecord<'_>, making: Making) -> io::Result<spill::Writer> {
    let owner = match making {
        Making::Never => {
            let text = "the process has another user id now, whose file it would be";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Making::Own => None,
        Making::For(user) => Some(user),
    };
    let by = spill::Author::new(&options.host, &options.program);
    spill::Writer::create_for(owner, &options.spill_dir, &by, first, options.spill_bytes)
}
