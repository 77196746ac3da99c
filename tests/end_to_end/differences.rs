//! What differs from one Dovecot to another, as people and the plugin see it: one table, which the
//! cases look things up in.
//!
//! What follows from the configuration's form is no difference: the testkit writes either.
//! docs/dovecot-2.4.md has the same table for operators, in words; [`is_documented`] compares them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::Installation;

/// One Dovecot's row.
#[expect(clippy::struct_excessive_bools, reason = "columns of a table")]
#[derive(Debug)]
pub(crate) struct Differences {
    version: &'static str,
    /// Whether the INBOX of a Maildir is created with an event when another mailbox comes first.
    pub(crate) inbox_has_an_event: bool,
    /// The `modseq` of the expunges of a mailbox that is deleted, in the comparison of
    /// `versions.rs`.
    pub(crate) modseq_of_deleted: u32,
    /// Whether LMTP takes a recipient in UTF-8.
    pub(crate) takes_utf8_recipients: bool,
    /// What a userdb field without a value is.
    pub(crate) empty_field: &'static str,
    /// How the `date` of a mail begins that is dated before 1902, if it has one.
    pub(crate) date_before_1902: Option<&'static str>,
    /// Whether a mailbox may be called by a name with U+2028.
    pub(crate) takes_line_separators: bool,
    /// Whether mails get the keyword `$HasAttachment` or `$HasNoAttachment` without a setting
    /// (since 2.4.2).
    pub(crate) marks_attachments: bool,
}

const TABLE: [Differences; 4] = [
    Differences {
        version: "2.3.19",
        inbox_has_an_event: false,
        modseq_of_deleted: 8,
        takes_utf8_recipients: false,
        empty_field: "yes",
        date_before_1902: Some("2037-"),
        takes_line_separators: true,
        marks_attachments: false,
    },
    Differences {
        version: "2.3.21.1",
        inbox_has_an_event: true,
        modseq_of_deleted: 8,
        takes_utf8_recipients: false,
        empty_field: "yes",
        date_before_1902: Some("2037-"),
        takes_line_separators: true,
        marks_attachments: false,
    },
    Differences {
        version: "2.4.1",
        inbox_has_an_event: true,
        modseq_of_deleted: 7,
        takes_utf8_recipients: true,
        empty_field: "",
        date_before_1902: None,
        takes_line_separators: true,
        marks_attachments: false,
    },
    Differences {
        version: "2.4.5",
        inbox_has_an_event: true,
        modseq_of_deleted: 7,
        takes_utf8_recipients: true,
        empty_field: "",
        date_before_1902: None,
        takes_line_separators: false,
        marks_attachments: true,
    },
];

/// The row of a Dovecot.
pub(crate) fn of(on: Installation) -> Result<&'static Differences> {
    let row = TABLE.iter().find(|row| row.version == on.version());
    row.with_context(|| format!("Dovecot {} has no row in `TABLE`", on.version()))
}

/// Where operators read of it.
const HEADING: &str = "## What differs from 2.3 in the events";

impl Differences {
    /// What is to be read of this Dovecot, row by row, each with its name.
    fn in_words(&self) -> [(&'static str, String); 7] {
        // All of them: who adds a column says what it is called.
        let Self {
            version: _,
            inbox_has_an_event,
            modseq_of_deleted,
            takes_utf8_recipients,
            empty_field,
            date_before_1902,
            takes_line_separators,
            marks_attachments,
        } = *self;
        let shown = if empty_field.is_empty() {
            "\"\""
        } else {
            empty_field
        };
        let less = match TABLE[0].modseq_of_deleted - modseq_of_deleted {
            0 => String::new(),
            less => format!("less by {less}"),
        };
        [
            (
                "UTF-8 recipients in LMTP",
                either(
                    takes_utf8_recipients,
                    "delivered, and `user` has them",
                    "refused",
                ),
            ),
            ("a userdb field without a value", format!("`{shown}`")),
            (
                "a mail dated before 1901-12-13 or so",
                either(
                    date_before_1902.is_some(),
                    "another year (Dovecot's 32-bit arithmetic)",
                    "no `date`",
                ),
            ),
            (
                "Maildir, when a user's first mailbox is another one than INBOX",
                either(
                    inbox_has_an_event,
                    "`MailboxCreate` of INBOX follows",
                    "INBOX is made without an event",
                ),
            ),
            (
                "`modseq` of the expunges of a mailbox that is deleted",
                less,
            ),
            (
                "a mailbox whose name has U+2028",
                either(takes_line_separators, "is made", "is refused"),
            ),
            (
                "`$HasAttachment` or `$HasNoAttachment` on each new mail",
                either(
                    marks_attachments,
                    "unless you set `mail_attachment_detection_options =`, since 2.4.2",
                    "if you ask for it",
                ),
            ),
        ]
    }

    /// Whether a document means this Dovecot by a version, which may be the beginning of its own.
    fn is_of(&self, version: &str) -> bool {
        let rest = self.version.strip_prefix(version);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Whether a document has the table: each row of one is in the other, and they say the same of each
/// Dovecot.
pub(crate) fn is_documented(document: &str) -> Result<()> {
    let (_, section) = document.split_once(HEADING).context(HEADING)?;
    let is_row = |line: &&str| line.starts_with('|');
    let before = section.lines().skip_while(|line| !is_row(line));
    let mut lines = before.take_while(is_row).map(cells);
    let versions = lines.next().context("no table")?;
    ensure!(versions.len() == TABLE.len() + 1, "{versions:?}");
    // The line below the head says nothing.
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in lines.skip(1) {
        ensure!(row.len() == versions.len(), "{row:?}");
        rows.insert(row[0], row);
    }
    for (column, differs) in (1..).zip(&TABLE) {
        let version = versions[column];
        ensure!(differs.is_of(version), "{differs:?} is not {version}");
        for (name, expected) in differs.in_words() {
            let row = rows.get(name);
            let row = row.with_context(|| format!("`{name}` is not documented"))?;
            let said = said(&versions, row, column);
            ensure!(
                said == expected,
                "{name}, {version}: `{said}`, not `{expected}`"
            );
        }
    }
    let names = TABLE[0].in_words().map(|(name, _)| name);
    for name in rows.keys() {
        ensure!(
            names.contains(name),
            "`{name}` is documented, and in no column"
        );
    }
    Ok(())
}

fn either(is_so: bool, yes: &str, no: &str) -> String {
    let said = if is_so { yes } else { no };
    said.to_owned()
}

fn cells(line: &str) -> Vec<&str> {
    let line = line.trim().trim_start_matches('|');
    let line = line.strip_suffix('|').unwrap_or(line);
    line.split('|').map(str::trim).collect()
}

/// What a row says of a column, which may be that it is as another one.
fn said<'a>(versions: &[&str], row: &[&'a str], column: usize) -> &'a str {
    let other = row[column].strip_prefix("as ");
    let other = other.and_then(|other| versions.iter().position(|version| *version == other));
    other.map_or(row[column], |other| row[other])
}
