//! End-to-end tests: people use mail through a real Dovecot with the plugin, and the topic is read.
//!
//! Every case is in the list of its file's `cases()`. A case that cannot run on this machine says why, loudly, and is
//! counted as ignored.

mod case;
mod docs;
mod instances;
mod session;
mod setup;
mod text;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let cases = [
        docs::cases(),
        instances::cases(),
        session::cases(),
        text::cases(),
    ]
    .concat();
    let trials = cases.into_iter().map(case::Case::into_trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
