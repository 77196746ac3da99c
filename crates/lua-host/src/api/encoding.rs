//! Encodings that Dovecot 2.4 has for scripts: `dovecot.base64`, and lists that are divided by
//! tabs.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use mlua::{Lua, LuaString, Table};

/// What begins an escaped byte.
const ESCAPE: u8 = 1;
/// Bytes that are escaped, with what stands behind [`ESCAPE`] for each.
const ESCAPED: [(u8, u8); 5] = [
    (0, b'0'),
    (ESCAPE, b'1'),
    (b'\t', b't'),
    (b'\r', b'r'),
    (b'\n', b'n'),
];
/// As Dovecot reads it: padding may be left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn add(lua: &Lua, methods: &Table) -> mlua::Result<()> {
    let base64 = lua.create_table()?;
    let encode = |_: &Lua, bytes: LuaString| Ok(BASE64.encode(bytes.as_bytes()));
    base64.set("encode", lua.create_function(encode)?)?;
    let decode = |lua: &Lua, text: LuaString| lua.create_string(decoded(&text.as_bytes()));
    base64.set("decode", lua.create_function(decode)?)?;
    methods.set("base64", base64)?;
    let escape = |lua: &Lua, text: LuaString| lua.create_string(tab_escaped(&text.as_bytes()));
    methods.set("tabescape", lua.create_function(escape)?)?;
    let unescape = |lua: &Lua, text: LuaString| lua.create_string(tab_unescaped(&text.as_bytes()));
    methods.set("tabunescape", lua.create_function(unescape)?)?;
    let split = |lua: &Lua, text: LuaString| {
        let text = text.as_bytes();
        let parts = text.split(|byte| *byte == b'\t').map(tab_unescaped);
        // An empty text is an empty list.
        let parts = parts.take(if text.is_empty() { 0 } else { usize::MAX });
        let parts = parts.map(|part| lua.create_string(part));
        lua.create_sequence_from(parts.collect::<mlua::Result<Vec<_>>>()?)
    };
    methods.set("split_tabescaped", lua.create_function(split)?)
}

/// The bytes that a text of base64 begins with: what follows a byte that is none is left out, as in
/// Dovecot, which says nothing of it either.
fn decoded(text: &[u8]) -> Vec<u8> {
    let is_space = |byte: &u8| byte.is_ascii_whitespace();
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let text = text.iter().copied().filter(|byte| !is_space(byte));
    let mut text: Vec<u8> = text.take_while(is_digit).collect();
    if text.len() % 4 == 1 {
        text.pop();
    }
    BASE64.decode(text).unwrap_or_default()
}

fn tab_escaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        match ESCAPED.iter().find(|(of, _)| of == byte) {
            Some((_, letter)) => escaped.extend([ESCAPE, *letter]),
            None => escaped.push(*byte),
        }
    }
    escaped
}

fn tab_unescaped(text: &[u8]) -> Vec<u8> {
    let mut unescaped = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != ESCAPE {
            unescaped.push(*byte);
        } else if let Some(letter) = bytes.next() {
            let found = ESCAPED.iter().find(|(_, of)| of == letter);
            unescaped.push(found.map_or(*letter, |(byte, _)| *byte));
        }
    }
    unescaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_base64_ends_a_text() {
        for (text, expected) in [
            ("Zm9vYg==", "foob"),
            ("Zm9vYg", "foob"),
            (" Zm9v\r\nYmFy ", "foobar"),
            ("Zm9v*YmFy", "foo"),
            ("Zm9vY", "foo"),
            ("*", ""),
        ] {
            assert_eq!(decoded(text.as_bytes()), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn what_is_escaped_is_the_same_when_it_is_unescaped() {
        let text = b"a\tb\r\n\x00\x01c";
        let escaped = tab_escaped(text);
        assert_eq!(escaped, b"a\x01tb\x01r\x01n\x010\x011c");
        assert_eq!(tab_unescaped(&escaped), text);
        assert_eq!(tab_unescaped(b"\x01x\x01"), b"x");
    }
}
