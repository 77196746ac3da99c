//! The beginning of a mail's text, where the server makes none (RFC 8970).

use mail_parser::MessageParser;

/// Most characters of a snippet, as Dovecot cuts it.
const MAX_CHARACTERS: usize = 200;

/// The beginning of the text of a mail of which the beginning is there: of HTML as of plain text,
/// white space as one blank.
pub fn snippet(mail: &[u8]) -> Option<String> {
    let mail = MessageParser::default().parse(mail)?;
    let text = mail.body_text(0)?;
    let mut snippet = String::new();
    let mut left = MAX_CHARACTERS;
    for word in text.split_whitespace() {
        let blank = usize::from(!snippet.is_empty());
        if left <= blank {
            break;
        }
        if blank > 0 {
            snippet.push(' ');
        }
        let cut: String = word.chars().take(left - blank).collect();
        left -= blank + cut.chars().count();
        snippet.push_str(&cut.replace('\0', "\u{fffd}"));
    }
    (!snippet.is_empty()).then_some(snippet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_is_the_beginning_of_the_text_in_words() {
        for (mail, expected) in [
            (
                "Subject: a\r\n\r\nHello,\r\n\r\n  world.\r\n",
                Some("Hello, world."),
            ),
            (
                "Content-Type: text/html\r\n\r\n<p>Hello <b>you</b></p>",
                Some("Hello you"),
            ),
            (
                "Content-Type: text/plain; charset=utf-8\r\n\
                 Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe",
                Some("Grüße"),
            ),
            ("Subject: a\r\n\r\n", None),
            ("", None),
        ] {
            assert_eq!(snippet(mail.as_bytes()).as_deref(), expected, "{mail}");
        }
        let long = format!("Subject: a\r\n\r\n{}", "äbc ".repeat(1000));
        let cut = snippet(long.as_bytes()).expect("a snippet");
        assert!(
            (190..=MAX_CHARACTERS).contains(&cut.chars().count()),
            "{cut}"
        );
    }
}
