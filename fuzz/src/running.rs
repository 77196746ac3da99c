//! Runs a target in a program of libFuzzer.
//!
//! libFuzzer writes down the input of a panic. A stack that overflows ends the process without a
//! word: there is no room for its signal handler. So each input is written to the file that
//! `DOVECAST_FUZZ_RUNNING` names before it is tried.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use super::Target;

static RUNNING: LazyLock<Option<File>> = LazyLock::new(|| {
    let path = std::env::var_os("DOVECAST_FUZZ_RUNNING")?;
    Some(File::create(path).expect("DOVECAST_FUZZ_RUNNING can be written"))
});

/// Tries one input.
pub fn run(target: Target, bytes: &[u8]) {
    if let Some(file) = &*RUNNING {
        file.set_len(0).expect("a file that can be written");
        file.write_all_at(bytes, 0)
            .expect("a file that can be written");
    }
    (target.run)(bytes);
}
