//! Exit codes of commands, as help and manual pages name them, and how a command line that is wrong
//! ends.

use std::ffi::OsString;

use super::PUSHUSERS;

/// Name of the command that says what is wrong.
const DOCTOR: &str = "doctor";
/// Code of a command line that is wrong, unless its command has another one.
const WRONG_LINE: u8 = 2;

/// An exit code, and what it means.
pub(crate) type Meaning = (u8, &'static str);

/// What the codes of a command mean, by its name.
pub(crate) fn exit_codes(command: &str) -> &'static [Meaning] {
    match command {
        DOCTOR => &[
            (0, "nothing is wrong"),
            (1, "there are warnings"),
            (2, "there are problems"),
            (3, "nothing could be checked, or the command line is wrong"),
        ],
        PUSHUSERS => &[
            (0, "done"),
            (1, "failed, or the command line is wrong"),
            (3, "with --strict: there is no such registration"),
            (255, "user and password of --adminuser are refused"),
        ],
        _ => &[
            (0, "done"),
            (1, "failed"),
            (WRONG_LINE, "the command line is wrong"),
        ],
    }
}

/// How a command line that is wrong ends: `pushusers` does as Open-Xchange's command of this name,
/// and of `doctor` the usual code says something about Dovecot.
pub(crate) fn code_of_wrong_line(words: impl Iterator<Item = OsString>) -> u8 {
    match command_of(words).as_deref() {
        Some(PUSHUSERS) => 1,
        Some(DOCTOR) => 3,
        _ => WRONG_LINE,
    }
}

/// The command of a command line, which may be wrong.
fn command_of(mut words: impl Iterator<Item = OsString>) -> Option<String> {
    words.next();
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("--config" | "--data-dir") => drop(words.next()),
            Some(option) if option.starts_with('-') => {}
            command => return command.map(str::to_owned),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_line_ends_with_a_code_that_says_so() {
        for (line, expected) in [
            ("dovecast pushusers -x", 1),
            ("dovecast --config a --data-dir=b pushusers", 1),
            ("dovecast doctor --foo", 3),
            ("dovecast --data-dir doctor tail --foo", 2),
            ("dovecast tail pushusers", 2),
            ("dovecast --config pushusers", 2),
            ("dovecast", 2),
        ] {
            let code = code_of_wrong_line(line.split(' ').map(OsString::from));
            assert_eq!(code, expected, "{line}");
        }
    }

    #[test]
    fn each_code_of_a_wrong_line_is_told() {
        for command in [DOCTOR, PUSHUSERS, "tail"] {
            let line = ["dovecast", command].map(OsString::from);
            let code = code_of_wrong_line(line.into_iter());
            let told = exit_codes(command).iter().find(|(told, _)| *told == code);
            let told = told.map(|(_, meaning)| *meaning).unwrap_or_default();
            assert!(told.ends_with("the command line is wrong"), "{command}");
        }
    }
}
