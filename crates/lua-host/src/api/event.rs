//! `dovecot.event()`: events of Dovecot's own kind, with a name, fields and a parent, from which
//! lines are logged.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mlua::{Function, Lua, LuaString, Table, Value};

use super::{Host, host, object, with};
use crate::wire::Level;

/// Most fields of an event; a further one is an error of the script.
const MAX_FIELDS: usize = 64;

/// What an event holds.
#[derive(Clone, Default)]
struct Fields {
    name: Option<String>,
    prefix: String,
    values: BTreeMap<String, String>,
    /// Whether lines for debugging are shown though the log leaves such lines out.
    is_debug_forced: bool,
}

type Event = RefCell<Fields>;

const TYPE: &str = "struct event";

/// `dovecot.event()`, `dovecot.event(parent)`.
pub(super) fn constructor(lua: &Lua) -> mlua::Result<Function> {
    lua.create_function(|lua, parent: Option<Table>| {
        let fields = match parent {
            Some(parent) => inherited(&parent)?,
            None => Fields::default(),
        };
        event(lua, fields, |host| &host.event)
    })
}

/// Methods of an event, or of what `passthrough_event` returns.
pub(super) fn metatable(lua: &Lua, is_event: bool) -> mlua::Result<Table> {
    let methods = lua.create_table()?;
    methods.set("__index", &methods)?;
    for (name, level) in [
        ("log_debug", Level::Debug),
        ("log_info", Level::Info),
        ("log_warning", Level::Warning),
        ("log_error", Level::Error),
    ] {
        methods.set(name, log(lua, level)?)?;
    }
    change(lua, &methods, "set_name", |fields, (name,): (String,)| {
        fields.name = Some(name);
        Ok(())
    })?;
    change(
        lua,
        &methods,
        "append_log_prefix",
        |fields, (prefix,): (String,)| {
            fields.prefix.push_str(&prefix);
            Ok(())
        },
    )?;
    change(
        lua,
        &methods,
        "replace_log_prefix",
        |fields, (prefix,): (String,)| {
            fields.prefix = prefix;
            Ok(())
        },
    )?;
    change(lua, &methods, "set_always_log_source", |_, ()| Ok(()))?;
    change(
        lua,
        &methods,
        "add_str",
        |fields, (name, value): (String, LuaString)| fields.add(name, value.to_string_lossy()),
    )?;
    for name in ["add_int", "add_timeval"] {
        change(
            lua,
            &methods,
            name,
            |fields, (name, value): (String, i64)| fields.add(name, value.to_string()),
        )?;
    }
    change(
        lua,
        &methods,
        "inc_int",
        |fields, (name, value): (String, i64)| {
            let old = fields.values.get(&name).and_then(|old| old.parse().ok());
            fields.add(name, old.unwrap_or(0_i64).saturating_add(value).to_string())
        },
    )?;
    if is_event {
        change(lua, &methods, "set_forced_debug", |fields, ()| {
            fields.is_debug_forced = true;
            Ok(())
        })?;
        change(lua, &methods, "unset_forced_debug", |fields, ()| {
            fields.is_debug_forced = false;
            Ok(())
        })?;
        let passthrough = lua.create_function(|lua, parent: Table| {
            event(lua, inherited(&parent)?, |host| &host.passthrough)
        })?;
        methods.set("passthrough_event", passthrough)?;
    }
    Ok(methods)
}

/// An event without a parent.
pub(super) fn new(lua: &Lua) -> mlua::Result<Table> {
    event(lua, Fields::default(), |host| &host.event)
}

fn event(lua: &Lua, fields: Fields, metatable: fn(&Host) -> &Table) -> mlua::Result<Table> {
    let host = host(lua)?;
    object(lua, Event::new(fields), metatable(&host))
}

/// What a child has of its parent: all but the name.
fn inherited(parent: &Table) -> mlua::Result<Fields> {
    with(parent, TYPE, |parent: &Event| {
        let mut fields = parent.borrow().clone();
        fields.name = None;
        Ok(fields)
    })
}

/// A method that changes an event, and returns it.
fn change<A>(
    lua: &Lua,
    methods: &Table,
    name: &str,
    change: fn(&mut Fields, A) -> mlua::Result<()>,
) -> mlua::Result<()>
where
    A: mlua::FromLuaMulti + 'static,
{
    let method = lua.create_function(move |lua, mut arguments: mlua::MultiValue| {
        let event: Table = lua.unpack(arguments.pop_front().unwrap_or(Value::Nil))?;
        let arguments = lua.unpack_multi(arguments)?;
        with(&event, TYPE, |fields: &Event| {
            change(&mut fields.borrow_mut(), arguments)
        })?;
        Ok(event)
    })?;
    methods.set(name, method)
}

fn log(lua: &Lua, level: Level) -> mlua::Result<Function> {
    lua.create_function(move |lua, (event, text): (Table, LuaString)| {
        let Fields {
            name,
            prefix,
            values,
            is_debug_forced,
        } = with(&event, TYPE, |event: &Event| Ok(event.borrow().clone()))?;
        let text = prefix + &text.to_string_lossy();
        let level = match level {
            Level::Debug if is_debug_forced => Level::Info,
            level => level,
        };
        host(lua)?.log(level, text, name, values.into_iter().collect())?;
        Ok(event)
    })
}

impl Fields {
    fn add(&mut self, name: String, value: String) -> mlua::Result<()> {
        if self.values.len() >= MAX_FIELDS && !self.values.contains_key(&name) {
            return Err(mlua::Error::runtime("the event has too many fields"));
        }
        self.values.insert(name, value);
        Ok(())
    }
}
