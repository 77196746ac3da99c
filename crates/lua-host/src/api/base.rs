//! Functions of `dovecot` itself: lines of the log, bits of flags; and those that 2.4 has besides:
//! clocks, kinds of addresses, texts with variables.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlua::{Function, Lua, LuaString, Table};

use super::expand::expand_without_user;
use super::{encoding, host};
use crate::wire::Level;

/// Makes global variables that are not declared errors, or allows them again. Functions may be
/// declared later, too.
const RESTRICT: &str = "
local _G, error, rawset, setmetatable, tostring, type = _G, error, rawset, setmetatable, tostring, type
return function(restrict)
  if not restrict then setmetatable(_G, {}) return end
  setmetatable(_G, {
    __index = function(_, name)
      error('attempt to read undeclared global variable ' .. tostring(name), 2)
    end,
    __newindex = function(globals, name, value)
      if type(value) ~= 'function' then
        error('attempt to write to undeclared global variable ' .. tostring(name), 2)
      end
      rawset(globals, name, value)
    end,
  })
end
";

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
    let restrict = lua.load(RESTRICT).set_name("=dovecot");
    methods.set("restrict_global_variables", restrict.eval::<Function>()?)?;
    of_2_4(lua, &methods)?;
    encoding::add(lua, &methods)?;
    Ok(methods)
}

/// Functions that only Dovecot 2.4 has.
fn of_2_4(lua: &Lua, methods: &Table) -> mlua::Result<()> {
    let gettimeofday = |lua: &Lua, ()| {
        let now = since_1970()?;
        lua.create_table_from([
            ("tv_sec", i64::try_from(now.as_secs()).unwrap_or(i64::MAX)),
            ("tv_usec", now.subsec_micros().into()),
        ])
    };
    methods.set("gettimeofday", lua.create_function(gettimeofday)?)?;
    let microseconds = |_: &Lua, ()| since_1970().map(|now| saturated(now.as_micros()));
    methods.set("microseconds", lua.create_function(microseconds)?)?;
    let nanoseconds = |_: &Lua, ()| since_1970().map(|now| saturated(now.as_nanos()));
    methods.set("nanoseconds", lua.create_function(nanoseconds)?)?;
    let net_ip_family = |_: &Lua, address: String| {
        let in_brackets = address
            .strip_prefix('[')
            .and_then(|it| it.strip_suffix(']'));
        Ok(match in_brackets.unwrap_or(&address).parse() {
            Ok(IpAddr::V4(_)) => 4,
            Ok(IpAddr::V6(_)) => 6,
            Err(_) => 0,
        })
    };
    methods.set("net_ip_family", lua.create_function(net_ip_family)?)?;
    let var_expand = |_: &Lua, text: String| {
        expand_without_user(&text).map_err(|error| {
            mlua::Error::runtime(format_args!("failed to expand '{text}': {error}"))
        })
    };
    methods.set("var_expand", lua.create_function(var_expand)?)
}

fn since_1970() -> mlua::Result<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_err(mlua::Error::external)
}

fn saturated(count: u128) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
