//! An address on its own: `local@domain`, without what programs write around it.

use crate::tokens::unquoted;

/// What no address has outside of quotes, beside blanks and control characters.
const NEVER: &str = "<>()[]@,;:\\\"";

/// The address that the text is, or holds behind other words. One without a domain is none.
pub(crate) fn address(text: &[u8]) -> Option<String> {
    let text = without_comments(text);
    let text = String::from_utf8_lossy(&text);
    let mut text = text.trim();
    let scheme = text
        .get(..7)
        .filter(|it| it.eq_ignore_ascii_case("mailto:"));
    if let Some(scheme) = scheme {
        text = text[scheme.len()..].trim_start();
    }
    if text.starts_with('@') {
        // RFC 5322 section 4.4: a route, and the address behind it.
        text = text.split_once(':')?.1;
    }
    let (local, domain) = text.rsplit_once('@')?;
    let domain = one_word(domain, Iterator::next)?;
    if !is_domain(&domain) {
        return None;
    }
    let local = local_part(local.trim())?;
    Some(format!("{local}@{domain}"))
}

fn local_part(text: &str) -> Option<String> {
    if let Some(start) = opening_quote(text) {
        let said = String::from_utf8(unquoted(&text.as_bytes()[start..])).ok()?;
        // Quotes that are not needed are not shown; others are, or the name in them could be taken
        // for an address.
        let needs_none = is_plain(&said) && !said.starts_with('.') && !said.ends_with('.');
        let has_control = said.chars().any(char::is_control);
        let shown = if needs_none {
            said
        } else {
            text[start..].to_owned()
        };
        return (!has_control).then_some(shown);
    }
    let local = one_word(text, DoubleEndedIterator::next_back)?;
    is_plain(&local).then_some(local)
}

/// Where the quoted string begins that the text ends with.
fn opening_quote(text: &str) -> Option<usize> {
    let inner = text.strip_suffix('"')?;
    let mut start = None;
    let mut is_escaped = false;
    for (at, c) in inner.char_indices() {
        if c == '"' && !is_escaped {
            start = match start {
                None => Some(at),
                Some(_) => None,
            };
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    start.filter(|start| !is_escaped && (*start == 0 || inner[..*start].ends_with(' ')))
}

/// One of the words of a text, in which blanks around dots divide none.
fn one_word(
    text: &str,
    choose: impl FnOnce(&mut std::vec::IntoIter<String>) -> Option<String>,
) -> Option<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(last) if word.starts_with('.') || last.ends_with('.') => last.push_str(word),
            _ => words.push(word.to_owned()),
        }
    }
    choose(&mut words.into_iter())
}

fn is_plain(text: &str) -> bool {
    let is_allowed = |c: char| !c.is_whitespace() && !c.is_control() && !NEVER.contains(c);
    // An encoded word is a name.
    !text.is_empty() && text.chars().all(is_allowed) && !text.contains("=?")
}

/// A name, or an address in brackets.
fn is_domain(text: &str) -> bool {
    let literal = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    match literal {
        Some(literal) => is_plain(&literal.replace(':', "")),
        None => is_plain(text),
    }
}

/// Comments left out; one that is not closed is the rest.
fn without_comments(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let (mut depth, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for byte in text {
        let is_plain = !is_escaped && !is_quoted;
        match byte {
            b'(' if is_plain => depth += 1,
            b')' if is_plain && depth > 0 => {
                depth -= 1;
                continue;
            }
            b'"' if !is_escaped && depth == 0 => is_quoted = !is_quoted,
            _ => {}
        }
        if depth == 0 {
            kept.push(*byte);
        }
        is_escaped = *byte == b'\\' && !is_escaped;
    }
    kept
}
