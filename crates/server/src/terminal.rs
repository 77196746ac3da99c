//! What the environment says of the terminal.

use std::env::var_os;
use std::ffi::OsString;

/// Whether the terminal shows colours, if there is one: neither `NO_COLOR` nor `TERM=dumb` is set.
pub(crate) fn has_colours() -> bool {
    colours(var_os("NO_COLOR"), var_os("TERM"))
}

fn colours(no_color: Option<OsString>, term: Option<OsString>) -> bool {
    let is_colourless = no_color.is_some_and(|value| !value.is_empty());
    !is_colourless && term.is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dumb_terminal_shows_no_colours_and_nobody_who_wants_none_gets_any() {
        for (no_color, term, expected) in [
            (None, None, true),
            (None, Some("xterm-256color"), true),
            (None, Some("dumb"), false),
            (Some("1"), Some("xterm"), false),
            // https://no-color.org: what is empty is not set.
            (Some(""), Some("xterm"), true),
        ] {
            let shown = colours(no_color.map(Into::into), term.map(Into::into));
            assert_eq!(shown, expected, "{no_color:?} {term:?}");
        }
    }
}
