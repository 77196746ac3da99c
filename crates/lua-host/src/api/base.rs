//! Functions of `dovecot` itself: lines of the log, bits of flags.

use mlua::{Lua, LuaString, Table};

use super::host;
use crate::wire::Level;

pub(super) fn methods(lua: &Lua) -> mlua::Result<Table> {
    let methods = lua.create_table()?;
    for (name, level) in [
        ("i_debug", Level::Debug),
        ("i_info", Level::Info),
        ("i_warning", Level::Warning),
        ("i_error", Level::Error),
    ] {
        let function = lua.create_function(move |lua, text: LuaString| {
            host(lua)?.log(level, text.to_string_lossy(), None, Vec::new())
        })?;
        methods.set(name, function)?;
    }
    let has = |_: &Lua, (value, flag): (i64, i64)| Ok(value & flag == flag);
    let set = |_: &Lua, (value, flag): (i64, i64)| Ok(value | flag);
    let clear = |_: &Lua, (value, flag): (i64, i64)| Ok(value & !flag);
    methods.set("has_flag", lua.create_function(has)?)?;
    methods.set("set_flag", lua.create_function(set)?)?;
    methods.set("clear_flag", lua.create_function(clear)?)?;
    // Whether the script may make globals later is its own business.
    let restrict = |_: &Lua, _: bool| Ok(());
    methods.set("restrict_global_variables", lua.create_function(restrict)?)?;
    Ok(methods)
}
