//! What templates can do with texts besides what the language has.

use std::fmt;

use minijinja::Environment;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// Stands where a text was cut, unless a template says what does.
pub(super) const ELLIPSIS: &str = "…";
/// Has no width: what it stands in is no mention and no markup any more, and reads the same.
const NOTHING: char = '\u{200b}';

/// Adds them.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("cut", |text: String, most: usize, end: Option<String>| {
        cut(&text, most, end.as_deref().unwrap_or(ELLIPSIS))
    });
    environment.add_filter("slack", |text: String| slack(&text));
    environment.add_filter("no_mentions", |text: String| no_mentions(&text));
}

/// A text of at most so many characters, the last of which are `end` where it was longer.
pub(super) fn cut(text: &str, most: usize, end: &str) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept = most.saturating_sub(end.chars().count());
    let pieces = text.chars().take(kept).chain(end.chars());
    pieces.take(most).collect()
}

/// A text for Slack, which reads `<`, `>` and `&` as the signs of its markup.
fn slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A text in which nobody is called: a stranger who sends a mail must not ring a whole channel.
fn no_mentions(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        out.push(letter);
        if matches!(letter, '@' | '<') {
            out.push(NOTHING);
        }
    }
    out
}

/// Pairs of an object of texts, in their order.
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_call_nobody() {
        for (text, most, end, expected) in [
            ("grüße", 5, ELLIPSIS, "grüße"),
            ("grüße", 4, ELLIPSIS, "grü…"),
            ("grüße", 1, ELLIPSIS, "…"),
            ("grüße", 0, ELLIPSIS, ""),
            ("grüße", 4, "...", "g..."),
            ("grüße", 2, "...", ".."),
            ("", 0, ELLIPSIS, ""),
        ] {
            assert_eq!(cut(text, most, end), expected);
        }
        assert_eq!(slack("<!channel> & co"), "&lt;!channel&gt; &amp; co");
        assert_eq!(
            no_mentions("@all <users/all> a@b"),
            "@\u{200b}all <\u{200b}users/all> a@\u{200b}b"
        );
    }
}
