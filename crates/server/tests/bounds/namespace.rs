//! Namespaces of the kernel that a test has for itself, which only root can make: addresses, and
//! files that the whole host reads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::{PATIENCE, may_act_as_others};
use nix::sched::{CloneFlags, unshare};

/// Has a thread try something that is in new namespaces, as all is that it starts; its loopback
/// device is up. Says loudly what is not tested where there are none to be had.
pub(crate) fn enter(
    what: &'static str,
    namespaces: CloneFlags,
    act: fn() -> Result<()>,
) -> Result<()> {
    if !may_act_as_others(what) {
        return Ok(());
    }
    let apart = thread::spawn(move || {
        if let Err(error) = unshare(namespaces) {
            // A test whose output nobody takes has nobody to tell.
            let _ = writeln!(
                io::stderr(),
                "\n*** {what} SKIPPED: no namespaces: {error}\n"
            );
            return Ok(());
        }
        run("ip link set lo up")?;
        act()
    });
    apart.join().expect("no panic")
}

/// Runs a program whose arguments have no blanks.
pub(crate) fn run(line: &str) -> Result<()> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().context("no program")?);
    let output = command.args(words).output();
    let output = output.with_context(|| format!("cannot run `{line}`"))?;
    ensure!(output.status.success(), "{line}: {output:?}");
    Ok(())
}

/// Answers the next request with 204; gives what was read of it at once.
pub(crate) fn answer_one(listener: &TcpListener) -> Result<String> {
    listener.set_nonblocking(true)?;
    let accepted = poll_until(PATIENCE, || match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        accepted => Some(accepted),
    });
    let (mut stream, _) = accepted.context("nobody has come")??;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = vec![0; 4096];
    let read = stream.read(&mut request)?;
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    stream.shutdown(Shutdown::Write)?;
    // Closed before all is read it would be reset, and the answer lost.
    io::copy(&mut stream, &mut io::sink())?;
    Ok(String::from_utf8_lossy(&request[..read]).into_owned())
}
