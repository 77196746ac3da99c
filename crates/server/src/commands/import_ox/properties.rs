//! Files of properties in the form of Java's: `name = value`, lines that go on behind a backslash,
//! comments behind `#` and `!`.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// Properties by their names; of two with one name the last counts.
pub(super) type Properties = BTreeMap<String, String>;

/// Adds what stands in a file.
pub(super) fn read(text: &str, into: &mut Properties) {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = line.to_owned();
        while goes_on(&whole) {
            whole.pop();
            let Some(next) = lines.next() else { break };
            whole.push_str(next.trim_start());
        }
        let mut letters = whole.chars().peekable();
        let name = name(&mut letters);
        into.insert(name, rest(letters).trim().to_owned());
    }
}

/// Whether a line ends with a backslash that no other one stands before.
fn goes_on(line: &str) -> bool {
    let backslashes = line.chars().rev().take_while(|letter| *letter == '\\');
    backslashes.count() % 2 == 1
}

/// The name, and behind it the sign that divides.
fn name(letters: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(letter) = letters.next_if(|one| !one.is_whitespace() && !is_sign(*one)) {
        match letter {
            '\\' => name.extend(escaped(letters)),
            _ => name.push(letter),
        }
    }
    while letters.next_if(|one| one.is_whitespace()).is_some() {}
    letters.next_if(|one| is_sign(*one));
    name
}

const fn is_sign(letter: char) -> bool {
    matches!(letter, '=' | ':')
}

fn rest(mut letters: Peekable<Chars<'_>>) -> String {
    let mut value = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => value.extend(escaped(&mut letters)),
            _ => value.push(letter),
        }
    }
    value
}

/// What stands behind a backslash.
fn escaped(letters: &mut Peekable<Chars<'_>>) -> Option<char> {
    Some(match letters.next()? {
        't' => '\t',
        'n' => '\n',
        'r' => '\r',
        'f' => '\u{c}',
        'u' => {
            let digits: String = letters.by_ref().take(4).collect();
            let code = u32::from_str_radix(&digits, 16).ok();
            code.and_then(char::from_u32).unwrap_or('\u{fffd}')
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_read_as_java_reads_them() {
        let text = "# a comment\n! another\n\n  a.b = 1 \nc:2\nd   3\ne\nf = x\\\n    y,\\\n  z\n\
                    g\\=h = \\u00e4\\t\\\\\ni = C:\\\\\na.b = 4\n";
        let mut found = Properties::new();
        read(text, &mut found);
        let expected = [
            ("a.b", "4"),
            ("c", "2"),
            ("d", "3"),
            ("e", ""),
            ("f", "xy,z"),
            ("g=h", "\u{e4}\t\\"),
            ("i", "C:\\"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, Properties::from(expected));
    }
}
