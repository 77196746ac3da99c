//! The user that a transaction begins with: its fields, its settings, its mailboxes.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use dovecast_event::ParsedEvent;
use mlua::{Lua, LuaString, MultiValue, Table, Value, Variadic};

use super::expand::expand;
use super::mailbox::{self, Status};
use super::{host, object, with};

const TYPE: &str = "struct mail_user";
/// Fields of a mail process that are never true for a transaction that comes out of one.
const NEVER: [&str; 8] = [
    "admin",
    "anonymous",
    "autocreated",
    "dsyncing",
    "fuzzy_search",
    "mail_debug",
    "nonexistent",
    "session_restored",
];

/// What is known of a user, from the events of one transaction.
pub(crate) struct User {
    pub(super) name: String,
    pub(super) service: Option<String>,
    pub(super) session: Option<String>,
    pub(super) client_ip: Option<String>,
    userdb: HashMap<String, String>,
    plugin: BTreeMap<String, String>,
    seen: RefCell<Seen>,
}

/// What later events may tell anew.
#[derive(Default)]
struct Seen {
    metadata: HashMap<String, String>,
    statuses: HashMap<String, Status>,
}

impl User {
    pub(crate) fn new(
        name: &str,
        event: Option<&ParsedEvent>,
        plugin: &BTreeMap<String, String>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            service: event.and_then(|event| event.service.clone()),
            session: event.and_then(|event| event.session.clone()),
            client_ip: event.and_then(|event| event.client_ip.clone()),
            userdb: event
                .map(|event| event.userdb.iter().cloned().collect())
                .unwrap_or_default(),
            plugin: plugin.clone(),
            seen: RefCell::default(),
        }
    }

    /// Remembers what events say of the user and of their mailboxes; the last one of each is right.
    pub(crate) fn saw(&self, events: &[ParsedEvent]) {
        let mut seen = self.seen.borrow_mut();
        for event in events {
            seen.metadata.extend(event.metadata.iter().cloned());
            if let Some(status) = Status::of(event) {
                seen.statuses.insert(event.mailbox.clone(), status);
            }
        }
    }

    pub(super) fn status(&self, mailbox: &str) -> Option<Status> {
        self.seen.borrow().statuses.get(mailbox).copied()
    }

    /// A field of the user's, or of the settings; the user's goes first, as in Dovecot.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let found = self.userdb.get(name).or_else(|| self.plugin.get(name));
        found.map(String::as_str)
    }
}

/// Methods of a user.
pub(super) fn metatable(lua: &Lua) -> mlua::Result<Table> {
    let methods = lua.create_table()?;
    methods.set("__index", &methods)?;
    let name = |user: &Table| with(user, TYPE, |user: &Rc<User>| Ok(user.name.clone()));
    methods.set(
        "__tostring",
        lua.create_function(move |_, user: Table| name(&user))?,
    )?;
    let equal = move |_: &Lua, (one, other): (Table, Table)| Ok(name(&one)? == name(&other)?);
    methods.set("__eq", lua.create_function(equal)?)?;
    let less = move |_: &Lua, (one, other): (Table, Table)| Ok(name(&one)? < name(&other)?);
    methods.set("__lt", lua.create_function(less)?)?;
    let at_most = move |_: &Lua, (one, other): (Table, Table)| Ok(name(&one)? <= name(&other)?);
    methods.set("__le", lua.create_function(at_most)?)?;
    let plugin_getenv = |lua: &Lua, (user, key): (Table, LuaString)| {
        with(&user, TYPE, |user: &Rc<User>| {
            let value = user.field(&key.to_string_lossy());
            value.map(|value| lua.create_string(value)).transpose()
        })
    };
    methods.set("plugin_getenv", lua.create_function(plugin_getenv)?)?;
    let var_expand = |_: &Lua, (user, format): (Table, String)| {
        with(&user, TYPE, |user: &Rc<User>| {
            expand(&format, user).map_err(|error| {
                let what = format_args!("var_expand({format}) failed: {error}");
                mlua::Error::runtime(what)
            })
        })
    };
    methods.set("var_expand", lua.create_function(var_expand)?)?;
    let mailbox = |lua: &Lua, (user, name, _): (Table, String, Option<f64>)| {
        let user = with(&user, TYPE, |user: &Rc<User>| Ok(Rc::clone(user)))?;
        mailbox::table(lua, user, name)
    };
    methods.set("mailbox", lua.create_function(mailbox)?)?;
    methods.set("metadata_get", lua.create_function(metadata_get)?)?;
    for name in ["metadata_set", "metadata_unset", "metadata_list"] {
        methods.set(name, mailbox::impossible(lua, name)?)?;
    }
    Ok(methods)
}

/// The table of a user.
pub(crate) fn table(lua: &Lua, user: &Rc<User>) -> mlua::Result<Table> {
    let table = object(lua, Rc::clone(user), &host(lua)?.user)?;
    table.raw_set("username", &*user.name)?;
    table.raw_set("service", user.service.as_deref())?;
    table.raw_set("session_id", user.session.as_deref())?;
    table.raw_set("session_create_time", 0.0)?;
    table.raw_set("home", user.field("home"))?;
    for name in ["uid", "gid"] {
        let number = user.field(name).and_then(|text| text.parse::<f64>().ok());
        table.raw_set(name, number)?;
    }
    for name in NEVER {
        table.raw_set(name, false)?;
    }
    Ok(table)
}

/// `user:metadata_get(key, ...)`: a value for each key.
fn metadata_get(lua: &Lua, (user, keys): (Table, Variadic<LuaString>)) -> mlua::Result<MultiValue> {
    if keys.is_empty() {
        return Err(mlua::Error::runtime("expecting at least 1 parameter"));
    }
    with(&user, TYPE, |user: &Rc<User>| {
        let seen = user.seen.borrow();
        let value = |key: &LuaString| {
            let key = key.to_string_lossy();
            if !key.starts_with("/private/") && !key.starts_with("/shared/") {
                let what = "Invalid key prefix, must be /private/ or /shared/";
                return Err(mlua::Error::runtime(what));
            }
            match seen.metadata.get(&key) {
                Some(value) => lua.create_string(value).map(Value::String),
                None => Ok(Value::Nil),
            }
        };
        keys.iter().map(value).collect()
    })
}
