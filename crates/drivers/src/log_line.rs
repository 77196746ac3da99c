//! Texts of mails and of scripts as parts of the log: none of them begins another line.

/// A text with its control characters escaped.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_several_lines_becomes_one() {
        assert_eq!(
            one_line("Grüße\r\n2026 ERROR\u{1b}[0m"),
            "Grüße\\r\\n2026 ERROR\\u{1b}[0m"
        );
    }
}
