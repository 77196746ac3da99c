//! `dovecast manual`: a manual page for each command, made of what `--help` says. For packages.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Arg, Command, CommandFactory};

use crate::cli::{Arguments, exit_codes};

/// Writes `dovecast-COMMAND.1`, and `dovecast-COMMAND-ACT.1` where a command has acts.
pub(super) fn write(directory: &Path) -> Result<()> {
    let context = || format!("cannot write into `{}`", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    let mut root = Arguments::command();
    root.build();
    for (name, command) in commands(&root, "dovecast") {
        let file = directory.join(format!("{}.1", name.replace(' ', "-")));
        fs::write(&file, page(&name, command)).with_context(context)?;
    }
    Ok(())
}

/// All commands below one, by what they are called with.
fn commands<'c>(of: &'c Command, name: &str) -> Vec<(String, &'c Command)> {
    let mut all = Vec::new();
    let shown = of.get_subcommands();
    for command in shown.filter(|command| !command.is_hide_set() && command.get_name() != "help") {
        let name = format!("{name} {}", command.get_name());
        all.extend(commands(command, &name));
        all.push((name, command));
    }
    all
}

fn page(name: &str, command: &Command) -> String {
    let title = name.replace(' ', "-");
    let about = command
        .get_about()
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut usage = command.clone().bin_name(name).render_usage().to_string();
    if let Some(stripped) = usage.strip_prefix("Usage: ") {
        usage = stripped.to_owned();
    }
    let mut page = format!(
        ".TH {} 1 \"\" dovecast \"User Commands\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.nf\n{}\n.fi\n.SH DESCRIPTION\n{}.\n",
        roff(&title.to_uppercase()),
        roff(&title),
        roff(&about),
        roff(&usage),
        roff(&about)
    );
    section(&mut page, "ARGUMENTS", command.get_positionals());
    section(
        &mut page,
        "OPTIONS",
        command.get_opts().chain(flags(command)),
    );
    page.push_str(".SH EXIT STATUS\n");
    // Acts of a command end as the command does.
    let of = name.split(' ').nth(1).unwrap_or_default();
    for (code, meaning) in exit_codes(of) {
        // Writing into a String cannot fail.
        let _ = writeln!(page, ".TP\n{code}\n{}", roff(meaning));
    }
    page.push_str(".SH SEE ALSO\n.BR dovecast (1),\n/usr/share/doc/dovecast/cli.md\n");
    page
}

/// Options without a value.
fn flags(command: &Command) -> impl Iterator<Item = &Arg> {
    let all = command.get_arguments();
    all.filter(|arg| !arg.is_positional() && !arg.get_action().takes_values())
}

fn section<'a>(page: &mut String, title: &str, arguments: impl Iterator<Item = &'a Arg>) {
    let mut arguments = arguments.filter(|arg| !arg.is_hide_set()).peekable();
    if arguments.peek().is_none() {
        return;
    }
    // Writing into a String cannot fail.
    let _ = writeln!(page, ".SH {title}");
    for argument in arguments {
        let text = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let defaults: Vec<_> = argument
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let default = match &*defaults {
            _ if !argument.get_action().takes_values() => String::new(),
            [] => String::new(),
            defaults => format!(" (default: {})", defaults.join(", ")),
        };
        let shown = argument.to_string();
        let _ = writeln!(
            page,
            ".TP\n.B {}\n{}{}",
            roff(&shown),
            roff(&text),
            roff(&default)
        );
    }
}

/// The text as roff shows it: backslashes, hyphens and what would be a request at the beginning of
/// a line.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text.lines().map(|line| match line.chars().next() {
        Some('.' | '\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_taken_for_a_request_of_roff() {
        assert_eq!(roff("a\\b --c\n.d\n'e"), "a\\eb \\-\\-c\n\\&.d\n\\&'e");
    }
}
