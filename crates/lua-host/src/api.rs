//! Dovecot's API for scripts: the global `dovecot`, the user, the mailbox.
//!
//! Objects are tables with a metatable and a field `item`, as Dovecot's are: scripts go through
//! them with `pairs`, and compare them.

mod base;
mod encoding;
mod event;
mod expand;
mod http;
mod mailbox;
mod storage;
pub(crate) mod user;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mlua::{AnyUserData, Function, Lua, Table};

use crate::output::Output;
use crate::watch::Watch;
use crate::wire::{Level, Start};

/// Makes a function whose errors are texts, as those of Dovecot's functions are: scripts put them
/// into other texts. Errors of functions of ours are objects, which have the stack in their text.
const WITH_TEXTS_AS_ERRORS: &str = "
local error, pcall, tostring, find, sub = error, pcall, tostring, string.find, string.sub
return function(call)
  local function finish(ok, ...)
    if ok then return ... end
    local text = tostring((...))
    local stack = find(text, '\\nstack traceback', 1, true)
    if stack then text = sub(text, 1, stack - 1) end
    local _, kind = find(text, '^runtime error: ')
    error(sub(text, (kind or 0) + 1), 2)
  end
  return function(...) return finish(pcall(call, ...)) end
end
";

/// How long lua-socket waits as it comes, in seconds.
const LUA_SOCKET_SECONDS: f64 = 60.0;

/// Gives the HTTP of lua-socket a time limit that the function it is called in can outlive, where
/// it has the one it comes with.
const WITH_A_TIME_LIMIT: &str = "
local require, limit = require, ...
return function(name)
  local module, where = require(name)
  if name == 'socket.http' and type(module) == 'table' and module.TIMEOUT == 60 then
    module.TIMEOUT = limit
  end
  return module, where
end
";

/// What the functions of the API have in common.
pub(crate) struct Host {
    output: Arc<Output>,
    watch: Watch,
    user: Table,
    mailbox: Table,
    event: Table,
    passthrough: Table,
    http_client: Table,
    http_request: Table,
    http_response: Table,
}

impl Host {
    /// A line of the log.
    fn log(
        &self,
        level: Level,
        text: String,
        name: Option<String>,
        fields: Vec<(String, String)>,
    ) -> mlua::Result<()> {
        let logged = self.output.log(level, text, name, fields);
        logged.map_err(mlua::Error::external)
    }
}

/// Puts the API into an interpreter.
pub(crate) fn register(
    lua: &Lua,
    start: &Start,
    output: &Arc<Output>,
    watch: &Watch,
) -> mlua::Result<()> {
    let host = Rc::new(Host {
        output: Arc::clone(output),
        watch: watch.clone(),
        user: user::metatable(lua)?,
        mailbox: mailbox::metatable(lua)?,
        event: event::metatable(lua, true)?,
        passthrough: event::metatable(lua, false)?,
        http_client: http::client_metatable(lua)?,
        http_request: http::request_metatable(lua)?,
        http_response: http::response_metatable(lua)?,
    });
    let wrap: Function = lua.load(WITH_TEXTS_AS_ERRORS).set_name("=dovecot").eval()?;
    for methods in [
        &host.user,
        &host.mailbox,
        &host.event,
        &host.passthrough,
        &host.http_client,
        &host.http_request,
        &host.http_response,
    ] {
        wrap_all(methods, &wrap)?;
    }
    lua.set_app_data(host);
    let dovecot = lua.create_table()?;
    let methods = base::methods(lua)?;
    methods.set("event", event::constructor(lua)?)?;
    wrap_all(&methods, &wrap)?;
    methods.set("__index", &methods)?;
    let http = http::module(lua, start.is_for_2_4())?;
    wrap_all(&http, &wrap)?;
    dovecot.set("http", http)?;
    dovecot.set("storage", storage::constants(lua)?)?;
    dovecot.set_metatable(Some(methods))?;
    lua.globals().set("dovecot", dovecot)?;
    // What it asks of a server takes several steps, each of which may take so long.
    let limit = (Duration::from_millis(start.time_limit_ms) / 3).as_secs_f64();
    let require = lua.load(WITH_A_TIME_LIMIT).set_name("=dovecast");
    let require: Function = require.call(limit.min(LUA_SOCKET_SECONDS))?;
    lua.globals().set("require", require)
}

/// Has all functions of a table throw texts.
fn wrap_all(functions: &Table, wrap: &Function) -> mlua::Result<()> {
    let pairs = functions.pairs::<String, mlua::Value>();
    for (name, value) in pairs.collect::<mlua::Result<Vec<_>>>()? {
        if let mlua::Value::Function(function) = value {
            functions.set(name, wrap.call::<Function>(function)?)?;
        }
    }
    Ok(())
}

/// What the functions have in common.
fn host(lua: &Lua) -> mlua::Result<Rc<Host>> {
    let host = lua.app_data_ref::<Rc<Host>>();
    let host = host.ok_or_else(|| mlua::Error::runtime("the API is not registered"))?;
    Ok(Rc::clone(&host))
}

/// An object: a table that holds a value of ours.
fn object<T: 'static>(lua: &Lua, value: T, metatable: &Table) -> mlua::Result<Table> {
    let object = lua.create_table()?;
    object.raw_set("item", lua.create_any_userdata(value)?)?;
    object.set_metatable(Some(metatable.clone()))?;
    Ok(object)
}

/// Uses the value that an object holds.
fn with<T: 'static, R>(
    object: &Table,
    of: &str,
    call: impl FnOnce(&T) -> mlua::Result<R>,
) -> mlua::Result<R> {
    let item: Option<AnyUserData> = object.raw_get("item")?;
    let bad = || mlua::Error::runtime(format_args!("bad argument #1, expected {of}"));
    let item = item.ok_or_else(bad)?;
    let value = item.borrow::<T>().map_err(|_| bad())?;
    call(&value)
}
