//! What a template writes, up to a bound.

use std::io::{self, Write};

/// Takes so many bytes.
pub(super) struct Bounded {
    out: Vec<u8>,
    most: usize,
}

impl Bounded {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            out: Vec::new(),
            most,
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
