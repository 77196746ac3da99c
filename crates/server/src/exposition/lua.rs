//! What is counted of scripts of the driver `lua`, by the block of the configuration.

use dovecast_drivers::lua::LuaStats;

use super::Exposition;

/// A metric of each script: name, help, what is counted.
type Metric = (&'static str, &'static str, fn(&LuaStats) -> u64);

const COUNTERS: [Metric; 6] = [
    (
        "dovecast_lua_transactions_total",
        "Mailbox transactions that a script has taken to their end.",
        |stats| stats.transactions,
    ),
    (
        "dovecast_lua_calls_total",
        "Functions of a script that were called.",
        |stats| stats.calls,
    ),
    (
        "dovecast_lua_starts_total",
        "Processes that were started for a script.",
        |stats| stats.starts,
    ),
    (
        "dovecast_lua_load_failures_total",
        "Times that a script could not be loaded.",
        |stats| stats.load_failures,
    ),
    (
        "dovecast_lua_reloads_total",
        "Times that a script was loaded again because its file had changed.",
        |stats| stats.reloads,
    ),
    (
        "dovecast_lua_dropped_lines_total",
        "Lines that a script has logged or printed, and that are too many.",
        |stats| stats.dropped_lines,
    ),
];

/// All of them; nothing where there is no script.
pub(super) fn scripts(out: &mut Exposition, scripts: &[(String, LuaStats)]) {
    if scripts.is_empty() {
        return;
    }
    for (name, help, counted) in COUNTERS {
        out.counter(name, help);
        for (block, stats) in scripts {
            out.sample(&[("block", block)], counted(stats));
        }
    }
    out.counter(
        "dovecast_lua_errors_total",
        "Errors of functions of a script, by the function that was called.",
    );
    for (block, stats) in scripts {
        for (function, errors) in &stats.errors_by_function {
            out.sample(&[("block", block), ("function", function)], *errors);
        }
    }
    out.counter(
        "dovecast_lua_deaths_total",
        "Processes of a script that were killed because a function took too long (late), or that ended by themselves (ended).",
    );
    for (block, stats) in scripts {
        let ended = stats.deaths.saturating_sub(stats.late);
        out.sample(&[("block", block), ("cause", "late")], stats.late);
        out.sample(&[("block", block), ("cause", "ended")], ended);
    }
    out.gauge(
        "dovecast_lua_memory_bytes",
        "What the interpreter of a script had allocated after its last transaction.",
    );
    for (block, stats) in scripts {
        out.sample(&[("block", block)], stats.memory_bytes);
    }
}
