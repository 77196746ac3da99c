//! Records of a batch as they stand in it: whose they are, and their bytes, which go into another
//! batch unchanged.

use super::{Damage, Input, UUID, is_removed, open};

/// A record as it stands in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct Entry<'b> {
    pub(in crate::embedded) key: Option<&'b [u8]>,
    /// All of the record.
    pub(in crate::embedded) bytes: &'b [u8],
}

/// Checks a batch, and takes it apart. `None`: retention has removed its records.
pub(in crate::embedded) fn entries(bytes: &[u8]) -> Result<Option<Vec<Entry<'_>>>, Damage> {
    let (head, mut input) = open(bytes)?;
    if is_removed(&head, &input) {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for _ in 0..head.count {
        entries.push(input.entry().ok_or(Damage::Nonsense)?);
    }
    Ok(Some(entries))
}

impl<'a> Input<'a> {
    fn entry(&mut self) -> Option<Entry<'a>> {
        let begin = self.0;
        // The time.
        self.number()?;
        let key = match self.number()? {
            0 => None,
            length => Some(self.take(length - 1)?),
        };
        // The value.
        self.text()?;
        for _ in 0..self.number()? {
            self.pass_header()?;
        }
        let length = begin.len() - self.0.len();
        let (bytes, _) = begin.split_at_checked(length)?;
        Some(Entry { key, bytes })
    }

    fn pass_header(&mut self) -> Option<()> {
        if self.number()? == 0 {
            self.text()?;
        }
        match self.number()? {
            UUID => self.take(16)?,
            length => self.take(length - 1)?,
        };
        Some(())
    }
}
