//! Dovecot's configuration as `doveconf` prints it: sections in sections, with settings.

/// A section; the whole configuration is one without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// As printed: `service imap`, `plugin`, `push_notification NAME`.
    pub(crate) name: String,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) sections: Vec<Section>,
}

impl Section {
    /// Reads what `doveconf` has printed.
    pub(crate) fn parse(text: &str) -> Self {
        let mut open = vec![Self::default()];
        for line in text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'))
        {
            if let Some(name) = line.strip_suffix('{') {
                open.push(Self {
                    name: name.trim().to_owned(),
                    ..Self::default()
                });
            } else if line == "}" {
                close(&mut open);
            } else if let (Some((name, value)), Some(section)) =
                (line.split_once('='), open.last_mut())
            {
                section
                    .settings
                    .push((name.trim().to_owned(), unquoted(value.trim()).to_owned()));
            }
        }
        while open.len() > 1 {
            close(&mut open);
        }
        open.pop().unwrap_or_default()
    }

    /// A setting of this section.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The section of that name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Sections whose name is `kind NAME`, with the name.
    pub(crate) fn named<'s>(
        &'s self,
        kind: &'s str,
    ) -> impl Iterator<Item = (&'s str, &'s Section)> {
        self.sections.iter().filter_map(move |section| {
            let name = section.name.strip_prefix(kind)?.strip_prefix(' ')?;
            Some((name, section))
        })
    }

    /// A list setting: `name = a b`, or 2.4's `name { a = yes }`.
    pub(crate) fn list(&self, name: &str) -> Option<Vec<&str>> {
        if let Some(section) = self.section(name) {
            let on = section.settings.iter().filter(|(_, value)| value != "no");
            return Some(on.map(|(name, _)| name.as_str()).collect());
        }
        Some(
            self.get(name)?
                .split([' ', ','])
                .filter(|word| !word.is_empty())
                .collect(),
        )
    }
}

/// Values with blanks at their ends are printed in quotes.
fn unquoted(value: &str) -> &str {
    let inner = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(value)
}

fn close(open: &mut Vec<Section>) {
    if open.len() > 1
        && let Some(section) = open.pop()
        && let Some(parent) = open.last_mut()
    {
        parent.sections.push(section);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_lists_and_nested_sections_are_read() {
        let text = "# 2.4.1\nmail_plugins {\n  notify = yes\n  acl = no\n}\nprotocols = \" imap lmtp\"\n\
            service imap {\n  inet_listener imap {\n    port = 143\n  }\n  vsz_limit = 64 M\n}\n\
            push_notification a b {\n  driver = kafka\n}\nx = a=b\n";
        let all = Section::parse(text);
        assert_eq!(all.list("mail_plugins"), Some(vec!["notify"]));
        assert_eq!(all.list("protocols"), Some(vec!["imap", "lmtp"]));
        assert_eq!(all.get("x"), Some("a=b"));
        let imap = all.section("service imap").expect("there");
        assert_eq!(imap.get("vsz_limit"), Some("64 M"));
        assert_eq!(
            imap.section("inet_listener imap")
                .and_then(|section| section.get("port")),
            Some("143")
        );
        let (name, block) = all.named("push_notification").next().expect("there");
        assert_eq!((name, block.get("driver")), ("a b", Some("kafka")));
    }

    #[test]
    fn a_broken_print_is_read_as_far_as_it_goes() {
        assert_eq!(
            Section::parse("}\n}\na {\nb = c\n")
                .section("a")
                .and_then(|a| a.get("b")),
            Some("c")
        );
    }
}
