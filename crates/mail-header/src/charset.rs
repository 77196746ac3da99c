//! Text of a charset, by the names that mail programs know.

use std::borrow::Cow;

use encoding_rs::{Encoding, ISO_2022_JP, REPLACEMENT, UTF_16BE, UTF_16LE};
use mail_parser::decoders::charsets::map::charset_decoder;

/// Where ISO-2022-JP goes back to ASCII.
const TO_ASCII: &[u8] = b"\x1b(B";

/// The text that the bytes are, `None` where the charset is one that is known and cannot be read
/// (ISO-2022-KR and others that browsers have given up). Bytes of an unknown charset are read as
/// UTF-8, of which ASCII is a part.
pub(crate) fn decode<'a>(charset: &[u8], bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    let Some(encoding) = Encoding::for_label(charset) else {
        return Some(decode_rare(charset, bytes));
    };
    if encoding == REPLACEMENT {
        return None;
    }
    let (text, _) = if encoding == UTF_16LE || encoding == UTF_16BE {
        // The order of bytes is what the text itself begins with.
        let (text, _, had_errors) = encoding.decode(bytes);
        (text, had_errors)
    } else {
        encoding.decode_without_bom_handling(bytes)
    };
    Some(text)
}

/// Charsets that browsers do not know and old mail has: UTF-7, code page 850 and others.
fn decode_rare<'a>(charset: &[u8], bytes: &'a [u8]) -> Cow<'a, str> {
    let Some(decoder) = charset_decoder(charset) else {
        return String::from_utf8_lossy(bytes);
    };
    if charset.eq_ignore_ascii_case(b"utf-7") && is_shifted(bytes) {
        // The decoder forgets what nothing ends.
        return Cow::Owned(decoder(&[bytes, b"-"].concat()));
    }
    Cow::Owned(decoder(bytes))
}

/// Whether UTF-7 ends within Base64.
fn is_shifted(bytes: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let shift = bytes.iter().rposition(|byte| !is_base64(byte));
    let tail = shift.map_or(bytes, |at| &bytes[at + 1..]);
    // The first `+` shifts; a later one is a digit.
    tail.iter()
        .position(|byte| *byte == b'+')
        .is_some_and(|at| at + 1 < tail.len())
}

/// Appends what the next encoded word of the same charset holds. Two changes of the character set
/// without a character between them are an error in ISO-2022-JP, so the needless one goes.
pub(crate) fn join(charset: &[u8], bytes: &mut Vec<u8>, next: &[u8]) {
    let is_needless = bytes.ends_with(TO_ASCII) && next.starts_with(b"\x1b");
    if is_needless && Encoding::for_label(charset) == Some(ISO_2022_JP) {
        bytes.truncate(bytes.len() - TO_ASCII.len());
    }
    bytes.extend_from_slice(next);
}
