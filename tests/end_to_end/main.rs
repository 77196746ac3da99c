//! End-to-end tests: people use mail through a real Dovecot with the plugin, and the topic is read.
//!
//! Every case is in the list of its file's `cases()`. A case that cannot run on this machine says why, loudly, and is
//! counted as ignored.

mod case;
mod docs;
mod faults;
mod instances;
mod limits;
mod logs;
mod processes;
mod real_kafka;
mod session;
mod setup;
mod story;
mod text;
mod valgrind;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let cases = [
        docs::cases(),
        faults::cases(),
        instances::cases(),
        limits::cases(),
        logs::cases(),
        processes::cases(),
        real_kafka::cases(),
        session::cases(),
        text::cases(),
        valgrind::cases(),
    ]
    .concat();
    let trials = cases.into_iter().map(case::Case::into_trial).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    real_kafka::stop();
    conclusion.exit_code()
}
