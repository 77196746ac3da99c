//! The first mailbox of a From or a To.

use crate::address::address;
use crate::encoded_word::decode_text;
use crate::tokens::{Token, Tokens, unquoted};
use crate::{beginning, unfolded};

/// A mailbox of a header, as far as there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailbox {
    /// The address, which has a domain.
    pub address: Option<String>,
    /// The name before it, decoded; a comment where there is no name.
    pub display_name: Option<String>,
}

/// The first mailbox of a header that has an address. Members of groups are mailboxes, too. Where
/// none has an address there is the first name only, which may be that of a group.
///
/// Of a header that is longer than what is read, an address is taken only if the rest, whatever it
/// is, could not make another one of it.
pub fn first_mailbox(header: &[u8]) -> Mailbox {
    let read = beginning(header);
    let is_cut = read.len() < header.len();
    let line = unfolded(read);
    let list = if is_cut {
        Tokens::of_beginning(&line)
    } else {
        Tokens::new(&line)
    };
    let mut first_name = None;
    let mut tokens = Vec::new();
    for token in list.map(Some).chain([None]) {
        let is_mailbox = match token {
            Some(Token::Separator) => true,
            // Otherwise the name of a group, or a scheme as in `mailto:`.
            Some(Token::Colon) => has_angle(&tokens),
            // Behind the cut there may be an address in angle brackets, and this be its name.
            None => !is_cut || has_angle(&tokens),
            Some(other) => {
                tokens.push(other);
                continue;
            }
        };
        let mailbox = if is_mailbox {
            mailbox(&tokens)
        } else {
            only_named(&tokens)
        };
        if mailbox.address.is_some() {
            return mailbox;
        }
        first_name = first_name.or(mailbox.display_name);
        tokens.clear();
    }
    Mailbox {
        address: None,
        display_name: first_name,
    }
}

fn has_angle(tokens: &[Token<'_>]) -> bool {
    tokens.iter().any(|it| matches!(it, Token::Angle(_)))
}

fn only_named(tokens: &[Token<'_>]) -> Mailbox {
    Mailbox {
        address: None,
        display_name: phrase(tokens),
    }
}

fn mailbox(tokens: &[Token<'_>]) -> Mailbox {
    let in_angle = |token: &Token<'_>| match token {
        Token::Angle(content) => address(content),
        _ => None,
    };
    if !has_angle(tokens) {
        return bare(tokens);
    }
    let found = tokens.iter().enumerate();
    let found = found.filter_map(|(at, token)| Some((at, in_angle(token)?)));
    // What stands before the address is its name, whatever that looks like.
    let (at, address) = found
        .map(|(at, it)| (at, Some(it)))
        .next()
        .unwrap_or((tokens.len(), None));
    let after = tokens.get(at + 1..).unwrap_or_default();
    let display_name = phrase(&tokens[..at])
        .or_else(|| phrase(after))
        .or_else(|| comment(tokens));
    Mailbox {
        address,
        display_name,
    }
}

/// A mailbox without `<`: its address is the first word that is one.
fn bare(tokens: &[Token<'_>]) -> Mailbox {
    let words = words(tokens);
    let found = words
        .iter()
        .enumerate()
        .find_map(|(at, word)| Some((at, address(word.text()?)?)));
    let Some((at, address)) = found else {
        return only_named(tokens);
    };
    let others = words.iter().enumerate().filter(|(other, _)| *other != at);
    let others: Vec<u8> = others
        .flat_map(|(_, word)| [unquoted(&word.0), b" ".to_vec()].concat())
        .collect();
    Mailbox {
        address: Some(address),
        display_name: name(&others).or_else(|| comment(tokens)),
    }
}

/// A word of a mailbox, and whether an encoded word is in it, which is never an address.
struct Word(Vec<u8>, bool);

impl Word {
    fn text(&self) -> Option<&[u8]> {
        (!self.1).then_some(&self.0)
    }
}

/// Words: what stands together, and what an `@` or a dot for itself holds together.
fn words(tokens: &[Token<'_>]) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    // Whether the next part belongs to the last word, and would even behind a blank.
    let (mut is_next, mut holds) = (false, false);
    for token in tokens {
        let (text, is_encoded) = match token {
            Token::Quoted(text) | Token::Text(text) => (*text, false),
            Token::Encoded(text) => (*text, true),
            _ => {
                is_next = holds;
                continue;
            }
        };
        let is_held = is_next || text.starts_with(b"@") || text.starts_with(b".");
        match words.last_mut() {
            Some(word) if is_held => {
                word.0.extend_from_slice(text);
                word.1 |= is_encoded;
            }
            _ => words.push(Word(text.to_vec(), is_encoded)),
        }
        is_next = true;
        holds = text == b"." || text.ends_with(b"@");
    }
    words
}

/// The name that these parts are, without comments.
fn phrase(tokens: &[Token<'_>]) -> Option<String> {
    let mut text = Vec::new();
    for token in tokens {
        match token {
            Token::Quoted(quoted) => text.extend(unquoted(quoted)),
            Token::Text(plain) | Token::Encoded(plain) => text.extend_from_slice(plain),
            _ => text.push(b' '),
        }
    }
    name(&text)
}

fn comment(tokens: &[Token<'_>]) -> Option<String> {
    tokens.iter().find_map(|token| match token {
        Token::Comment(comment) => name(&unquoted(comment)),
        _ => None,
    })
}

fn name(text: &[u8]) -> Option<String> {
    let text = decode_text(text);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
