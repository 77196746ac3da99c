//! Tests that act as other users of this host, which only root can.

use std::io::Write;
use std::thread;

use anyhow::Result;
use rustix::thread::{Uid, set_thread_res_uid};

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

/// Does something in a thread that is of another user, as mail processes are; the other threads of
/// this process stay who they are, and are not interrupted.
pub fn as_user<T: Send>(user: u32, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let acting = scope.spawn(|| {
            let user = Uid::from_raw(user);
            set_thread_res_uid(user, user, user)?;
            act()
        });
        acting.join().expect("no panic")
    })
}
