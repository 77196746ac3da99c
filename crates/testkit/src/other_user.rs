//! Tests that act as other users of this host, which only root can.

use std::io::Write;

/// Whether this process may act as other users; says loudly what is not tested where it may not,
/// also where the output of tests is captured.
#[must_use]
pub fn may_act_as_others(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        // A test whose output nobody takes has nobody to tell.
        let _ = writeln!(
            std::io::stderr(),
            "\n*** {what} SKIPPED: only root can act as another user\n"
        );
    }
    is_root
}
