//! How strings and mailbox names are written in IMAP commands (RFC 3501 sections 4.3, 5.1.3 and 9;
//! RFC 7888).

/// An `astring`: a quoted string, or a non-synchronising literal where a quoted string cannot hold
/// it.
pub fn astring(text: &str) -> Vec<u8> {
    let quotable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if quotable {
        format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\"")).into_bytes()
    } else {
        literal(text.as_bytes())
    }
}

/// A non-synchronising literal (`LITERAL+`): its length and the bytes, in one go.
pub fn literal(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{{{}+}}\r\n", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out
}

/// The modified UTF-7 of a mailbox name, to be quoted by the caller.
pub fn mutf7(name: &str) -> String {
    let mut out = String::new();
    let mut shifted: Vec<u8> = Vec::new();
    for character in name.chars() {
        if (' '..='~').contains(&character) {
            flush_shifted(&mut out, &mut shifted);
            out.push(character);
            if character == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            shifted.extend(
                character
                    .encode_utf16(&mut units)
                    .iter()
                    .flat_map(|unit| unit.to_be_bytes()),
            );
        }
    }
    flush_shifted(&mut out, &mut shifted);
    out
}

/// Appends what was collected in UTF-16 as `&BASE64-`: `,` in place of `/`, no padding.
fn flush_shifted(out: &mut String, utf16: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    if utf16.is_empty() {
        return;
    }
    out.push('&');
    for chunk in utf16.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            out.push(char::from(
                ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63],
            ));
        }
    }
    out.push('-');
    utf16.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailbox_names_are_encoded_as_dovecot_decodes_them() {
        let check = |name: &str, encoded: &str| assert_eq!(mutf7(name), encoded, "{name}");
        check("INBOX/Old mail", "INBOX/Old mail");
        check("&", "&-");
        check("a&b", "a&-b");
        check("日本語/メール", "&ZeVnLIqe-/&MOEw,DDr-");
        check("台北", "&U,BTFw-");
        check("Entwürfe", "Entw&APw-rfe");
        check("📬", "&2D3c7A-");
        check("é&è", "&AOk-&-&AOg-");
        check("", "");
    }

    #[test]
    fn strings_are_quoted_where_possible() {
        let check =
            |text: &str, encoded: &str| assert_eq!(astring(text), encoded.as_bytes(), "{text}");
        check("", r#""""#);
        check("a b", r#""a b""#);
        check(r#"o"neil\x"#, r#""o\"neil\\x""#);
        check("jürg", "{5+}\r\njürg");
        check("a\r\nb", "{4+}\r\na\r\nb");
    }
}
