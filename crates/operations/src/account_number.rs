//! The number of an account, as each door takes it: a blank too many makes no other account, and
//! none is longer than it can be looked up.

/// Longest number, in characters: PostgreSQL's indexes take no long texts.
const MAX_CHARS: usize = 255;

/// The number that a text is, without the blanks around it; an error says what is wrong with it.
pub fn account_number(text: &str) -> Result<&str, &'static str> {
    let number = text.trim();
    if number.is_empty() {
        Err("can't be blank")
    } else if number.chars().count() > MAX_CHARS {
        Err("is too long (maximum is 255 characters)")
    } else if number.chars().any(char::is_control) {
        // Nobody could type it, and it would look like another one.
        Err("has a control character")
    } else {
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_trimmed_bounded_and_typed() {
        let (longest, longer) = ("1".repeat(MAX_CHARS), "1".repeat(MAX_CHARS + 1));
        for (text, expected) in [
            (" 1001 ", Ok("1001")),
            (&*longest, Ok(&*longest)),
            ("\u{e4} b", Ok("\u{e4} b")),
            ("", Err("can't be blank")),
            (" \t", Err("can't be blank")),
            (&longer, Err("is too long (maximum is 255 characters)")),
            ("1\n2", Err("has a control character")),
            ("1\u{0}2", Err("has a control character")),
        ] {
            assert_eq!(account_number(text), expected, "{text}");
        }
    }
}
