//! A list of addresses taken apart (RFC 5322 section 3.4), whatever it is. What is opened and never
//! closed is text; in the beginning of a list, where it may be closed later, the list ends there.

use crate::encoded_word::EncodedWord;

/// A part of a list of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Blank,
    /// What is between parentheses.
    Comment(&'a [u8]),
    /// A quoted string with its quotes.
    Quoted(&'a [u8]),
    /// What is between `<` and `>`.
    Angle(&'a [u8]),
    /// An encoded word, as it stands.
    Encoded(&'a [u8]),
    /// What is between `[` and `]`, with them, and any other text.
    Text(&'a [u8]),
    /// Behind a mailbox: `,` or `;`.
    Separator,
    /// Behind the name of a group: `:`.
    Colon,
}

/// Takes a list apart.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says something of its own, and none excludes another"
)]
pub(crate) struct Tokens<'a> {
    rest: &'a [u8],
    /// Whether the list goes on behind the bytes.
    is_cut: bool,
    /// Whether all that is closed by this byte was found to be open: it is not looked for again,
    /// which would take the square of the time.
    is_quote_open: bool,
    is_comment_open: bool,
    is_literal_open: bool,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(list: &'a [u8]) -> Self {
        Self {
            rest: list,
            is_cut: false,
            is_quote_open: false,
            is_comment_open: false,
            is_literal_open: false,
        }
    }

    /// Takes the beginning of a list apart: as far as its parts are the same whatever follows.
    pub(crate) fn of_beginning(list: &'a [u8]) -> Self {
        Self {
            is_cut: true,
            ..Self::new(list)
        }
    }

    /// How many bytes are not taken apart yet.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Nothing more can be told of the list.
    fn end(&mut self) -> Option<Token<'a>> {
        self.rest = &[];
        None
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// What is quoted, in parentheses or brackets, or an encoded word.
    fn closed(&mut self, first: u8) -> Option<Token<'a>> {
        match first {
            b'"' if !self.is_quote_open => {
                let Some(length) = quoted_length(self.rest) else {
                    self.is_quote_open = true;
                    return None;
                };
                Some(Token::Quoted(self.take(length)))
            }
            b'(' if !self.is_comment_open => {
                let Some(length) = comment_length(self.rest) else {
                    self.is_comment_open = true;
                    return None;
                };
                let comment = self.take(length);
                Some(Token::Comment(&comment[1..length - 1]))
            }
            b'[' if !self.is_literal_open => {
                let Some(end) = self.rest.iter().position(|byte| *byte == b']') else {
                    self.is_literal_open = true;
                    return None;
                };
                Some(Token::Text(self.take(end + 1)))
            }
            b'=' => {
                let word = EncodedWord::at(self.rest)?;
                Some(Token::Encoded(self.take(word.length)))
            }
            _ => None,
        }
    }

    /// Whether what is quoted, in parentheses or brackets, or an encoded word, begins here and may
    /// end behind the cut. To be asked where [`closed`](Self::closed) has found nothing.
    fn is_open_at_cut(&self, first: u8) -> bool {
        self.is_cut
            && match first {
                b'"' | b'(' | b'[' => true,
                b'=' => EncodedWord::is_open(self.rest),
                _ => false,
            }
    }

    /// What is between `<` and `>`; a `>` that is missing is where the next address begins.
    fn angle(&mut self) -> Option<Token<'a>> {
        let is_opening = |byte: &u8| matches!(byte, b'<' | b' ' | b'\t');
        let opening = self.rest.iter().take_while(|byte| is_opening(byte)).count();
        self.take(opening);
        // A route (RFC 5322 section 4.4) has commas.
        let is_route = self.rest.first() == Some(&b'@');
        let mut length = 0;
        while let Some(byte) = self.rest.get(length) {
            length += match byte {
                b'>' | b'<' => break,
                b',' | b';' if !is_route => break,
                b'"' if !self.is_quote_open => {
                    let quoted = quoted_length(&self.rest[length..]);
                    self.is_quote_open = quoted.is_none();
                    if self.is_quote_open && self.is_cut {
                        return self.end();
                    }
                    quoted.unwrap_or(1)
                }
                _ => 1,
            };
        }
        if self.is_cut && length == self.rest.len() {
            return self.end();
        }
        let content = self.take(length);
        let closing = self.rest.iter().take_while(|byte| **byte == b'>').count();
        self.take(closing);
        Some(Token::Angle(content))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let first = *self.rest.first()?;
        if let Some(token) = self.closed(first) {
            return Some(token);
        }
        if self.is_open_at_cut(first) {
            return self.end();
        }
        let token = match first {
            b' ' | b'\t' => Token::Blank,
            b',' | b';' => Token::Separator,
            b':' => Token::Colon,
            b'<' => return self.angle(),
            _ => {
                let is_text = |byte: &u8| !b" \t,;:<\"([=".contains(byte);
                let more = self.rest[1..].iter().take_while(|byte| is_text(byte));
                let length = 1 + more.count();
                if self.is_cut && length == self.rest.len() {
                    return self.end();
                }
                return Some(Token::Text(self.take(length)));
            }
        };
        self.take(1);
        Some(token)
    }
}

/// How long the quoted string is that the bytes begin with.
fn quoted_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// How long the comment is that the bytes begin with; there are comments in comments.
fn comment_length(bytes: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match bytes.get(at)? {
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at + 1),
            b')' => depth -= 1,
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
    }
}

/// What a quoted string or a comment says, its quotes and backslashes taken off.
pub(crate) fn unquoted(text: &[u8]) -> Vec<u8> {
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let text = text.strip_suffix(b"\"").unwrap_or(text);
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let said = if *byte == b'\\' { bytes.next() } else { None };
        plain.push(*said.unwrap_or(byte));
    }
    plain
}
