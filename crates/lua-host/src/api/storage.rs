//! `dovecot.storage`: constants with the values that they have in Dovecot 2.3.19, as floats.

use mlua::{Lua, Table};

const NUMBERS: [(&str, u32); 24] = [
    ("MAILBOX_FLAG_READONLY", 0x01),
    ("MAILBOX_FLAG_SAVEONLY", 0x02),
    ("MAILBOX_FLAG_DROP_RECENT", 0x04),
    ("MAILBOX_FLAG_NO_INDEX_FILES", 0x10),
    ("MAILBOX_FLAG_KEEP_LOCKED", 0x20),
    ("MAILBOX_FLAG_IGNORE_ACLS", 0x100),
    ("MAILBOX_SYNC_FLAG_FULL_READ", 0x01),
    ("MAILBOX_SYNC_FLAG_FULL_WRITE", 0x02),
    ("MAILBOX_SYNC_FLAG_FAST", 0x04),
    ("MAILBOX_SYNC_FLAG_NO_EXPUNGES", 0x08),
    ("MAILBOX_SYNC_FLAG_FIX_INCONSISTENT", 0x40),
    ("MAILBOX_SYNC_FLAG_EXPUNGE", 0x80),
    ("MAILBOX_SYNC_FLAG_FORCE_RESYNC", 0x100),
    ("STATUS_MESSAGES", 0x01),
    ("STATUS_RECENT", 0x02),
    ("STATUS_UIDNEXT", 0x04),
    ("STATUS_UIDVALIDITY", 0x08),
    ("STATUS_UNSEEN", 0x10),
    ("STATUS_FIRST_UNSEEN_SEQ", 0x20),
    ("STATUS_KEYWORDS", 0x40),
    ("STATUS_HIGHESTMODSEQ", 0x80),
    ("STATUS_PERMANENT_FLAGS", 0x200),
    ("STATUS_FIRST_RECENT_UID", 0x400),
    ("STATUS_HIGHESTPVTMODSEQ", 0x2000),
];

const TEXTS: [(&str, &str); 3] = [
    ("MAILBOX_ATTRIBUTE_PREFIX_DOVECOT", "vendor/vendor.dovecot/"),
    (
        "MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT",
        "vendor/vendor.dovecot/pvt/",
    ),
    (
        "MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT_SERVER",
        "vendor/vendor.dovecot/pvt/server/",
    ),
];

pub(super) fn constants(lua: &Lua) -> mlua::Result<Table> {
    let numbers = NUMBERS.into_iter();
    let numbers = numbers.map(|(name, value)| (name, f64::from(value)));
    let constants = lua.create_table_from(numbers)?;
    for (name, value) in TEXTS {
        constants.set(name, value)?;
    }
    Ok(constants)
}
