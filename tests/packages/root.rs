//! A clean Debian in a directory, with Dovecot, to install packages into.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::lmtp::LmtpClient;
use dovecast_testkit::{PATIENCE, Unavailable, clock, debian, loopback, process, workspace};

/// A Debian release with the Dovecot it comes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Debian 12, Dovecot 2.3.
    Bookworm,
    /// Debian 13, Dovecot 2.4.
    Trixie,
}

impl Release {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// A directory with a Debian of its own. Removed when dropped.
pub(crate) struct Root {
    pub(crate) release: Release,
    directory: tempfile::TempDir,
    address: Ipv4Addr,
    dovecot: Option<Child>,
}

/// An unchanged Debian with Dovecot, kept under `target/roots` for the next time.
fn pristine(release: Release) -> Result<Result<PathBuf, Unavailable>> {
    let roots = workspace::root().join("target/roots");
    let root = roots.join(release.name());
    if root.exists() {
        return Ok(Ok(root));
    }
    let mirror = match debian::mirror()? {
        Ok(mirror) => mirror,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    fs::create_dir_all(&roots).with_context(|| format!("cannot create {}", roots.display()))?;
    let unfinished = tempfile::tempdir_in(&roots)?;
    let tree = unfinished.path().join("root");
    let output = clock::true_time(&mut Command::new("mmdebstrap"))
        .args(["--quiet", "--variant=apt"])
        .arg("--include=dovecot-core,dovecot-imapd,dovecot-lmtpd")
        .args([release.name(), &tree.to_string_lossy(), &mirror])
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Ok(Err(Unavailable::new(format!(
                "mmdebstrap {}: {said}",
                release.name()
            ))));
        }
        Err(error) => {
            return Ok(Err(Unavailable::new(format!(
                "cannot run mmdebstrap: {error}"
            ))));
        }
    }
    fs::rename(&tree, &root).with_context(|| format!("cannot keep {}", root.display()))?;
    Ok(Ok(root))
}

impl Root {
    /// A fresh copy of a clean Debian.
    pub(crate) fn new(release: Release) -> Result<Result<Self, Unavailable>> {
        let pristine = match pristine(release)? {
            Ok(pristine) => pristine,
            Err(unavailable) => return Ok(Err(unavailable)),
        };
        let directory = tempfile::tempdir()?;
        let copied = Command::new("cp")
            .args(["-a", "--reflink=auto"])
            .arg(pristine.join("."))
            .arg(directory.path())
            .status()
            .context("cannot run cp")?;
        ensure!(
            copied.success(),
            "cannot copy {}: {copied}",
            pristine.display()
        );
        let root = Self {
            release,
            directory,
            address: loopback::unique_address(),
            dovecot: None,
        };
        // Nothing is started by an installation.
        root.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")?;
        root.ok(&["chmod", "755", "/usr/sbin/policy-rc.d"])?;
        Ok(Ok(root))
    }

    /// Where this root's servers listen, and no other's.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join(inside)
    }

    pub(crate) fn write(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.path(inside);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Copies a package in; gives its path inside.
    pub(crate) fn take_in(&self, package: &Path) -> Result<String> {
        let name = package.file_name().context("a package has a name")?;
        let inside = format!("/tmp/{}", name.to_string_lossy());
        fs::copy(package, self.path(&inside[1..]))
            .with_context(|| format!("cannot copy {}", package.display()))?;
        Ok(inside)
    }

    /// Installs packages with apt; gives what it printed.
    pub(crate) fn install(&self, packages: &[&Path]) -> Result<String> {
        let inside: Result<Vec<_>> = packages.iter().map(|path| self.take_in(path)).collect();
        let inside = inside?;
        let command = ["apt-get", "install", "--yes", "--reinstall"];
        let command: Vec<&str> = command
            .into_iter()
            .chain(inside.iter().map(String::as_str))
            .collect();
        self.ok(&command)
    }

    pub(crate) fn is_installed(&self, name: &str) -> Result<bool> {
        let query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}"];
        let output = self.run(&[query[0], query[1], query[2], name])?;
        Ok(output.stdout == b"installed")
    }

    pub(crate) fn run(&self, command: &[&str]) -> Result<Output> {
        clock::true_time(&mut Command::new("chroot"))
            .arg(self.directory.path())
            .args(command)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {command:?} in the root"))
    }

    /// Runs a command that has to succeed; gives what it printed.
    pub(crate) fn ok(&self, command: &[&str]) -> Result<String> {
        let output = self.run(command)?;
        let said = said(&output);
        ensure!(
            output.status.success(),
            "{command:?}: {}\n{said}",
            output.status
        );
        Ok(said)
    }

    /// Runs a command that has to fail; gives what it printed.
    pub(crate) fn refused(&self, command: &[&str]) -> Result<String> {
        let output = self.run(command)?;
        ensure!(
            !output.status.success(),
            "{command:?} was not refused:\n{}",
            said(&output)
        );
        Ok(said(&output))
    }

    /// Writes a configuration with this addition, and starts Dovecot.
    pub(crate) fn configure(&self, addition: &str) -> Result<()> {
        let address = self.address;
        let version = match self.release {
            Release::Bookworm => format!(
                "disable_plaintext_auth = no\nmail_location = maildir:~/Maildir\n\
                 passdb {{\n  driver = static\n  args = password=pass\n}}\n\
                 userdb {{\n  driver = static\n  args = uid=5000 gid=5000 home=/srv/mail/%u\n}}\n\
                 service imap-login {{\n  inet_listener imap {{\n    address = {address}\n    port = 143\n  }}\n}}\n\
                 service lmtp {{\n  inet_listener lmtp {{\n    address = {address}\n    port = 24\n  }}\n}}\n"
            ),
            Release::Trixie => format!(
                "auth_allow_cleartext = yes\nauth_mechanisms = plain\nmail_driver = maildir\nmail_path = ~/Maildir\n\
                 mail_home = /srv/mail/%{{user}}\nmail_uid = 5000\nmail_gid = 5000\n\
                 passdb static {{\n  password = pass\n}}\n\
                 userdb static {{\n  fields {{\n    uid = 5000\n    gid = 5000\n    home = /srv/mail/%{{user}}\n  }}\n}}\n\
                 service imap-login {{\n  inet_listener imap {{\n    listen = {address}\n    port = 143\n  }}\n  \
                 inet_listener imaps {{\n    port = 0\n  }}\n}}\n\
                 service lmtp {{\n  inet_listener lmtp {{\n    listen = {address}\n    port = 24\n  }}\n}}\n"
            ),
        };
        let first = match self.release {
            Release::Bookworm => "",
            Release::Trixie => "dovecot_config_version = 2.4.1\ndovecot_storage_version = 2.4.1\n",
        };
        fs::create_dir_all(self.path("srv/mail"))?;
        self.ok(&["chown", "5000:5000", "/srv/mail"])?;
        self.write(
            "etc/dovecot/dovecot.conf",
            &format!(
                "{first}base_dir = /run/dovecot\nlog_path = /var/log/dovecot.log\nprotocols = imap lmtp\n\
                 listen = {address}\nssl = no\nfirst_valid_uid = 1\n{version}{addition}"
            ),
        )
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        let child = clock::true_time(&mut Command::new("chroot"))
            .arg(self.directory.path())
            .args(["dovecot", "-F"])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start Dovecot in the root")?;
        self.dovecot = Some(child);
        process::poll_until(PATIENCE, || self.lmtp().ok())
            .map(drop)
            .with_context(|| format!("Dovecot does not answer:\n{}", self.log()))
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        if let Some(mut dovecot) = self.dovecot.take() {
            process::signal(dovecot.id(), "TERM")?;
            dovecot.wait().context("cannot wait for Dovecot")?;
        }
        Ok(())
    }

    pub(crate) fn lmtp(&self) -> Result<LmtpClient> {
        LmtpClient::connect((self.address, 24))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("var/log/dovecot.log")).unwrap_or_default()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

pub(crate) fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}
