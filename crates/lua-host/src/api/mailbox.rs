//! `user:mailbox(name)`: a mailbox, as far as the events of the transaction tell of it.
//!
//! Its status is that after the transaction, as the plugin has seen it. Nothing is opened: `open`,
//! `sync`, `close` and `free` are there for scripts that call them.

use std::rc::Rc;

use dovecast_event::ParsedEvent;
use mlua::{Function, Lua, MultiValue, Table, Variadic};

use super::user::User;
use super::{host, object, with};
use crate::wire::Level;

const TYPE: &str = "struct mailbox";

/// Status of a mailbox after a transaction.
#[derive(Clone, Copy)]
pub(super) struct Status {
    messages: u32,
    recent: u32,
    unseen: u32,
    uidnext: u32,
    uidvalidity: Option<u32>,
    modseq: u64,
}

impl Status {
    /// What an event says of its mailbox; `None`: the plugin has no `detail=full`, or the mailbox
    /// is gone.
    pub(super) fn of(event: &ParsedEvent) -> Option<Self> {
        Some(Self {
            messages: event.messages?,
            recent: event.recent?,
            unseen: event.unseen?,
            uidnext: event.uidnext?,
            uidvalidity: event.uidvalidity,
            modseq: event.modseq?,
        })
    }
}

/// Figures that Dovecot has besides, and that no event tells.
const UNKNOWN_NUMBERS: [&str; 5] = [
    "first_recent_uid",
    "first_unseen_seq",
    "flags",
    "highest_pvt_modseq",
    "permanent_flags",
];
/// What Dovecot says of a storage besides, and no event tells.
const UNKNOWN_BOOLEANS: [&str; 7] = [
    "allow_new_keywords",
    "have_guids",
    "have_only_guid128",
    "have_save_guids",
    "no_modseq_tracking",
    "nonpermanent_modseqs",
    "permanent_keywords",
];

struct Mailbox {
    user: Rc<User>,
    name: String,
}

/// The table of a mailbox.
pub(super) fn table(lua: &Lua, user: Rc<User>, name: String) -> mlua::Result<Table> {
    let names = name.clone();
    let table = object(lua, Mailbox { user, name }, &host(lua)?.mailbox)?;
    table.raw_set("vname", &*names)?;
    table.raw_set("name", names)?;
    Ok(table)
}

/// Methods of a mailbox.
pub(super) fn metatable(lua: &Lua) -> mlua::Result<Table> {
    let methods = lua.create_table()?;
    methods.set("__index", &methods)?;
    let name = |mailbox: &Table| with(mailbox, TYPE, |of: &Mailbox| Ok(of.name.clone()));
    methods.set(
        "__tostring",
        lua.create_function(move |_, it: Table| name(&it))?,
    )?;
    let equal = move |_: &Lua, (one, other): (Table, Table)| {
        let user = |of: &Table| with(of, TYPE, |of: &Mailbox| Ok(of.user.name.clone()));
        Ok(name(&one)? == name(&other)? && user(&one)? == user(&other)?)
    };
    methods.set("__eq", lua.create_function(equal)?)?;
    for name in ["open", "sync", "close", "free"] {
        let nothing =
            |_: &Lua, (mailbox, _): (Table, MultiValue)| with(&mailbox, TYPE, |_: &Mailbox| Ok(()));
        methods.set(name, lua.create_function(nothing)?)?;
    }
    methods.set("status", lua.create_function(status)?)?;
    for name in [
        "metadata_get",
        "metadata_set",
        "metadata_unset",
        "metadata_list",
    ] {
        methods.set(name, impossible(lua, name)?)?;
    }
    Ok(methods)
}

/// What only works inside Dovecot.
pub(super) fn impossible(lua: &Lua, name: &'static str) -> mlua::Result<Function> {
    lua.create_function(move |_, _: MultiValue| -> mlua::Result<()> {
        let what = format!("{name} is not possible outside of Dovecot's processes");
        Err(mlua::Error::runtime(what))
    })
}

/// `mailbox:status(item, ...)`: all that is known, whatever is asked for.
fn status(lua: &Lua, (mailbox, items): (Table, Variadic<f64>)) -> mlua::Result<Table> {
    if items.is_empty() {
        return Err(mlua::Error::runtime("expecting at least 1 parameter"));
    }
    let (name, known) = with(&mailbox, TYPE, |mailbox: &Mailbox| {
        let known = mailbox.user.status(&mailbox.name);
        Ok((mailbox.name.clone(), known))
    })?;
    let status = lua.create_table_with_capacity(0, 20)?;
    status.raw_set("mailbox", name)?;
    let Some(known) = known else {
        let what = "the status of a mailbox is not known: the plugin needs detail=full, and the \
            mailbox must be one of this transaction";
        host(lua)?.log(Level::Warning, what.to_owned(), None, Vec::new())?;
        return Ok(status);
    };
    for (key, value) in [
        ("messages", known.messages),
        ("recent", known.recent),
        ("unseen", known.unseen),
        ("uidnext", known.uidnext),
    ] {
        status.raw_set(key, f64::from(value))?;
    }
    status.raw_set("uidvalidity", known.uidvalidity.map(f64::from))?;
    #[allow(
        clippy::cast_precision_loss,
        reason = "Lua's numbers of Dovecot are doubles, too"
    )]
    status.raw_set("highest_modseq", known.modseq as f64)?;
    for key in UNKNOWN_NUMBERS {
        status.raw_set(key, 0.0)?;
    }
    for key in UNKNOWN_BOOLEANS {
        status.raw_set(key, false)?;
    }
    Ok(status)
}
