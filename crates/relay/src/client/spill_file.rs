//! The spill file that no relay has confirmed yet.

use std::io;

use super::Options;
use super::queue::Queue;
use crate::spill;

/// There is one at most.
pub(super) enum SpillFile {
    /// Everything older than the queue is with the relay.
    None,
    /// More may be appended.
    Open(spill::Writer),
    /// Complete; its name. Nothing can be spilled until a relay has it: a second file could be
    /// taken in before it.
    Closed(String),
}

impl SpillFile {
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Open(writer) => Some(writer.name()),
            Self::Closed(name) => Some(name),
        }
    }

    /// Unlocked: the relay may take it for complete.
    pub(super) fn close(&mut self) {
        if let Self::Open(writer) = self {
            *self = Self::Closed(writer.name().to_owned());
        }
    }

    /// Appends all that waits; makes the file if there is none and `may_create`.
    pub(super) fn append(
        &mut self,
        options: &Options,
        queue: &mut Queue,
        may_create: bool,
    ) -> io::Result<()> {
        let mut failed = None;
        queue.for_each(|record| {
            if failed.is_some() {
                return;
            }
            if matches!(self, Self::None) {
                if !may_create {
                    let text = "the process has another user id now, whose file it would be";
                    failed = Some(io::Error::new(io::ErrorKind::PermissionDenied, text));
                    return;
                }
                let by = spill::Author::new(&options.host, &options.program);
                match spill::Writer::create(&options.spill_dir, &by, record, options.spill_bytes) {
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
                done
            }
            (None, Self::Closed(name)) => {
                let text = format!("the relay has to take in `{name}` first");
                Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
            }
            (None, Self::None) => Ok(()),
        }
    }
}
