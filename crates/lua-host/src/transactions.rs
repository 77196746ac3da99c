//! Transactions: what is called, in which order, and what is remembered between two parts of one.
//!
//! The order is Dovecot's: `dovecot_lua_notify_begin_txn` if there is a function for any event,
//! the function of each event, `dovecot_lua_notify_end_txn`. An error of one function is told and
//! keeps no other from being called; but a transaction of which the beginning fails has no further
//! calls.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_event::{EventKind, ParsedEvent};
use mlua::{IntoLuaMulti, Lua, Table, Value};

use crate::api::user::{self, User};
use crate::events;
use crate::interpreter::function;
use crate::output::Output;
use crate::watch::Watch;
use crate::wire::{
    Answer, Done, Level, MAX_ERRORS, MAX_OPEN_TRANSACTIONS, Part, ScriptError, Start, cut,
};

pub(crate) const BEGIN: &str = "dovecot_lua_notify_begin_txn";
const END: &str = "dovecot_lua_notify_end_txn";
const DEINIT: &str = "script_deinit";

/// Longest time without a sign of life between two functions.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// How much of its memory a script may keep, in percent: with more, what comes next has no room.
const FULL_PERCENT: u64 = 90;

/// A transaction that has begun.
struct Open {
    user: Rc<User>,
    /// What its beginning has returned, and the metatable of its events; `None`: there is nothing
    /// to call for it.
    called: Option<(Value, Table)>,
}

/// Calls the script for transactions.
pub(crate) struct Transactions {
    lua: Lua,
    start: Start,
    output: Arc<Output>,
    watch: Watch,
    open: HashMap<String, Open>,
    done: Done,
    /// When the server was last told anything, while a request is under way.
    told: Instant,
}

impl Transactions {
    pub(crate) fn new(lua: Lua, start: Start, output: Arc<Output>, watch: Watch) -> Self {
        Self {
            lua,
            start,
            output,
            watch,
            open: HashMap::new(),
            done: Done::default(),
            told: Instant::now(),
        }
    }

    /// Calls the script for a part.
    pub(crate) fn handle(&mut self, part: &Part) -> Answer {
        self.told = Instant::now();
        match self.called(part) {
            Ok(true) => Answer::Done(self.take_done()),
            Ok(false) => Answer::Unknown,
            Err(error) => match error.downcast_ref::<mlua::Error>() {
                // The events themselves have no room any more.
                Some(error) if is_out_of_memory(error) => {
                    self.error("the events", error);
                    Answer::Done(self.take_done())
                }
                _ => {
                    // What came of this one is told of no other.
                    drop(self.take_done());
                    Answer::Failed(cut(error.to_string()))
                }
            },
        }
    }

    /// Ends the script.
    pub(crate) fn end(&mut self) -> Done {
        self.open.clear();
        match function(&self.lua, DEINIT) {
            Ok(None) => {}
            Ok(Some(_)) => drop(self.call(DEINIT, ())),
            Err(error) => self.error(DEINIT, &error),
        }
        self.take_done()
    }

    /// `false`: the transaction has not begun here.
    fn called(&mut self, part: &Part) -> Result<bool, Box<dyn std::error::Error>> {
        let parsed = part.events.iter();
        let parsed = parsed.map(|event| dovecast_event::parse(event.get().as_bytes()));
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        let Some(open) = self.open(part, &parsed)? else {
            return Ok(false);
        };
        for event in &parsed {
            let name = events::function_name(event.kind);
            let Some((context, metatable)) = &open.called else {
                break;
            };
            if function(&self.lua, &name)?.is_some() {
                let table = events::table(&self.lua, event, metatable.clone())?;
                self.call(&name, (context, table));
            }
        }
        let has_failed = !self.done.errors.is_empty();
        if !part.is_last && !has_failed {
            self.open.insert(part.transaction.clone(), open);
        } else if let Some((context, _)) = open.called {
            // What fails before its last part will be begun again.
            let success = part.success && part.is_last;
            if function(&self.lua, END)?.is_some() {
                self.call(END, (context, success));
            } else {
                self.missing(END)?;
            }
        }
        Ok(true)
    }

    /// The transaction of a part, which begins with its first one; `None`: it has not begun here.
    fn open(
        &mut self,
        part: &Part,
        events: &[ParsedEvent],
    ) -> Result<Option<Open>, Box<dyn std::error::Error>> {
        let earlier = self.open.remove(&part.transaction);
        if !part.is_first {
            if let Some(open) = &earlier {
                open.user.saw(events);
            }
            return Ok(earlier);
        }
        if self.open.len() >= MAX_OPEN_TRANSACTIONS {
            return Err("too many transactions are open".into());
        }
        let user = Rc::new(User::new(&part.user, events.first(), &self.start.plugin));
        // In Dovecot a script can ask for METADATA and a status from the beginning on.
        user.saw(events);
        let called = self.begin(&user)?;
        Ok(Some(Open { user, called }))
    }

    fn begin(&mut self, user: &Rc<User>) -> mlua::Result<Option<(Value, Table)>> {
        if function(&self.lua, BEGIN)?.is_none() {
            self.missing(BEGIN)?;
            return Ok(None);
        }
        let mut has_any = false;
        for kind in EventKind::ALL {
            has_any |= function(&self.lua, &events::function_name(kind))?.is_some();
        }
        if !has_any {
            return Ok(None);
        }
        let user = user::table(&self.lua, user)?;
        let metatable = events::metatable(&self.lua, &user)?;
        Ok(self.call(BEGIN, user).map(|context| (context, metatable)))
    }

    /// Says what Dovecot says of a function that is missing. Trying again would change nothing.
    fn missing(&self, name: &str) -> mlua::Result<()> {
        let text = format!("Missing function {name}");
        let logged = self.output.log(Level::Error, text, None, Vec::new());
        logged.map_err(mlua::Error::external)
    }

    /// Calls a function; `None`: it has failed, which is written down.
    fn call(&mut self, name: &str, arguments: impl IntoLuaMulti) -> Option<Value> {
        self.done.calls += 1;
        if self.told.elapsed() > SIGN_OF_LIFE {
            self.told = Instant::now();
            if let Err(error) = self.output.send(&Answer::Working) {
                self.error(name, &mlua::Error::external(error));
                return None;
            }
        }
        let called = function(&self.lua, name).and_then(|function| {
            let function = function.ok_or_else(|| mlua::Error::runtime("it is not there"))?;
            self.watch.during(name, || function.call(arguments))
        });
        match called {
            Ok(returned) => Some(returned),
            Err(error) => {
                self.error(name, &error);
                None
            }
        }
    }

    fn error(&mut self, function: &str, error: &mlua::Error) {
        self.done.is_full |= is_out_of_memory(error);
        if self.done.errors.len() < MAX_ERRORS {
            self.done.errors.push(ScriptError {
                function: function.to_owned(),
                message: cut(error.to_string()),
            });
        } else {
            self.done.more_errors += 1;
        }
    }

    fn take_done(&mut self) -> Done {
        let mut done = std::mem::take(&mut self.done);
        done.dropped_lines = self.output.take_dropped();
        done.is_full |= self.is_full();
        done.memory_bytes = self.memory_bytes();
        done
    }

    fn memory_bytes(&self) -> u64 {
        u64::try_from(self.lua.used_memory()).unwrap_or(u64::MAX)
    }

    /// Whether what the script keeps leaves no room: it may catch the errors that it gets then.
    fn is_full(&self) -> bool {
        let most = self.start.memory_limit_bytes / 100 * FULL_PERCENT;
        // What nobody holds any more is there until it is collected.
        self.memory_bytes() > most && (self.lua.gc_collect().is_err() || self.memory_bytes() > most)
    }
}

/// Whether there was no memory, for the interpreter or for a function of ours that it has called.
fn is_out_of_memory(error: &mlua::Error) -> bool {
    match error {
        mlua::Error::MemoryError(_) => true,
        mlua::Error::CallbackError { cause, .. }
        | mlua::Error::WithContext { cause, .. }
        | mlua::Error::BadArgument { cause, .. } => is_out_of_memory(cause),
        _ => false,
    }
}
