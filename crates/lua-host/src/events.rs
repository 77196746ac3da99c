//! Events as the tables that scripts get.
//!
//! A table has what Dovecot's own driver was seen to put into it, no more: scripts go through it
//! with `pairs`. What the documentation names besides (`user`, `keywords_set`, `keywords_clear`)
//! is answered by its metatable.

use dovecast_event::{EventKind, ParsedEvent};
use jiff::Timestamp;
use mlua::{Lua, Table, Value};

/// Name of the function that is called for a kind of events.
pub(crate) fn function_name(kind: EventKind) -> String {
    let mut name = "dovecot_lua_notify_event".to_owned();
    for c in kind.name().chars() {
        if c.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name
}

/// The metatable of the events of one transaction.
pub(crate) fn metatable(lua: &Lua, user: &Table) -> mlua::Result<Table> {
    let user = user.clone();
    let index = lua.create_function(move |_, (event, key): (Table, Value)| {
        let key = key.as_string().map(mlua::LuaString::as_bytes);
        match key.as_deref() {
            Some(b"user") => Ok(Value::Table(user.clone())),
            Some(b"keywords_set") if is(&event, EventKind::FlagsSet)? => event.raw_get("keywords"),
            Some(b"keywords_clear") if is(&event, EventKind::FlagsClear)? => {
                event.raw_get("keywords")
            }
            _ => Ok(Value::Nil),
        }
    })?;
    lua.create_table_from([("__index", index)])
}

fn is(event: &Table, kind: EventKind) -> mlua::Result<bool> {
    let name: Value = event.raw_get("name")?;
    Ok(name.as_string().is_some_and(|name| *name == *kind.name()))
}

/// The table of an event.
pub(crate) fn table(lua: &Lua, event: &ParsedEvent, metatable: Table) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 20)?;
    table.raw_set("name", event.kind.name())?;
    table.raw_set("mailbox", &*event.mailbox)?;
    // Numbers are floats, as those of Dovecot are: `1.0`.
    if let Some(uid) = event.uid {
        table.raw_set("uid", f64::from(uid))?;
        table.raw_set("uid_validity", event.uidvalidity.map(f64::from))?;
    }
    match event.kind {
        EventKind::MessageNew | EventKind::MessageAppend => message(lua, event, &table)?,
        EventKind::FlagsSet => {
            table.raw_set("flags", list(lua, event.flags.as_deref())?)?;
            table.raw_set("keywords", list(lua, event.keywords.as_deref())?)?;
        }
        EventKind::FlagsClear => {
            table.raw_set("flags", list(lua, event.flags.as_deref())?)?;
            table.raw_set("flags_old", list(lua, event.old_flags.as_deref())?)?;
            table.raw_set("keywords", list(lua, event.keywords.as_deref())?)?;
            table.raw_set("keywords_old", list(lua, event.old_keywords.as_deref())?)?;
        }
        EventKind::MailboxRename => table.raw_set("mailbox_old", event.old_mailbox.as_deref())?,
        _ => {}
    }
    table.set_metatable(Some(metatable))?;
    Ok(table)
}

fn message(lua: &Lua, event: &ParsedEvent, table: &Table) -> mlua::Result<()> {
    let date = event.date.as_deref();
    let date = date.and_then(|date| date.parse::<Timestamp>().ok());
    #[allow(
        clippy::cast_precision_loss,
        reason = "four-digit years are far below 2^53 seconds"
    )]
    let seconds = date.map_or(0.0, |date| date.as_second() as f64);
    table.raw_set("date", seconds)?;
    table.raw_set("tz", event.tz.map_or(0.0, f64::from))?;
    table.raw_set("from", event.from.as_deref().unwrap_or_default())?;
    table.raw_set("to", event.to.as_deref().unwrap_or_default())?;
    let subject = event.subject_decoded.as_ref().or(event.subject.as_ref());
    for (key, value) in [
        ("from_address", &event.from_address),
        ("from_display_name", &event.from_display_name),
        ("to_address", &event.to_address),
        ("to_display_name", &event.to_display_name),
        ("snippet", &event.snippet),
    ] {
        table.raw_set(key, value.as_deref().unwrap_or_default())?;
    }
    table.raw_set("message_id", event.message_id.as_deref())?;
    table.raw_set("subject", subject.map(String::as_str))?;
    table.raw_set("flags", list(lua, event.flags.as_deref())?)?;
    table.raw_set("keywords", list(lua, event.keywords.as_deref())?)
}

/// A list; of nothing, an empty one.
fn list(lua: &Lua, items: Option<&[String]>) -> mlua::Result<Table> {
    lua.create_sequence_from(items.unwrap_or_default().iter().map(String::as_str))
}
