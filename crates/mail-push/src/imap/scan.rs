//! Values of a reply, one after the other (RFC 9051 section 4): atoms, numbers, strings, lists.

use std::borrow::Cow;

use super::ImapError;

/// How deep lists are in one another at most: what is skipped of a reply may be a body structure,
/// whose depth a mail says.
const MAX_DEPTH: usize = 100;

/// Reads a reply from its beginning to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'a>(pub(super) &'a [u8]);

impl<'a> Scan<'a> {
    /// Whether this comes next; if so it is behind us.
    pub(super) fn takes(&mut self, token: &[u8]) -> bool {
        match self.0.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<(), ImapError> {
        if self.takes(token.as_bytes()) {
            return Ok(());
        }
        Err(expected(&format!("`{token}`")))
    }

    /// What is up to the next blank, parenthesis or end; it may be empty.
    pub(super) fn word(&mut self) -> &'a [u8] {
        self.until(|byte| matches!(byte, b' ' | b'(' | b')' | b'\r' | b'\n'))
    }

    pub(super) fn until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let at = self.0.iter().position(|byte| ends(*byte));
        let (word, rest) = self.0.split_at(at.unwrap_or(self.0.len()));
        self.0 = rest;
        word
    }

    pub(super) fn number<N: std::str::FromStr>(&mut self) -> Result<N, ImapError> {
        let digits = self.until(|byte| !byte.is_ascii_digit());
        let number = std::str::from_utf8(digits)
            .ok()
            .and_then(|n| n.parse().ok());
        number.ok_or_else(|| expected("a number"))
    }

    /// A string, an atom or NIL, which is `None`.
    pub(super) fn value(&mut self) -> Result<Option<Cow<'a, [u8]>>, ImapError> {
        if self.takes(b"\"") {
            return self.quoted().map(|text| Some(text.into()));
        }
        self.takes(b"~");
        if self.0.starts_with(b"{") {
            return self.literal().map(|text| Some(text.into()));
        }
        let word = self.word();
        if word.is_empty() {
            return Err(expected("a value"));
        }
        Ok((!word.eq_ignore_ascii_case(b"NIL")).then_some(word.into()))
    }

    fn quoted(&mut self) -> Result<Vec<u8>, ImapError> {
        let mut text = Vec::new();
        let mut bytes = self.0.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => {
                    self.0 = bytes.as_slice();
                    return Ok(text);
                }
                b'\\' => text.extend(bytes.next()),
                other => text.push(*other),
            }
        }
        Err(expected("the end of a string"))
    }

    fn literal(&mut self) -> Result<&'a [u8], ImapError> {
        self.expect("{")?;
        let length: usize = self.number()?;
        self.takes(b"+");
        self.expect("}")?;
        self.takes(b"\r");
        self.expect("\n")?;
        let Some((text, rest)) = self.0.split_at_checked(length) else {
            return Err(expected("a literal"));
        };
        self.0 = rest;
        Ok(text)
    }

    /// Passes over one value or list.
    pub(super) fn skip(&mut self) -> Result<(), ImapError> {
        let mut depth = 0_usize;
        loop {
            if self.takes(b"(") {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(expected("lists that are less deep"));
                }
            } else if depth > 0 && self.takes(b")") {
                depth -= 1;
            } else if depth == 0 || !self.takes(b" ") {
                self.value()?;
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The error where something else was expected; nothing of the reply is shown, which may be a
/// mail's.
pub(super) fn expected(what: &str) -> ImapError {
    ImapError::Protocol(format!("expected {what}"))
}
