//! Encoded words (RFC 2047). Neighbours of the same charset are joined before they are decoded:
//! many programs divide a character between two.

use crate::{beginning, charset, is_blank, unfolded};

/// Longest name of a charset, in bytes; the longest registered one has 45.
const MAX_CHARSET_BYTES: usize = 64;

/// An encoded word in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EncodedWord<'a> {
    charset: &'a [u8],
    is_base64: bool,
    text: &'a [u8],
    /// Bytes from the first `=?` to the last `?=`.
    pub(crate) length: usize,
}

impl<'a> EncodedWord<'a> {
    /// The encoded word that the bytes begin with. Blanks are allowed in its text, as programs
    /// write them, and question marks at its end.
    pub(crate) fn at(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b"=?")?;
        let name = rest.iter().take(MAX_CHARSET_BYTES + 1);
        let charset_end = name.clone().position(|byte| *byte == b'?')?;
        // RFC 2231 section 5: a language may follow the charset.
        let charset = rest[..charset_end].split(|byte| *byte == b'*').next()?;
        if charset.is_empty() || !charset.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let [encoding, b'?', text @ ..] = &rest[charset_end + 1..] else {
            return None;
        };
        let is_base64 = match encoding {
            b'B' | b'b' => true,
            b'Q' | b'q' => false,
            _ => return None,
        };
        let mut end = text.iter().position(|byte| *byte == b'?')?;
        while text.get(end + 1) == Some(&b'?') {
            end += 1;
        }
        let is_closed = text.get(end + 1) == Some(&b'=');
        is_closed.then(|| Self {
            charset,
            is_base64,
            text: &text[..end],
            length: bytes.len() - text.len() + end + 2,
        })
    }

    /// Whether the bytes, which begin with no encoded word, may be the beginning of one that goes
    /// on behind them.
    pub(crate) fn is_open(bytes: &[u8]) -> bool {
        let Some(rest) = bytes.strip_prefix(b"=?") else {
            return bytes == b"=";
        };
        let name = rest.iter().take(MAX_CHARSET_BYTES + 1);
        let Some(charset_end) = name.clone().position(|byte| *byte == b'?') else {
            return rest.len() <= MAX_CHARSET_BYTES;
        };
        match &rest[charset_end + 1..] {
            [] | [_] => true,
            [b'B' | b'b' | b'Q' | b'q', b'?', text @ ..] => {
                let end = text.iter().position(|byte| *byte == b'?');
                end.is_none_or(|end| text[end..].iter().all(|byte| *byte == b'?'))
            }
            _ => false,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        if self.is_base64 {
            base64(self.text)
        } else {
            quoted(self.text)
        }
    }
}

/// Encoded words of one charset that follow each other.
struct Run<'a> {
    charset: &'a [u8],
    bytes: Vec<u8>,
    /// Where they are in the header.
    start: usize,
    end: usize,
}

/// A header as text: encoded words decoded, folded lines as one. Each sequence of bytes that is no
/// text becomes U+FFFD, and so does NUL.
pub fn decode_text(header: &[u8]) -> String {
    let line = unfolded(beginning(header));
    let mut text = String::with_capacity(line.len());
    let mut run: Option<Run<'_>> = None;
    let mut at = 0;
    let mut taken = 0;
    while let Some(found) = find_word(&line, at) {
        let start = at + found;
        let Some(word) = EncodedWord::at(&line[start..]) else {
            at = start + 1;
            continue;
        };
        let between = &line[taken..start];
        let before = run.take();
        let end = start + word.length;
        run = Some(match before {
            Some(mut before)
                if is_blank(between) && before.charset.eq_ignore_ascii_case(word.charset) =>
            {
                charset::join(before.charset, &mut before.bytes, &word.bytes());
                Run { end, ..before }
            }
            before => {
                let is_neighbour = before.is_some() && is_blank(between);
                push_run(&mut text, &line, before);
                if !is_neighbour {
                    push(&mut text, &String::from_utf8_lossy(between));
                }
                Run {
                    charset: word.charset,
                    bytes: word.bytes(),
                    start,
                    end,
                }
            }
        });
        (at, taken) = (end, end);
    }
    push_run(&mut text, &line, run);
    push(&mut text, &String::from_utf8_lossy(&line[taken..]));
    text
}

fn find_word(line: &[u8], at: usize) -> Option<usize> {
    line[at..].windows(2).position(|pair| pair == b"=?")
}

/// Words of a charset that cannot be read stay as they stand (RFC 2047 section 6.2).
fn push_run(text: &mut String, line: &[u8], run: Option<Run<'_>>) {
    let Some(run) = run else {
        return;
    };
    match charset::decode(run.charset, &run.bytes) {
        Some(decoded) => push(text, &decoded),
        None => push(text, &String::from_utf8_lossy(&line[run.start..run.end])),
    }
}

fn push(text: &mut String, decoded: &str) {
    text.extend(decoded.chars().map(|c| match c {
        '\0' => '\u{fffd}',
        other => other,
    }));
}

/// The encoding Q (RFC 2047 section 4.2). A `=` that begins no byte stays.
fn quoted(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = (
            after.first().copied().and_then(hex),
            after.get(1).copied().and_then(hex),
        );
        let (byte, length) = match (first, digits) {
            (b'=', (Some(high), Some(low))) => (high << 4 | low, 3),
            (b'_', _) => (b' ', 1),
            (byte, _) => (*byte, 1),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}

/// Base64, in which padding may be missing and what is no digit is passed over.
fn base64(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                // What comes behind padding is another text.
                count = 0;
                continue;
            }
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
