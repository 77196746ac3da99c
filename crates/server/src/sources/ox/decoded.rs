//! Headers as people read them: encoded words (RFC 2047) decoded, the first mailbox of a From taken
//! apart.
//!
//! The header is read by a parser of mail, as the only one of a mail without a body; line breaks in
//! it cannot begin another.

use mail_parser::MessageParser;

/// The first mailbox of a From header, as far as there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mailbox {
    pub(super) address: Option<String>,
    pub(super) display_name: Option<String>,
}

/// Reads a From header, which may be anything. What is no address is not shown as one.
pub(super) fn decode_from(value: &str) -> Mailbox {
    let mail = format!("From: {}\r\n\r\n", one_line(value));
    let Some(mail) = MessageParser::default().parse(mail.as_bytes()) else {
        return Mailbox::default();
    };
    let Some(first) = mail.from().and_then(|from| from.first()) else {
        return Mailbox::default();
    };
    let address = filled(first.address()).filter(|text| text.contains('@'));
    Mailbox {
        address,
        display_name: filled(first.name()),
    }
}

fn filled(text: Option<&str>) -> Option<String> {
    let text = text?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads a header of text, such as a subject.
pub(super) fn decode_text(value: &str) -> String {
    let line = one_line(value);
    let mail = format!("Subject: {line}\r\n\r\n");
    let mail = MessageParser::default().parse(mail.as_bytes());
    let decoded = mail.and_then(|mail| mail.subject().map(str::to_owned));
    decoded.unwrap_or(line).replace('\0', "\u{fffd}")
}

/// Folded lines are one (RFC 5322 section 2.2.3), and nothing ends the header.
fn one_line(value: &str) -> String {
    let unfolded = value.replace("\r\n", "").replace(['\r', '\n'], "");
    unfolded.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_from(value: &str, address: Option<&str>, display_name: Option<&str>) {
        let mailbox = decode_from(value);
        let shown = (mailbox.address.as_deref(), mailbox.display_name.as_deref());
        assert_eq!(shown, (address, display_name), "{value:?}");
    }

    #[test]
    fn the_first_mailbox_of_a_from_is_taken_apart() {
        let bob = Some("bob@example.org");
        check_from("bob@example.org", bob, None);
        check_from("Bob Sender <bob@example.org>", bob, Some("Bob Sender"));
        check_from(
            "\"Sender, Bob\" <bob@example.org>",
            bob,
            Some("Sender, Bob"),
        );
        check_from("=?utf-8?Q?B=C3=B6b?= <bob@example.org>", bob, Some("Böb"));
        check_from(
            "=?iso-8859-1?q?B=F6b?=\n\t=?utf-8?b?w7Y=?= <bob@example.org>",
            bob,
            Some("Böbö"),
        );
        check_from(
            "Bob <bob@example.org>, Eve <eve@example.org>",
            bob,
            Some("Bob"),
        );
        check_from(
            "Team: Bob <bob@example.org>, eve@example.org;",
            bob,
            Some("Bob"),
        );
        check_from("Böb <bob@example.org>", bob, Some("Böb"));
    }

    #[test]
    fn a_from_that_is_none_is_survived() {
        for value in [
            "",
            " ",
            "<>",
            "\n\n",
            "undisclosed",
            "@",
            "\"",
            "(",
            ",,,",
            "=?utf-8?Q?",
            "\u{0}\u{fffd}<",
            ":;",
        ] {
            let mailbox = decode_from(value);
            assert!(
                mailbox.address.is_none_or(|address| address.contains('@')),
                "{value:?}"
            );
        }
        // What looks like another header is the name of a group here.
        check_from(
            "Bob\r\n\r\nFrom: eve@example.org",
            Some("eve@example.org"),
            None,
        );
    }

    #[test]
    fn a_subject_is_decoded_and_folded_lines_are_one() {
        for (value, expected) in [
            ("Lunch on Friday?", "Lunch on Friday?"),
            ("", ""),
            ("=?utf-8?B?w7zDtsOk?=", "üöä"),
            ("=?UTF-8?Q?a_?= =?UTF-8?Q?b?=", "a b"),
            ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
            ("one\n two\r\n\tthree", "one two\tthree"),
            ("already ünïcode", "already ünïcode"),
            ("=?utf-8?B?broken", "=?utf-8?B?broken"),
            ("a\r\nSubject: b", "aSubject: b"),
        ] {
            assert_eq!(decode_text(value), expected, "{value:?}");
        }
    }
}
