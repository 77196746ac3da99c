//! The sockets the server listens on: passed by systemd, or bound here.

use std::env;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::net::{self, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::places::Opened;
use crate::config::{Config, Role};

/// What says where the control socket is.
const SETTING: &str = "[control] socket";
/// Only root and the server's own user may connect.
const CONTROL_MODE: u32 = 0o600;
/// Connections that the system keeps for the server until it accepts them, if `somaxconn` of the
/// system is not less.
const ACCEPT_QUEUE: i32 = 4096;

/// Sockets that systemd has opened for us.
#[derive(Default)]
pub(super) struct Passed {
    relay: Option<UnixListener>,
    http: Option<net::TcpListener>,
    monitor: Option<net::TcpListener>,
}

impl Passed {
    /// Takes them by their names (`LISTEN_FDNAMES`).
    pub(super) fn from_environment() -> Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut fds = ListenFd::from_env();
        let mut passed = Self::default();
        for index in 0..fds.len() {
            let name = names.next().unwrap_or_default();
            let context = || format!("cannot take the socket `{name}` from systemd");
            match name {
                "relay" => passed.relay = fds.take_unix_listener(index).with_context(context)?,
                "http" => passed.http = fds.take_tcp_listener(index).with_context(context)?,
                "monitor" => {
                    passed.monitor = fds.take_tcp_listener(index).with_context(context)?;
                }
                _ => bail!(
                    "systemd passes a socket named `{name}`, expected FileDescriptorName=relay, http or monitor"
                ),
            }
        }
        Ok(passed)
    }

    /// Which doors of the server systemd has opened.
    pub(super) fn opened(&self) -> Opened {
        Opened {
            relay: self.relay.is_some(),
            http: self.http.is_some(),
            monitor: self.monitor.is_some(),
        }
    }

    /// Where mail processes connect to, for the log.
    pub(super) fn relay_place(&self, config: &Config) -> String {
        if !config.has(Role::Relay) {
            return "none".to_owned();
        }
        let passed = self
            .relay
            .as_ref()
            .and_then(|relay| relay.local_addr().ok());
        let path = passed.and_then(|address| address.as_pathname().map(Path::to_owned));
        path.unwrap_or_else(|| config.relay_socket())
            .display()
            .to_string()
    }

    /// Where the HTTP server listens, for the log.
    pub(super) fn http_place(&self, config: &Config) -> String {
        let passed = self.http.as_ref().and_then(|http| http.local_addr().ok());
        passed.unwrap_or(config.http.listen).to_string()
    }
}

/// All of them, listening.
pub(super) struct Listeners {
    /// With the role only.
    pub(super) relay: Option<tokio::net::UnixListener>,
    pub(super) control: tokio::net::UnixListener,
    /// For the API.
    pub(super) http: tokio::net::TcpListener,
    /// For health and metrics.
    pub(super) monitor: tokio::net::TcpListener,
}

impl Listeners {
    /// Binds what was not passed.
    pub(super) fn bind(config: &Config, passed: Passed) -> Result<Self> {
        let (listen, monitor_listen) = (config.http.listen, config.http.monitor_listen());
        let http = tcp(passed.http, listen, "[http] listen")?;
        let monitor = tcp(passed.monitor, monitor_listen, "[http] monitor_listen")?;
        let relay = match passed.relay {
            _ if !config.has(Role::Relay) => None,
            Some(relay) => {
                relay.set_nonblocking(true)?;
                Some(tokio::net::UnixListener::from_std(relay)?)
            }
            None => Some(bind_relay(&config.relay_socket())?),
        };
        let control = bind_control(&config.control_socket())?;
        control.set_nonblocking(true)?;
        tracing::info!(address = %monitor.local_addr()?, "health and metrics are answered");
        tracing::info!(address = %http.local_addr()?, "HTTP is answered");
        Ok(Self {
            relay,
            control: tokio::net::UnixListener::from_std(control)?,
            http,
            monitor,
        })
    }
}

/// The socket that was passed, or one that is bound here; the setting is named if it cannot be.
fn tcp(
    passed: Option<net::TcpListener>,
    address: SocketAddr,
    setting: &str,
) -> Result<tokio::net::TcpListener> {
    let listener = match passed {
        Some(listener) => listener,
        None => net::TcpListener::bind(address)
            .with_context(|| format!("cannot listen on `{address}` ({setting})"))?,
    };
    listener.set_nonblocking(true)?;
    // Also of one that was passed: what does not fit is tried again by its client, a second later.
    SockRef::from(&listener).listen(ACCEPT_QUEUE)?;
    Ok(tokio::net::TcpListener::from_std(listener)?)
}

fn bind_relay(path: &Path) -> Result<tokio::net::UnixListener> {
    dovecast_relay::server::bind(path)
        .with_context(|| format!("cannot listen on `{}` ([relay] socket)", path.display()))
}

/// Binds a socket where nobody listens any more.
fn bind_control(path: &Path) -> Result<UnixListener> {
    let context = || format!("cannot listen on `{}` ({SETTING})", path.display());
    remove_stale(path)?;
    let listener = UnixListener::bind(path).with_context(context)?;
    fs::set_permissions(path, Permissions::from_mode(CONTROL_MODE)).with_context(context)?;
    Ok(listener)
}

/// A socket file outlives a server that was killed.
fn remove_stale(path: &Path) -> Result<()> {
    let context = || format!("cannot listen on `{}` ({SETTING})", path.display());
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(context),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            bail!(
                "cannot listen on `{}` ({SETTING}): it is there and no socket",
                path.display()
            );
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "another process listens on `{}` ({SETTING})",
            path.display()
        ),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(context)
        }
        Err(error) => Err(error).with_context(context),
    }
}
