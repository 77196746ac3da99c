//! Headers of mail as people read them: the first address of a From or a To with its name, and
//! encoded words (RFC 2047) as text.
//!
//! Headers are what strangers have written, and are read as mail programs read them: what breaks
//! the grammar is passed over, not refused. Each function takes time and memory in proportion to
//! the header. What an address is worth, whether its sender is who it says, is not looked at.

#![forbid(unsafe_code)]

mod address;
mod charset;
mod encoded_word;
mod mailbox;
mod tokens;
mod whole;

pub use encoded_word::decode_text;
pub use mailbox::{Mailbox, first_mailbox};
pub use whole::whole_mailboxes;

/// Most bytes of a header that are read: what stands in a header of a megabyte is written for no
/// reader, and is read in each mail process.
const MAX_BYTES: usize = 64 * 1024;

/// The beginning of a header that is read.
fn beginning(header: &[u8]) -> &[u8] {
    header.get(..MAX_BYTES).unwrap_or(header)
}

/// Folded lines as one (RFC 5322 section 2.2.3): line ends are left out, blanks stay. A tab that
/// only folds is a space, as Dovecot has it.
fn unfolded(header: &[u8]) -> Vec<u8> {
    let mut line = Vec::with_capacity(header.len());
    let mut is_behind_end = false;
    for byte in header {
        match byte {
            b'\r' | b'\n' => is_behind_end = true,
            b'\t' if is_behind_end => {
                line.push(b' ');
                is_behind_end = false;
            }
            other => {
                line.push(*other);
                is_behind_end = false;
            }
        }
    }
    line
}

/// Whether there are blanks only, or nothing.
fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

#[cfg(test)]
mod tests;
