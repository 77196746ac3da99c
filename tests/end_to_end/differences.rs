//! What differs from one Dovecot to another, as people and the plugin see it: one table, which the
//! cases look things up in.
//!
//! What follows from the configuration's form is no difference: the testkit writes either.
//! docs/dovecot-2.4.md has the same table for operators.

use anyhow::{Context, Result};
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
