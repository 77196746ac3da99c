//! Bytes of a server as replies: lines with the literals in them (RFC 9051 section 4.3), without
//! I/O.

use super::ImapError;
use super::reply::Reply;

/// Longest line, literals not counted, in bytes. VANISHED of a large mailbox is one line; 256 KiB
/// hold 20,000 ranges.
pub const MAX_LINE_BYTES: usize = 256 * 1024;
/// Largest literal in bytes: what is asked for of a mail is cut at 16 KiB, header fields are not.
pub const MAX_LITERAL_BYTES: usize = 256 * 1024;
/// Largest reply with all of its literals, in bytes.
pub const MAX_ANSWER_BYTES: usize = 512 * 1024;
/// Capacity in bytes that is kept for the next reply; what is larger is given back.
const KEPT_CAPACITY: usize = 512;

/// Takes bytes as they come, gives replies.
#[derive(Debug, Default)]
pub struct ReplyReader {
    bytes: Vec<u8>,
    /// Where the next reply begins in `bytes`.
    start: usize,
    /// Where the line begins that is being looked at: `start`, or behind a literal.
    line: usize,
    /// Up to where there is no end of that line.
    looked: usize,
    /// Bytes of the literals of this reply.
    in_literals: usize,
}

impl ReplyReader {
    /// Adds what was received.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.line -= self.start;
            self.looked -= self.start;
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next reply, if all of it is there. After an error nothing more can be read.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ImapError> {
        let Some(end) = self.end()? else {
            return Ok(None);
        };
        let reply = Reply::parse(&self.bytes[self.start..end])?;
        self.start = end;
        self.line = end;
        self.looked = end;
        self.in_literals = 0;
        if self.start == self.bytes.len() {
            self.clear();
        }
        Ok(Some(reply))
    }

    /// Whether nothing was received that was not read.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        (self.start, self.line, self.looked) = (0, 0, 0);
    }

    /// Gives back all memory, before a long wait.
    pub fn rest(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Where the reply ends: behind the first line end that no literal follows.
    fn end(&mut self) -> Result<Option<usize>, ImapError> {
        loop {
            let unlooked = self.bytes.get(self.looked..).unwrap_or_default();
            let Some(at) = unlooked.iter().position(|byte| *byte == b'\n') else {
                // Behind the end: a literal is not all there.
                self.looked = self.looked.max(self.bytes.len());
                let line = self.bytes.len().saturating_sub(self.line);
                return self.bounded(line).map(|()| None);
            };
            let end = self.looked + at + 1;
            self.bounded(end - self.line)?;
            let Some(length) = announced_literal(&self.bytes[self.line..end])? else {
                return Ok(Some(end));
            };
            self.in_literals += length;
            if length > MAX_LITERAL_BYTES || end + length - self.start > MAX_ANSWER_BYTES {
                return Err(too_large("literal"));
            }
            self.line = end + length;
            self.looked = self.line;
        }
    }

    fn bounded(&self, line: usize) -> Result<(), ImapError> {
        if line > MAX_LINE_BYTES {
            return Err(too_large("line"));
        }
        if self.bytes.len() - self.start > MAX_ANSWER_BYTES + MAX_LINE_BYTES
            && self.line == self.start
        {
            return Err(too_large("answer"));
        }
        Ok(())
    }
}

/// The length of the literal that follows a line, if it ends in `{n}` CRLF.
fn announced_literal(line: &[u8]) -> Result<Option<usize>, ImapError> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(line) = line.strip_suffix(b"}") else {
        return Ok(None);
    };
    let line = line.strip_suffix(b"+").unwrap_or(line);
    let digits = line.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let (before, digits) = line.split_at(line.len() - digits);
    // `OK you have {3}` is text; a literal stands where a value does.
    if digits.is_empty() || !before.ends_with(b"{") || is_text(before) {
        return Ok(None);
    }
    let digits = std::str::from_utf8(digits).unwrap_or_default();
    digits.parse().map(Some).map_err(|_| too_large("literal"))
}

/// Whether a line is for people from some point on: a status response, or a continuation.
fn is_text(line: &[u8]) -> bool {
    let words = &mut line.splitn(3, |byte| *byte == b' ');
    let tag = words.next().unwrap_or_default();
    let word = words.next().unwrap_or_default();
    tag == b"+"
        || ["OK", "NO", "BAD", "BYE", "PREAUTH"]
            .iter()
            .any(|status| word.eq_ignore_ascii_case(status.as_bytes()))
}

fn too_large(what: &str) -> ImapError {
    ImapError::Protocol(format!("a {what} is larger than is read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::{Data, Status};

    fn read(pieces: &[&[u8]]) -> Result<Vec<Reply>, ImapError> {
        let mut reader = ReplyReader::default();
        let mut replies = Vec::new();
        for piece in pieces {
            reader.receive(piece);
            while let Some(reply) = reader.next_reply()? {
                replies.push(reply);
            }
        }
        Ok(replies)
    }

    #[test]
    fn a_reply_is_the_same_in_whatever_pieces_it_comes() {
        let text =
            b"* 3 FETCH (UID 7 BODY[HEADER.FIELDS (FROM)] {9}\r\nFrom: a\r\n FLAGS (\\Seen))\r\n\
            * OK you have {3}\r\n* 4 EXISTS\r\nt1 OK [UIDNEXT 8] done\r\n";
        let whole = read(&[text]).expect("replies");
        assert_eq!(whole.len(), 4);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(read(&bytes).expect("replies"), whole);
        assert!(matches!(&whole[0], Reply::Data(Data::Fetch(fetched))
            if fetched.header.as_deref() == Some(b"From: a\r\n")));
        assert!(matches!(&whole[3], Reply::Done(done) if done.status == Status::Ok));
    }

    #[test]
    fn what_is_larger_than_any_reply_ends_the_reading() {
        let line = vec![b'a'; MAX_LINE_BYTES + 1];
        assert!(read(&[&line]).is_err());
        let literal = format!("* 1 FETCH (BODY[] {{{}}}\r\n", MAX_LITERAL_BYTES + 1);
        assert!(read(&[literal.as_bytes()]).is_err());
        assert!(read(&[b"* 1 FETCH (BODY[] {99999999999999999999}\r\n"]).is_err());
        let literal = format!("BODY[] {{{MAX_LITERAL_BYTES}}}\r\n");
        let body = vec![b'a'; MAX_LITERAL_BYTES];
        let pieces: [&[u8]; 5] = [
            b"* 1 FETCH (",
            literal.as_bytes(),
            &body,
            b" ",
            literal.as_bytes(),
        ];
        assert!(read(&pieces).is_err());
    }

    #[test]
    fn a_reader_at_rest_holds_nothing() {
        let mut reader = ReplyReader::default();
        reader.receive(b"* 4 EXISTS\r\n");
        assert!(reader.next_reply().expect("a reply").is_some());
        reader.rest();
        assert_eq!(reader.bytes.capacity(), 0);
    }
}
