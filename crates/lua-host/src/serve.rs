//! The life of the process: bounds, the script, one request after the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use dovecast_event::EventKind;
use dovecast_host_process::child::{
    bound_memory, kill_own_group, read_frame, take_standard_streams,
};
use mlua::Lua;

use crate::events::function_name;
use crate::interpreter;
use crate::output::Output;
use crate::transactions::{BEGIN, Transactions};
use crate::watch::Watch;
use crate::wire::{Answer, MAX_REQUEST_BYTES, Request, Start, cut};

/// Memory of the process besides the interpreter's, in bytes: requests, answers, sessions of TLS,
/// buffers of modules in C.
const OWN_MEMORY_BYTES: u64 = 128 * 1024 * 1024;

/// Runs a script until standard input ends, or until the script is asked to end.
pub fn serve() -> io::Result<()> {
    let (mut input, output) = take_standard_streams()?;
    let output = Arc::new(Output::new(output));
    output.announce()?;
    let Some(Request::Start(start)) = next(&mut input)? else {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    };
    bound_memory(start.memory_limit_bytes.saturating_add(OWN_MEMORY_BYTES))?;
    let watch = Watch::start(
        Duration::from_millis(start.time_limit_ms),
        start.is_traced,
        Arc::clone(&output),
    )?;
    let lua = match loaded(&start, &output, &watch) {
        Ok(lua) => lua,
        Err(error) => return output.send(&Answer::Failed(cut(error.to_string()))),
    };
    let mut transactions = Transactions::new(lua, start, Arc::clone(&output), watch);
    let answered = answer(&mut input, &output, &mut transactions);
    if !matches!(answered, Ok(Ended::Asked)) {
        // Before the interpreter is closed, which waits for what `io.popen` has started.
        kill_own_group();
    }
    answered.map(drop)
}

/// Why there are no more requests.
enum Ended {
    /// The script was asked to end. Who asks kills what it has left behind.
    Asked,
    /// The server is gone.
    Alone,
}

fn answer(
    input: &mut impl io::Read,
    output: &Output,
    transactions: &mut Transactions,
) -> io::Result<Ended> {
    while let Some(request) = next(input)? {
        match request {
            Request::Start(_) => return Err(io::Error::from(io::ErrorKind::InvalidData)),
            Request::Part(part) => output.send(&transactions.handle(&part))?,
            Request::End => {
                output.send(&Answer::Ended(transactions.end()))?;
                return Ok(Ended::Asked);
            }
        }
    }
    // Nobody waits for what the script would say.
    drop(transactions.end());
    Ok(Ended::Alone)
}

fn next(input: &mut impl io::Read) -> io::Result<Option<Request>> {
    let Some(bytes) = read_frame(input, MAX_REQUEST_BYTES)? else {
        return Ok(None);
    };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

fn loaded(start: &Start, output: &Arc<Output>, watch: &Watch) -> mlua::Result<Lua> {
    let lua = interpreter::load(start, output, watch)?;
    let mut kinds = Vec::new();
    for kind in EventKind::ALL {
        if interpreter::function(&lua, &function_name(kind))?.is_some() {
            kinds.push(kind.name().to_owned());
        }
    }
    let sent = output.send(&Answer::Started {
        kinds,
        has_beginning: interpreter::function(&lua, BEGIN)?.is_some(),
    });
    sent.map_err(mlua::Error::external)?;
    Ok(lua)
}
