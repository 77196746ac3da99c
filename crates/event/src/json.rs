//! JSON strings from arbitrary bytes.
//!
//! Byte for byte what Dovecot's `json_append_escaped` makes of them: `\b \t \n \f \r \" \\`, other
//! controls as `\u00xx` in lower case, U+2028 and U+2029 escaped, everything else raw, and every
//! single byte that is not part of valid UTF-8 as one U+FFFD.

use std::borrow::Cow;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// What to do with a byte of valid UTF-8 inside a JSON string.
const PLAIN: u8 = 0;
/// Write as `\u00xx`.
const CONTROL: u8 = 1;
/// May begin U+2028 or U+2029 (E2 80 A8, E2 80 A9).
const SEPARATOR_LEAD: u8 = 2;

/// Per byte: [`PLAIN`], [`CONTROL`], [`SEPARATOR_LEAD`], or the letter after the backslash.
static ESCAPES: [u8; 256] = {
    let mut table = [PLAIN; 256];
    let mut i = 0;
    while i < 0x20 {
        table[i] = CONTROL;
        i += 1;
    }
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0c] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table[0xe2] = SEPARATOR_LEAD;
    table
};

/// Writes `bytes` as a JSON string with its quotes.
pub(crate) fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in valid_chunks(bytes) {
        match chunk {
            Chunk::Valid(valid) => write_escaped(out, valid.as_bytes()),
            Chunk::InvalidByte => out.extend_from_slice(REPLACEMENT),
        }
    }
    out.push(b'"');
}

/// Writes `,"name":` or, for the first field of an object, `"name":`; `name` is one of our own and
/// needs no escape.
pub(crate) fn write_key(out: &mut Vec<u8>, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writes a number in decimal.
pub(crate) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// The text that a reader of the JSON gets back for `bytes`: each byte that is not UTF-8 becomes
/// U+FFFD.
///
/// Not [`String::from_utf8_lossy`], which makes one U+FFFD of several bytes.
pub fn replace_invalid_utf8(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(valid) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(valid);
    }
    let text = valid_chunks(bytes).map(|chunk| match chunk {
        Chunk::Valid(valid) => valid,
        Chunk::InvalidByte => "\u{fffd}",
    });
    Cow::Owned(text.collect())
}

enum Chunk<'a> {
    Valid(&'a str),
    InvalidByte,
}

/// Splits bytes into runs of valid UTF-8 and single bytes that are not.
fn valid_chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let valid = Some(chunk.valid())
            .filter(|valid| !valid.is_empty())
            .map(Chunk::Valid);
        valid
            .into_iter()
            .chain(chunk.invalid().iter().map(|_| Chunk::InvalidByte))
    })
}

fn write_escaped(out: &mut Vec<u8>, valid: &[u8]) {
    let mut written = 0;
    for (i, &byte) in valid.iter().enumerate() {
        let escape = ESCAPES[byte as usize];
        if escape == PLAIN {
            continue;
        }
        let (text, consumed): (&[u8], usize) = match escape {
            CONTROL => {
                let hex = b"0123456789abcdef";
                (
                    &[
                        b'\\',
                        b'u',
                        b'0',
                        b'0',
                        hex[usize::from(byte >> 4)],
                        hex[usize::from(byte & 15)],
                    ],
                    1,
                )
            }
            SEPARATOR_LEAD => match valid.get(i + 1..i + 3) {
                Some([0x80, 0xa8]) => (b"\\u2028", 3),
                Some([0x80, 0xa9]) => (b"\\u2029", 3),
                _ => continue,
            },
            letter => (&[b'\\', letter], 1),
        };
        out.extend_from_slice(&valid[written..i]);
        out.extend_from_slice(text);
        written = i + consumed;
    }
    out.extend_from_slice(&valid[written..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: &str) {
        let mut out = Vec::new();
        write_string(&mut out, bytes);
        assert_eq!(String::from_utf8(out).expect("valid UTF-8"), expected);
    }

    #[test]
    fn escapes_are_dovecots() {
        check(b"", r#""""#);
        check(b"a\"b\\c/d\x7f", "\"a\\\"b\\\\c/d\x7f\"");
        check(b"\x08\t\n\x0c\r\x00\x1f", r#""\b\t\n\f\r\u0000\u001f""#);
        check(
            "\u{2027}\u{2028}x\u{2029}\u{202a}".as_bytes(),
            "\"\u{2027}\\u2028x\\u2029\u{202a}\"",
        );
        check("日本語/メール 📧".as_bytes(), "\"日本語/メール 📧\"");
    }

    #[test]
    fn each_invalid_byte_is_one_replacement() {
        check(b"a\xffb", "\"a\u{fffd}b\"");
        // A euro sign cut off after two of its three bytes, an overlong slash, a surrogate, beyond
        // U+10FFFF.
        check(b"\xe2\x82", "\"\u{fffd}\u{fffd}\"");
        check(b"\xc0\xaf", "\"\u{fffd}\u{fffd}\"");
        check(b"\xed\xa0\x80!", "\"\u{fffd}\u{fffd}\u{fffd}!\"");
        check(b"\xf4\x90\x80\x80", "\"\u{fffd}\u{fffd}\u{fffd}\u{fffd}\"");
        assert_eq!(replace_invalid_utf8(b"x\xe2\x82y"), "x\u{fffd}\u{fffd}y");
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 4_294_967_295, u64::MAX] {
            let mut out = Vec::new();
            write_number(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
