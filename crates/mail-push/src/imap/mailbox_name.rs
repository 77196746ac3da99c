//! Names of mailboxes on the wire: modified UTF-7 (RFC 3501 section 5.1.3).

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// A name as it is written in a command.
pub(super) fn encoded(name: &str) -> String {
    let mut out = String::new();
    let mut coded: Vec<u8> = Vec::new();
    let flush = |coded: &mut Vec<u8>, out: &mut String| {
        if !coded.is_empty() {
            let text = STANDARD_NO_PAD.encode(&*coded);
            out.push('&');
            out.push_str(&text.replace('/', ","));
            out.push('-');
            coded.clear();
        }
    };
    for character in name.chars() {
        if matches!(character, ' '..='~') {
            flush(&mut coded, &mut out);
            out.push(character);
            if character == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            let units = character.encode_utf16(&mut units);
            coded.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut coded, &mut out);
    out
}

/// A name as a server has written it. One that is not coded is taken as it stands: what Dovecot
/// tells of by NOTIFY it names in UTF-8. `None`: it is no text.
pub(super) fn decoded(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name).ok()?;
    Some(from_coded(text).unwrap_or_else(|| text.to_owned()))
}

fn from_coded(name: &str) -> Option<String> {
    let mut rest = name;
    let mut out = String::new();
    while let Some((plain, coded)) = rest.split_once('&') {
        out.push_str(plain);
        let (coded, behind) = coded.split_once('-')?;
        if coded.is_empty() {
            out.push('&');
        } else {
            let bytes = STANDARD_NO_PAD.decode(coded.replace(',', "/")).ok()?;
            let units = bytes.chunks(2).map(|pair| match pair {
                [high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            out.push_str(&String::from_utf16(&units.collect::<Option<Vec<_>>>()?).ok()?);
        }
        rest = behind;
    }
    out.push_str(rest);
    (encoded(&out) == name).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_modified_utf_7() {
        for (name, coded) in [
            ("INBOX", "INBOX"),
            ("a & b", "a &- b"),
            ("Entwürfe", "Entw&APw-rfe"),
            ("日本語/メール", "&ZeVnLIqe-/&MOEw,DDr-"),
            ("😀", "&2D3eAA-"),
            ("", ""),
        ] {
            assert_eq!(encoded(name), coded, "{name}");
            assert_eq!(decoded(coded.as_bytes()).as_deref(), Some(name), "{coded}");
        }
    }

    #[test]
    fn a_name_that_is_not_coded_is_taken_as_it_stands() {
        for name in [
            "a&",
            "a & b",
            "&AP-",
            "&2D0-",
            "&AGE-",
            "Entwürfe & mehr",
            "&A!-",
        ] {
            assert_eq!(decoded(name.as_bytes()).as_deref(), Some(name));
        }
        assert_eq!(decoded(b"\xff"), None);
    }
}
