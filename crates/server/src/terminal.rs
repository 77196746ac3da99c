//! What the environment says of the terminal.

use std::env::var_os;

/// Whether the terminal shows colours, if there is one: neither `NO_COLOR` nor `TERM=dumb` is set.
pub(crate) fn has_colours() -> bool {
    let is_colourless = var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !is_colourless && var_os("TERM").is_none_or(|term| term != "dumb")
}
