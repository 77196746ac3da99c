//! What a device shows of a mail by itself, before an application of its own looks at it: a title
//! and a text, made of a message.

use serde_json::Value;

/// Most bytes of each: as many as Open-Xchange gives, and more than any device shows.
const MAX_BYTES: usize = 1024;
/// Title of a mail of which nothing may be told.
const UNTOLD: &str = "New mail";

/// A title and a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Who has sent the mail.
    pub(super) title: String,
    /// What it is about, and how it begins.
    pub(super) body: String,
}

/// What is shown of the message of new mail, in whichever form.
pub(super) fn shown(message: &Value) -> Shown {
    let text = |name: &str| message.get(name).and_then(Value::as_str).map(str::trim);
    let first = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| text(name).filter(|it| !it.is_empty()))
    };
    let sender = first(&["displayname", "email", "from"]).map_or(UNTOLD, name_of);
    let lines = [first(&["subject"]), first(&["snippet", "teaser"])];
    let lines: Vec<&str> = lines.into_iter().flatten().collect();
    Shown {
        title: cut(sender),
        body: cut(&lines.join("\n")),
    }
}

/// The name in `Name <address>`, or all of it.
fn name_of(from: &str) -> &str {
    let name = from.split_once('<').map_or(from, |(name, _)| name);
    let name = name.trim().trim_matches('"').trim();
    if name.is_empty() { from } else { name }
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_BYTES)].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_mail_is_shown_by_its_sender_and_its_subject() {
        for (message, title, body) in [
            (json!({}), "New mail", ""),
            (
                json!({"from": "\"Alice B.\" <a@b.example>", "subject": "Hi"}),
                "Alice B.",
                "Hi",
            ),
            (json!({"from": "<a@b.example>"}), "<a@b.example>", ""),
            (
                json!({"email": "a@b.example", "displayname": "", "subject": "Hi", "teaser": "There"}),
                "a@b.example",
                "Hi\nThere",
            ),
            (json!({"from": "A", "subject": 1, "snippet": "S"}), "A", "S"),
        ] {
            let expected = Shown {
                title: title.to_owned(),
                body: body.to_owned(),
            };
            assert_eq!(shown(&message), expected, "{message}");
        }
        let long = json!({"from": "ä".repeat(2000)});
        assert_eq!(shown(&long).title.len(), MAX_BYTES);
    }
}
