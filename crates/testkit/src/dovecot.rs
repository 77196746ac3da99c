//! A real Dovecot in a private directory, on a loopback address of its own: as many at once as a
//! test wants.
//!
//! Any user may log in with the password [`PASSWORD`]; mail belongs to the uid [`MAIL_UID`],
//! whatever the name. Needs root. Dropping a [`Dovecot`] stops it and removes its directory; with
//! `DOVECAST_TEST_KEEP` set in the environment the directory stays, and its path is printed. Which
//! Dovecot it is says [`Builder::installation`]; what tests must know of the differences is in
//! [`Installation`].

mod builder;
mod config_2_3;
mod config_2_4;
mod installation;
mod launch;
mod layout;
mod prepare;
mod settings;

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

pub use builder::{Builder, MailFormat};
pub use installation::{Installation, Series};

use crate::imap::ImapClient;
use crate::lmtp::LmtpClient;
use crate::{PATIENCE, process};
use layout::Layout;

/// Everybody's password.
pub const PASSWORD: &str = "pass";
/// The numeric user and group that all mail belongs to; they need no entry in `/etc/passwd`.
pub const MAIL_UID: u32 = 5000;
/// The port of IMAP on [`Dovecot::address`].
pub const IMAP_PORT: u16 = 143;
/// The port of LMTP on [`Dovecot::address`].
pub const LMTP_PORT: u16 = 24;

/// Services whose processes make room for new ones when the configuration is read again.
const REPLACED_BY_RELOAD: [&str; 4] = ["auth", "config", "imap-login", "lmtp"];
/// Services whose processes wait for their clients when the master ends.
const SESSIONS: [&str; 2] = ["imap", "lmtp"];
/// Keeps the private directories if it is set.
const KEEP: &str = "DOVECAST_TEST_KEEP";

/// A running Dovecot.
#[derive(Debug)]
pub struct Dovecot {
    installation: Installation,
    layout: Layout,
    address: Ipv4Addr,
    environment: Vec<(String, String)>,
    master: Child,
    /// Removed last, after the processes that write into it are gone.
    directory: TempDir,
}

impl Dovecot {
    /// What the Dovecot is to be like.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn start(
        installation: Installation,
        directory: TempDir,
        layout: Layout,
        address: Ipv4Addr,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let master = launch::master(installation, &layout, &environment)?;
        let mut dovecot = Self {
            installation,
            layout,
            address,
            environment,
            master,
            directory,
        };
        dovecot.wait_until_ready()?;
        Ok(dovecot)
    }

    /// Which Dovecot this is.
    pub fn installation(&self) -> Installation {
        self.installation
    }

    /// The path that Dovecot's processes know a file by: another one than `path` if they are in a
    /// chroot.
    pub fn inside(&self, path: &Path) -> PathBuf {
        self.layout.path_inside(path)
    }

    /// The address that IMAP and LMTP listen on.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The port of IMAP.
    pub fn imap_port(&self) -> u16 {
        IMAP_PORT
    }

    /// The port of LMTP.
    pub fn lmtp_port(&self) -> u16 {
        LMTP_PORT
    }

    /// The private directory.
    pub fn dir(&self) -> &Path {
        self.layout.root()
    }

    /// The configuration file; after a change of it call [`Self::reload`].
    pub fn config_path(&self) -> PathBuf {
        self.layout.config()
    }

    /// The copy of the plugin under test that Dovecot loads; whoever replaces it does so by a
    /// rename.
    pub fn plugin_path(&self) -> PathBuf {
        self.layout.plugin()
    }

    /// Where [`Builder::relay`] wants the relay: its socket is `relay.sock` in it, the spill
    /// directory `spill`.
    pub fn relay_dir(&self) -> PathBuf {
        self.layout.relay()
    }

    /// The home directory of `user`.
    pub fn home(&self, user: &str) -> PathBuf {
        self.layout.home(user)
    }

    /// The log so far: all messages except the debug ones.
    pub fn log(&self) -> String {
        read_lossy(&self.layout.log())
    }

    /// The debug messages so far; plugins' own ones are there even without `mail_debug`.
    pub fn debug_log(&self) -> String {
        read_lossy(&self.layout.debug_log())
    }

    /// The lines of the log that say Error, Fatal or Panic.
    pub fn errors_in_log(&self) -> Vec<String> {
        let severities = [" Error: ", " Fatal: ", " Panic: "];
        let log = self.log();
        log.lines()
            .filter(|line| severities.iter().any(|word| line.contains(word)))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until a line of the log or of the debug log contains `text`, and gives that line.
    pub fn wait_for_log(&self, text: &str, timeout: Duration) -> Result<String> {
        let find = |log: String| {
            log.lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        };
        process::poll_until(timeout, || {
            find(self.log()).or_else(|| find(self.debug_log()))
        })
        .with_context(|| {
            format!(
                "`{text}` is not in Dovecot's log after {timeout:?}; {}",
                self.log_tail()
            )
        })
    }

    /// An IMAP connection that is not logged in.
    pub fn imap(&self) -> Result<ImapClient> {
        ImapClient::connect(SocketAddrV4::new(self.address, IMAP_PORT))
    }

    /// An IMAP session of `user`.
    pub fn login(&self, user: &str) -> Result<ImapClient> {
        let mut client = self.imap()?;
        client.login(user, PASSWORD)?;
        Ok(client)
    }

    /// An LMTP connection.
    pub fn lmtp(&self) -> Result<LmtpClient> {
        LmtpClient::connect(SocketAddrV4::new(self.address, LMTP_PORT))
    }

    /// Delivers a mail by dovecot-lda, which exits with 0 if the mail is stored and 75 if the MTA
    /// is to try again.
    pub fn lda(&self, user: &str, mail: &[u8], extra_arguments: &[&str]) -> Result<Output> {
        let mut lda = self
            .command("dovecot-lda")
            .args(["-d", user])
            .args(extra_arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run dovecot-lda")?;
        let mut stdin = lda
            .stdin
            .take()
            .context("dovecot-lda has no standard input")?;
        match stdin.write_all(mail) {
            // It may have given up before it read everything; its exit status tells.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                bail!("cannot hand the mail to dovecot-lda: {error}")
            }
            _ => drop(stdin),
        }
        lda.wait_with_output()
            .context("dovecot-lda has no exit status")
    }

    /// Runs doveadm with this Dovecot's configuration; its exit status is the caller's matter.
    pub fn doveadm(&self, arguments: &[&str]) -> Result<Output> {
        self.command("doveadm")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run doveadm {arguments:?}"))
    }

    /// What `doveconf -nP` prints of its configuration: with passwords.
    pub fn doveconf(&self) -> Result<String> {
        let output = self.command("doveconf").arg("-nP").output();
        let output = output.context("cannot run doveconf")?;
        ensure!(output.status.success(), "doveconf: {output:?}");
        String::from_utf8(output.stdout).context("doveconf prints no UTF-8")
    }

    /// Writes the Sieve script that deliveries to `user` run; see [`Builder::lmtp_sieve`].
    pub fn write_sieve(&self, user: &str, script: &str) -> Result<()> {
        let home = self.home(user);
        let path = home.join(".dovecot.sieve");
        let context = || format!("cannot write `{}`", path.display());
        fs::create_dir_all(&home).with_context(context)?;
        chown(&home, Some(MAIL_UID), Some(MAIL_UID)).with_context(context)?;
        fs::write(&path, script).with_context(context)?;
        chown(&path, Some(MAIL_UID), Some(MAIL_UID)).with_context(context)
    }

    /// The process id of the master.
    pub fn master_pid(&self) -> u32 {
        self.master.id()
    }

    /// The running processes of one service of this Dovecot: `imap`, `lmtp`, `auth`,
    /// `imap-login`...
    pub fn pids(&self, service: &str) -> Result<Vec<u32>> {
        self.children(|command| command == service)
    }

    /// Has the configuration read again; returns when every new connection is served by it.
    ///
    /// IMAP sessions go on as they were. Dovecot ends idle LMTP connections with a 421 reply.
    pub fn reload(&self) -> Result<()> {
        let replaced = self.children(|service| REPLACED_BY_RELOAD.contains(&service))?;
        process::signal(self.master_pid(), "HUP")?;
        process::poll_until(PATIENCE, || {
            (!replaced.iter().any(|pid| process::is_running(*pid))).then_some(())
        })
        .with_context(|| {
            format!(
                "Dovecot has not reloaded after {PATIENCE:?}; {}",
                self.log_tail()
            )
        })?;
        self.imap()?.logout()?;
        Ok(())
    }

    /// Stops Dovecot and waits for the master and for every process of it; gives the master's exit
    /// status.
    ///
    /// Sessions are ended in order, so plugins flush. Logs and mail can still be read. A second
    /// call changes nothing. Takes a second, which the master of Dovecot 2.3 sleeps.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.end("TERM")
    }

    /// Ends the master by a signal, the sessions in order, and waits for all of them.
    fn end(&mut self, master_signal: &str) -> Result<ExitStatus> {
        if let Some(status) = self
            .master
            .try_wait()
            .context("cannot wait for Dovecot's master")?
        {
            return Ok(status);
        }
        let master = self.master_pid();
        let sessions = self.children(|service| SESSIONS.contains(&service))?;
        let all = self.children(|_| true)?;
        process::signal(master, master_signal)?;
        if process::wait_exit(master, PATIENCE).is_err() {
            self.master.kill().context("cannot kill Dovecot's master")?;
        }
        let status = self
            .master
            .wait()
            .context("cannot wait for Dovecot's master")?;
        // By themselves they would wait until their client has been silent for 10 seconds.
        process::signal_running(&sessions, "TERM")?;
        let gone = process::poll_until(PATIENCE, || {
            (!all.iter().any(|pid| process::is_running(*pid))).then_some(())
        });
        if gone.is_none() {
            process::signal_running(&all, "KILL")?;
            bail!(
                "Dovecot had to be killed {PATIENCE:?} after it was told to stop; {}",
                self.log_tail()
            );
        }
        Ok(status)
    }

    fn children(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<u32>> {
        let children = process::children(self.master_pid())?;
        Ok(children
            .into_iter()
            .filter(|(_, command)| wanted(command))
            .map(|(pid, _)| pid)
            .collect())
    }

    /// Stops Dovecot and starts it again on the same directory and address.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.master = launch::master(self.installation, &self.layout, &self.environment)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut ended = None;
        let ready = process::poll_until(PATIENCE, || {
            ended = self.master.try_wait().ok().flatten();
            let greeted = ended.is_none().then(|| self.imap().ok()).flatten();
            greeted
                .map(|client| client.logout().is_ok())
                .or(ended.map(|_| false))
        });
        match (ready, ended) {
            (Some(true), _) => Ok(()),
            (_, Some(status)) => bail!("Dovecot ended with {status}; {}", self.log_tail()),
            _ => bail!(
                "Dovecot does not answer on {}:{IMAP_PORT}; {}",
                self.address,
                self.log_tail()
            ),
        }
    }

    fn command(&self, program: &str) -> Command {
        launch::command(self.installation, &self.layout, &self.environment, program)
    }

    fn log_tail(&self) -> String {
        let text = read_lossy(&self.layout.stderr()) + &self.log();
        let lines: Vec<_> = text.lines().collect();
        format!(
            "last lines of its log:\n{}",
            lines[lines.len().saturating_sub(20)..].join("\n")
        )
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        // A test that cares about the end calls `stop` itself; here nothing waits for the master's
        // last second.
        let _ = self.end("KILL");
        if std::env::var_os(KEEP).is_some() {
            self.directory.disable_cleanup(true);
            println!("{KEEP}: Dovecot's files are in {}", self.dir().display());
        }
    }
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
