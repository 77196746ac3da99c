//! The installed server, run as its units say, by what plays systemd's part.

use std::fs::{self, File, Permissions};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::process;

use crate::root::Root;

const PATIENCE: Duration = dovecast_testkit::PATIENCE;
const LOG: &str = "var/log/dovecast.log";
const NOTIFY: &str = "run/notify";

/// A `dovecast serve` in a root; killed when dropped.
pub(crate) struct Service {
    child: Child,
}

impl Service {
    /// Starts what the unit says, and waits until it says that it is ready.
    pub(crate) fn start(root: &Root) -> Result<Self> {
        // RuntimeDirectory=
        let owner = ["-o", "dovecast", "-g", "dovecast"];
        let make = ["install", "-d", "-m", "0755"];
        root.ok(&[&make[..], &owner, &["/run/dovecast"]].concat())?;
        let relay = relay_socket(root)?;
        // The default port may be another's on this machine; systemd may pass that socket as well.
        let http = TcpListener::bind((root.address(), 0))?;
        let notify = notify_socket(root)?;
        let mut child = command(root)?
            .stdin(OwnedFd::from(relay))
            .stdout(OwnedFd::from(http))
            .stderr(File::create(root.path(LOG))?)
            .spawn()
            .context("cannot start the server in the root")?;
        match wait_until_ready(&notify) {
            Ok(()) => Ok(Self { child }),
            Err(error) => {
                // It may have ended already.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context(format!("the server does not start:\n{}", log(root))))
            }
        }
    }

    /// Ends it as systemd does.
    pub(crate) fn stop(mut self, root: &Root) -> Result<()> {
        process::signal(self.child.id(), "TERM")?;
        let ended = process::poll_until(PATIENCE, || self.child.try_wait().transpose());
        let status = ended.with_context(|| format!("it does not stop:\n{}", log(root)))??;
        ensure!(status.success(), "it ended with {status}:\n{}", log(root));
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended already where it was stopped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the server has logged.
pub(crate) fn log(root: &Root) -> String {
    fs::read_to_string(root.path(LOG)).unwrap_or_default()
}

/// `ExecStart=` as `User=`, with the sockets that are standard input and output as descriptors 3
/// and 4.
fn command(root: &Root) -> Result<Command> {
    let user = unit_value(root, "dovecast.service", "User")?;
    let group = unit_value(root, "dovecast.service", "Group")?;
    let line = unit_value(root, "dovecast.service", "ExecStart")?;
    let mut command = Command::new("bash");
    command.args([
        "-c",
        r#"exec 3<&0 4<&1 0</dev/null 1>/dev/null; umask 077; LISTEN_PID=$$ exec "$0" "$@""#,
    ]);
    command.arg("chroot").arg(root.directory());
    command.args(["setpriv", "--reuid", &user, "--regid", &group]);
    command.arg("--clear-groups").args(line.split(' '));
    command.env("LISTEN_FDS", "2");
    command.env("LISTEN_FDNAMES", "relay:http");
    command.env("NOTIFY_SOCKET", format!("/{NOTIFY}"));
    command.stdin(Stdio::null());
    // The library of another clock is not in the root.
    dovecast_testkit::clock::true_time(&mut command);
    Ok(command)
}

/// The value of a key in an installed unit.
fn unit_value(root: &Root, unit: &str, key: &str) -> Result<String> {
    let text = fs::read_to_string(root.path("lib/systemd/system").join(unit))
        .with_context(|| format!("cannot read the installed {unit}"))?;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = value.with_context(|| format!("no `{key}=` in {unit}"))?;
    Ok(value.to_owned())
}

/// The socket of the socket unit.
fn relay_socket(root: &Root) -> Result<UnixListener> {
    let place = unit_value(root, "dovecast-relay.socket", "ListenStream")?;
    let mode = unit_value(root, "dovecast-relay.socket", "SocketMode")?;
    let path = root.path(place.trim_start_matches('/'));
    // That of a server that was stopped (RemoveOnStop=).
    let _ = fs::remove_file(&path);
    let socket = UnixListener::bind(&path)
        .with_context(|| format!("cannot listen on `{}`", path.display()))?;
    fs::set_permissions(
        &path,
        Permissions::from_mode(u32::from_str_radix(&mode, 8)?),
    )?;
    Ok(socket)
}

fn notify_socket(root: &Root) -> Result<UnixDatagram> {
    let path = root.path(NOTIFY);
    let _ = fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).context("cannot listen for readiness")?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn wait_until_ready(notify: &UnixDatagram) -> Result<()> {
    let mut message = [0; 200];
    loop {
        let length = notify.recv(&mut message).context("it is not ready")?;
        if String::from_utf8_lossy(&message[..length]).contains("READY=1") {
            return Ok(());
        }
    }
}
