//! The binary `dovecast`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    dovecast_server::run()
}
