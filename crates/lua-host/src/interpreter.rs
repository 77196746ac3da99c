//! The interpreter: the system's Lua with all its libraries, its bounds, and the script in it.

use std::sync::Arc;

use mlua::{Function, HookTriggers, Lua, Value, VmState};

use crate::api;
use crate::output::Output;
use crate::watch::Watch;
use crate::wire::{Answer, Start, cut};

/// Steps between two looks at the clock, where a script is traced.
const STEPS_BETWEEN_LOOKS: u32 = 100_000;

/// Loads the script and calls its `script_init`.
pub(crate) fn load(start: &Start, output: &Arc<Output>, watch: &Watch) -> mlua::Result<Lua> {
    let lua = new();
    let limit = usize::try_from(start.memory_limit_bytes).unwrap_or(usize::MAX);
    lua.set_memory_limit(limit)?;
    if start.is_traced {
        trace(&lua, Arc::clone(output), watch.clone())?;
    }
    api::register(&lua, start, output, watch)?;
    let name = start.script.display().to_string();
    let text = std::fs::read(&start.script)
        .map_err(|error| mlua::Error::runtime(format_args!("`{name}` cannot be read: {error}")))?;
    // As luaL_loadfile has it: a first line that begins with `#` is for the shell.
    let text = match text.first() {
        Some(b'#') => {
            let end = text.iter().position(|byte| *byte == b'\n');
            text.get(end.unwrap_or(text.len())..).unwrap_or_default()
        }
        _ => &text[..],
    };
    let chunk = lua.load(text).set_name(format!("@{name}"));
    watch.during("the script itself", || chunk.exec())?;
    init(&lua, start, watch)?;
    Ok(lua)
}

/// A new interpreter.
#[allow(
    unsafe_code,
    reason = "modules in C are what scripts of Dovecot require"
)]
fn new() -> Lua {
    // SAFETY: what is asked of the caller is that nothing loaded into the interpreter breaks its
    // memory: modules in C and the library `debug` can. Both are named by the operator's script
    // alone, as they are in Dovecot; this process has nothing but that script, no secret of the
    // server, one interpreter used by one thread, and whatever it does to its memory ends with it.
    unsafe { Lua::unsafe_new() }
}

/// Has a function that is late say where it is, and end there if nothing catches that.
fn trace(lua: &Lua, output: Arc<Output>, watch: Watch) -> mlua::Result<()> {
    let looks = HookTriggers::new().every_nth_instruction(STEPS_BETWEEN_LOOKS);
    let is_told = std::cell::Cell::new(false);
    lua.set_global_hook(looks, move |lua, _| {
        let Some(function) = watch.late() else {
            return Ok(VmState::Continue);
        };
        if !is_told.replace(true) {
            let traceback = lua.traceback(None, 0)?.to_string_lossy();
            let traceback = cut(traceback);
            let answer = Answer::Trace {
                function,
                traceback,
            };
            output.send(&answer).map_err(mlua::Error::external)?;
        }
        Err(mlua::Error::runtime("it takes too long"))
    })
}

/// `script_init()`: a number that is not 0 is a refusal, as in Dovecot 2.3; 2.4 does not look at
/// what it returns.
fn init(lua: &Lua, start: &Start, watch: &Watch) -> mlua::Result<()> {
    const NAME: &str = "script_init";
    let Some(init) = function(lua, NAME)? else {
        return Ok(());
    };
    let settings = match &start.settings {
        None => None,
        Some(settings) => {
            let pairs = settings.iter().map(|(key, value)| (&**key, &**value));
            Some(lua.create_table_from(pairs)?)
        }
    };
    let returned: Value = watch.during(NAME, || match settings {
        Some(settings) => init.call(settings),
        None => init.call(()),
    })?;
    if start.is_for_2_4() {
        return Ok(());
    }
    match lua.coerce_number(returned)? {
        Some(number) if number != 0.0 => {
            let what = format!("Script init failed: {NAME}() returned {number}");
            Err(mlua::Error::runtime(what))
        }
        _ => Ok(()),
    }
}

/// A function of the script, by its name.
pub(crate) fn function(lua: &Lua, name: &str) -> mlua::Result<Option<Function>> {
    match lua.globals().raw_get(name)? {
        Value::Function(function) => Ok(Some(function)),
        _ => Ok(None),
    }
}
