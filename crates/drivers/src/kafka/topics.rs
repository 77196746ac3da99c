//! Topics that accounts may write to: names, and patterns of them.

/// Longest name of a topic.
const MAX_NAME_BYTES: usize = 249;
/// Stands for the number of the account in a pattern.
const ACCOUNT: &str = "{account}";

/// Whether Kafka takes a name for that of a topic; why not, to be read behind it.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if matches!(name, "" | "." | "..") || !name.bytes().all(is_legal) {
        return Err("which is no name of a topic: letters, digits, `.`, `_` and `-` are");
    }
    if name.len() > MAX_NAME_BYTES {
        return Err("which is too long for the name of a topic (maximum is 249)");
    }
    Ok(())
}

/// Names of topics, where `*` stands for any text, and `{account}` for the number of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(String);

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether a topic is one of those that the account may write to.
    pub(super) fn matches(&self, account: &str, topic: &str) -> bool {
        // The parts between stars, with the account in them: its own stars are none.
        let parts = self.0.split('*').map(|part| part.replace(ACCOUNT, account));
        let parts: Vec<String> = parts.collect();
        let [first, middle @ .., last] = &parts[..] else {
            return parts.first().is_some_and(|only| only == topic);
        };
        let Some(mut rest) = topic.strip_prefix(first.as_str()) else {
            return false;
        };
        for part in middle {
            match rest.split_once(part.as_str()) {
                Some((_, behind)) => rest = behind,
                None => return false,
            }
        }
        rest.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_its_topics_and_no_others() {
        for (pattern, account, topic, expected) in [
            ("a", "7", "a", true),
            ("a", "7", "ab", false),
            ("", "7", "a", false),
            ("*", "7", "a", true),
            ("a*", "7", "a", true),
            ("a*", "7", "ba", false),
            ("*a", "7", "ba", true),
            ("a*a", "7", "a", false),
            ("a*a", "7", "aa", true),
            ("a*b*c", "7", "a-b-b-c", true),
            ("a*b*c", "7", "a-c-b", false),
            ("mail.{account}", "7", "mail.7", true),
            ("mail.{account}", "7", "mail.77", false),
            ("mail.{account}.*", "7", "mail.7.new", true),
            ("mail.{account}.*", "7", "mail.8.new", false),
            ("mail.{account}.*", "*", "mail.7.new", false),
            ("{account}-{account}", "7", "7-7", true),
        ] {
            let matches = Pattern::new(pattern).matches(account, topic);
            assert_eq!(matches, expected, "{pattern} {account} {topic}");
        }
    }

    #[test]
    fn a_name_that_kafka_does_not_take_is_none() {
        for name in ["a", "A.b_c-9", &"a".repeat(249)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "\u{e4}", &"a".repeat(250)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
