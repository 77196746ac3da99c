//! `dovecot.http.client()`: requests over HTTP, one at a time, which wait for their answer.
//!
//! What fails has a status above 9000, as in Dovecot. Requests go where the script says: the
//! operator has written it, and the guard of tenants does not apply.

mod agent;
mod settings;

use std::cell::RefCell;

use mlua::{Lua, LuaString, Table, Value};
use ureq::http::{HeaderName, HeaderValue, Method, Uri};

use super::{host, object, with};
use agent::Client;
use settings::Settings;

const CLIENT: &str = "struct http_client";
const REQUEST: &str = "struct http_client_request";
const RESPONSE: &str = "struct dlua_http_response";

/// A request that was not submitted yet.
struct Request {
    client: Client,
    method: Method,
    url: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    payload: Option<Vec<u8>>,
}

/// What has come of a request.
pub(super) struct Response {
    status: u16,
    reason: String,
    headers: Vec<(String, Vec<u8>)>,
    payload: Vec<u8>,
}

/// `dovecot.http`, for a script that was written for Dovecot 2.4 or for 2.3.
pub(super) fn module(lua: &Lua, is_for_2_4: bool) -> mlua::Result<Table> {
    let client = lua.create_function(move |lua, settings: Table| {
        let settings = Settings::read(&settings, is_for_2_4);
        let client = settings.and_then(Client::new).map_err(|error| {
            mlua::Error::runtime(format_args!("Invalid HTTP client setting: {error}"))
        })?;
        object(lua, client, &host(lua)?.http_client)
    })?;
    lua.create_table_from([("client", client)])
}

pub(super) fn client_metatable(lua: &Lua) -> mlua::Result<Table> {
    let request = lua.create_function(|lua, (client, of): (Table, Table)| {
        let client = with(&client, CLIENT, |client: &Client| Ok(client.clone()))?;
        let url: Option<String> = of.get("url")?;
        let url =
            url.ok_or_else(|| mlua::Error::runtime("cannot create request: url not specified"))?;
        let method: Option<String> = of.get("method")?;
        let method = method.as_deref().unwrap_or("GET");
        let bad = |what: &str, error: &dyn std::fmt::Display| {
            mlua::Error::runtime(format_args!("Failed to parse {what}: {error}"))
        };
        // The url may have a password: it is in no error.
        let parsed: Uri = url.parse().map_err(|error| bad("url", &error))?;
        if !matches!(parsed.scheme_str(), Some("http" | "https")) {
            return Err(bad("url", &"it begins with neither http:// nor https://"));
        }
        let method = Method::from_bytes(method.as_bytes());
        let request = Request {
            client,
            method: method.map_err(|error| bad("method", &error))?,
            url: parsed,
            headers: Vec::new(),
            payload: None,
        };
        object(lua, RefCell::new(Some(request)), &host(lua)?.http_request)
    })?;
    methods(lua, [("request", request)])
}

pub(super) fn request_metatable(lua: &Lua) -> mlua::Result<Table> {
    let add = |_: &Lua, (request, name, value): (Table, LuaString, LuaString)| {
        let name = HeaderName::from_bytes(&name.as_bytes()).map_err(mlua::Error::external)?;
        let value = HeaderValue::from_bytes(&value.as_bytes());
        let value = value.map_err(mlua::Error::external)?;
        pending(&request, |request| {
            // As in Dovecot: another value of the same name takes the place of the first.
            request.headers.retain(|(of, _)| *of != name);
            request.headers.push((name, value));
        })
    };
    let remove = |_: &Lua, (request, name): (Table, LuaString)| {
        pending(&request, |request| {
            let name = name.to_string_lossy();
            let is_other = |of: &HeaderName| !of.as_str().eq_ignore_ascii_case(&name);
            request.headers.retain(|(of, _)| is_other(of));
        })
    };
    let set_payload = |_: &Lua, (request, payload): (Table, LuaString)| {
        let payload = payload.as_bytes().to_vec();
        pending(&request, |request| request.payload = Some(payload))
    };
    // Lines of ours belong to the script, whatever event is named: it is only kept.
    let set_event = |_: &Lua, (request, event): (Table, Table)| request.raw_set("event", event);
    let get_event = |lua: &Lua, request: Table| match request.raw_get("event")? {
        Some(event) => Ok(event),
        None => super::event::new(lua),
    };
    let submit = |lua: &Lua, request: Table| {
        let taken = with(&request, REQUEST, |request: &RefCell<Option<Request>>| {
            let taken = request.borrow_mut().take();
            taken.ok_or_else(|| mlua::Error::runtime("the request was submitted before"))
        })?;
        let host = host(lua)?;
        let response = taken.submit(host.watch.time_to_wait());
        object(lua, response, &host.http_response)
    };
    methods(
        lua,
        [
            ("add_header", lua.create_function(add)?),
            ("remove_header", lua.create_function(remove)?),
            ("set_payload", lua.create_function(set_payload)?),
            ("set_event", lua.create_function(set_event)?),
            ("get_event", lua.create_function(get_event)?),
            ("submit", lua.create_function(submit)?),
        ],
    )
}

pub(super) fn response_metatable(lua: &Lua) -> mlua::Result<Table> {
    let status = |_: &Lua, it: Table| with(&it, RESPONSE, |it: &Response| Ok(it.status));
    let reason = |_: &Lua, it: Table| with(&it, RESPONSE, |it: &Response| Ok(it.reason.clone()));
    let payload = |lua: &Lua, it: Table| {
        with(&it, RESPONSE, |it: &Response| {
            lua.create_string(&it.payload)
        })
    };
    let header = |lua: &Lua, (it, name): (Table, LuaString)| {
        let name = name.to_string_lossy();
        with(&it, RESPONSE, |it: &Response| {
            let of_name = |(of, _): &&(String, Vec<u8>)| of.eq_ignore_ascii_case(&name);
            let found = it.headers.iter().find(of_name);
            lua.create_string(found.map_or(&b""[..], |(_, value)| value))
        })
    };
    methods(
        lua,
        [
            ("status", lua.create_function(status)?),
            ("reason", lua.create_function(reason)?),
            ("payload", lua.create_function(payload)?),
            ("header", lua.create_function(header)?),
        ],
    )
}

fn methods<const N: usize>(
    lua: &Lua,
    functions: [(&str, mlua::Function); N],
) -> mlua::Result<Table> {
    let methods = lua.create_table_from(functions)?;
    methods.set("__index", Value::Table(methods.clone()))?;
    Ok(methods)
}

/// Changes a request that was not submitted.
fn pending(request: &Table, change: impl FnOnce(&mut Request)) -> mlua::Result<()> {
    with(request, REQUEST, |request: &RefCell<Option<Request>>| {
        let mut request = request.borrow_mut();
        let request = request.as_mut();
        change(request.ok_or_else(|| mlua::Error::runtime("the request was submitted before"))?);
        Ok(())
    })
}
