//! A list of addresses that is too long, cut so that it is read as before.

use crate::tokens::{Token, Tokens};
use crate::unfolded;

/// The beginning of a From or a To, of at most `max_bytes`, that ends with a mailbox: what is read
/// of it stands in the whole header, too. A name that is cut could be taken for an address, and an
/// address for another one. `None`: so much holds no mailbox.
pub fn whole_mailboxes(header: &[u8], max_bytes: usize) -> Option<&[u8]> {
    if header.len() <= max_bytes {
        return Some(header);
    }
    let beginning = &header[..max_bytes];
    let line = unfolded(beginning);
    let mut tokens = Tokens::of_beginning(&line);
    let mut end = 0;
    loop {
        let before = line.len() - tokens.left();
        match tokens.next() {
            Some(Token::Separator) => end = before,
            Some(Token::Angle(_)) => end = line.len() - tokens.left(),
            Some(_) => {}
            None => break,
        }
    }
    // Line ends are not in the unfolded line, all else is, byte for byte.
    let mut left = end;
    let is_behind = |byte: &u8| {
        let is_text = !matches!(byte, b'\r' | b'\n');
        let is_behind = is_text && left == 0;
        left -= usize::from(is_text && !is_behind);
        is_behind
    };
    let end = beginning.iter().position(is_behind);
    let whole = beginning[..end.unwrap_or(max_bytes)].trim_ascii_end();
    (!whole.is_empty()).then_some(whole)
}
