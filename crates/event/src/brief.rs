//! Words of others in an error: not all of them.
//!
//! What cannot be read may be megabytes long, and its reason stands in logs, dead letters and
//! answers.

/// How much of the beginning and of the end of a longer text is kept, in bytes.
const BEGINNING: usize = 200;
const END: usize = 100;

/// The text, or its beginning and its end, where the readers of JSON say the place.
pub fn brief(text: &str) -> String {
    if text.len() <= BEGINNING + END {
        return text.to_owned();
    }
    let beginning = &text[..text.floor_char_boundary(BEGINNING)];
    let end = &text[text.ceil_char_boundary(text.len() - END)..];
    format!("{beginning}...{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(brief(""), "");
        let short = "é".repeat(150);
        assert_eq!(brief(&short), short);
        let long = format!("a{}z", "é".repeat(1000));
        let expected = format!("a{}...{}z", "é".repeat(99), "é".repeat(49));
        assert_eq!(brief(&long), expected);
    }
}
