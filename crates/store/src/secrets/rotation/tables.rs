//! Tables that have something sealed, and what a rotation asks of each.
//!
//! The id of the key stands in a sealed value, see `envelope.rs`; an index of each table has it.

use crate::push::{credential_field, subscription_field};
use crate::registry::settings;
use crate::secrets::Field;

/// A table with the columns `id` and `sealed`.
pub(super) struct SealedTable {
    /// Keys that have sealed some of it, but the current one.
    pub(super) others: &'static str,
    /// Rows that a key has sealed, in the order of their ids.
    pub(super) next: &'static str,
    /// Writes a row that was sealed anew.
    pub(super) seal: &'static str,
    /// How much each key has sealed.
    pub(super) count: &'static str,
    /// Place of what is sealed of a row.
    pub(super) field: for<'a> fn(&'a str) -> Field<'a>,
}

/// Statements on a table.
macro_rules! sealed_table {
    ($name:literal, $field:path) => {
        SealedTable {
            others: concat!(
                "SELECT DISTINCT substr(sealed, 6, 16) AS key_id FROM ",
                $name,
                " WHERE substr(sealed, 6, 16) <> $1"
            ),
            next: concat!(
                "SELECT id, sealed FROM ",
                $name,
                " WHERE substr(sealed, 6, 16) = $1 AND id > $2 ORDER BY id LIMIT $3"
            ),
            seal: concat!("UPDATE ", $name, " SET sealed = $1 WHERE id = $2"),
            count: concat!(
                "SELECT substr(sealed, 6, 16) AS key_id, COUNT(*) AS total FROM ",
                $name,
                " GROUP BY 1"
            ),
            field: $field,
        }
    };
}

/// All of them. `RETIRE` in `rotation.rs` names them, too.
pub(super) const TABLES: [SealedTable; 3] = [
    sealed_table!("endpoint", settings::field),
    sealed_table!("push_subscription", subscription_field),
    sealed_table!("push_credential", credential_field),
];
