//! Packages of another Debian by this machine's own apt, from the mirror this machine is configured
//! for.
//!
//! apt gets a state of its own, with nothing installed, so that it fetches every dependency; the
//! machine's package lists and packages stay as they are. Of the machine's apt configuration
//! `Acquire` counts: proxies, time checks.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::{HEADERS, PACKAGES, Release};
use crate::{Unavailable, clock};

/// Where Debian has the keys of its archives.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Puts the packages to run into `debs` and gives the path of the headers' package; `scratch` is
/// for apt's state.
pub(super) fn fetch(
    release: &Release,
    scratch: &Path,
    debs: &Path,
) -> Result<Result<PathBuf, Unavailable>> {
    let state = tempfile::Builder::new()
        .prefix("apt-")
        .tempdir_in(scratch)
        .with_context(|| format!("cannot create a directory in `{}`", scratch.display()))?;
    let mirror = match mirror()? {
        Ok(mirror) => mirror,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    let apt = PrivateApt::new(release, state.path(), &mirror)?;
    for arguments in [&["update"][..], &["install", "--download-only"]] {
        let packages: &[&str] = if arguments == ["update"] {
            &[]
        } else {
            &PACKAGES
        };
        if let Err(unavailable) = apt.run(arguments, packages, state.path())? {
            return Ok(Err(unavailable));
        }
    }
    let archives = state.path().join("cache/archives");
    if let Err(unavailable) = check_version(release, &archives)? {
        return Ok(Err(unavailable));
    }
    move_packages(&archives, debs)?;
    if let Err(unavailable) = apt.run(&["download"], &[HEADERS], state.path())? {
        return Ok(Err(unavailable));
    }
    let [headers] = &packages_in(state.path())?[..] else {
        bail!("apt-get did not download one `{HEADERS}`");
    };
    let headers_kept = scratch.join(format!("{HEADERS}.deb"));
    fs::rename(headers, &headers_kept)
        .with_context(|| format!("cannot move `{}`", headers.display()))?;
    Ok(Ok(headers_kept))
}

/// Whether what was fetched is the Dovecot that is wanted.
fn check_version(release: &Release, archives: &Path) -> Result<Result<(), Unavailable>> {
    let beginning = format!("{}_1%3a{}", PACKAGES[0], release.dovecot);
    let packages = packages_in(archives)?;
    let mut names = packages
        .iter()
        .filter_map(|path| path.file_name()?.to_str());
    if names.any(|name| name.starts_with(&beginning)) {
        return Ok(Ok(()));
    }
    let suite = release.suite();
    Ok(Err(Unavailable::new(format!(
        "`{suite}` of the mirror has another Dovecot than {}",
        release.dovecot
    ))))
}

/// apt with a state in a directory of its own.
struct PrivateApt {
    /// What the packages are wanted for.
    dovecot: &'static str,
    configuration: PathBuf,
    mirror: String,
}

impl PrivateApt {
    fn new(release: &Release, directory: &Path, mirror: &str) -> Result<Self> {
        for name in ["state/lists/partial", "cache/archives/partial"] {
            let path = directory.join(name);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create `{}`", path.display()))?;
        }
        let mut text = machine_settings()?;
        let (base, suite) = (directory.display(), release.suite());
        // Parts and main of the machine are read after this file and would win, its hooks among
        // them.
        write!(
            text,
            r#"
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{base}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{base}/state";
Dir::State::status "{base}/state/status";
Dir::Cache "{base}/cache";
APT::Sandbox::User "root";
APT::Default-Release "{suite}";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Update::Error-Mode "any";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Debug::NoLocking "true";
"#
        )?;
        let signed_by = if Path::new(KEYRING).exists() {
            format!(" [signed-by={KEYRING}]")
        } else {
            String::new()
        };
        let sources = release.suites.iter();
        let sources = sources.map(|suite| format!("deb{signed_by} {mirror} {suite} main\n"));
        let files = [
            ("apt.conf", text),
            ("sources.list", sources.collect()),
            ("state/status", String::new()),
        ];
        for (name, text) in files {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(Self {
            dovecot: release.dovecot,
            configuration: directory.join("apt.conf"),
            mirror: mirror.to_owned(),
        })
    }

    fn run(
        &self,
        arguments: &[&str],
        packages: &[&str],
        directory: &Path,
    ) -> Result<Result<(), Unavailable>> {
        let mut apt = apt_command("apt-get");
        apt.env("APT_CONFIG", &self.configuration)
            .current_dir(directory)
            .args(arguments)
            .args(packages);
        let output = match output_of(apt)? {
            Ok(output) => output,
            Err(unavailable) => return Ok(Err(unavailable)),
        };
        if output.status.success() {
            return Ok(Ok(()));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        if is_mirror_trouble(&said) {
            let reason = said
                .lines()
                .find(|line| is_mirror_trouble(line))
                .unwrap_or_default();
            return Ok(Err(Unavailable::new(format!(
                "Dovecot {} cannot be had from the mirror `{}`: {reason}",
                self.dovecot, self.mirror
            ))));
        }
        bail!("apt-get {arguments:?} failed ({}): {said}", output.status);
    }
}

/// A command whose messages are the untranslated ones.
fn apt_command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    clock::true_time(&mut command);
    command
}

/// Runs a program that a machine without apt does not have.
fn output_of(mut command: Command) -> Result<Result<Output, Unavailable>> {
    match command.output() {
        Ok(output) => Ok(Ok(output)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let program = command.get_program().to_string_lossy();
            Ok(Err(Unavailable::new(format!(
                "`{program}`, which would fetch a Dovecot, is not on this machine"
            ))))
        }
        Err(error) => Err(error).context("cannot run apt"),
    }
}

/// How this machine reaches its mirrors: the settings below `Acquire`.
fn machine_settings() -> Result<String> {
    let mut command = apt_command("apt-config");
    let output = command
        .arg("dump")
        .output()
        .context("cannot run apt-config")?;
    ensure!(
        output.status.success(),
        "apt-config dump failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let dump = String::from_utf8_lossy(&output.stdout);
    let lines = dump.lines().filter(|line| line.starts_with("Acquire::"));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

/// The Debian mirror that this machine's apt is configured for.
pub(super) fn mirror() -> Result<Result<String, Unavailable>> {
    let mut command = apt_command("apt-get");
    // Unlike `apt-get indextargets` it answers where no list has been fetched yet.
    command.args(["update", "--print-uris"]);
    let output = match output_of(command)? {
        Ok(output) => output,
        Err(unavailable) => return Ok(Err(unavailable)),
    };
    ensure!(
        output.status.success(),
        "apt-get update --print-uris failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let found = mirror_of(&String::from_utf8_lossy(&output.stdout));
    Ok(found.ok_or_else(|| {
        Unavailable::new("apt is configured for no Debian mirror on this machine".to_owned())
    }))
}

/// The mirror among the addresses of package lists:
/// `'MIRROR/dists/SUITE/main/binary-ARCHITECTURE/Packages.xz' ...`.
fn mirror_of(uris: &str) -> Option<String> {
    let bases = uris.lines().filter_map(|line| {
        let (base, list) = line.trim_start_matches('\'').split_once("/dists/")?;
        let (suite, list) = list.split_once('/')?;
        // Security, updates and backports may be elsewhere.
        (!suite.contains('-') && list.starts_with("main/binary-")).then_some(base)
    });
    bases
        .min_by_key(|base| !base.split('/').any(|part| part == "debian"))
        .map(str::to_owned)
}

/// Whether apt complains of the mirror or of the way there, and not of what it was told to do.
fn is_mirror_trouble(said: &str) -> bool {
    [
        "Failed to fetch",
        "Unable to fetch",
        "does not have a Release file",
    ]
    .iter()
    .any(|sign| said.contains(sign))
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list `{}`", directory.display());
    let mut packages = Vec::new();
    for entry in fs::read_dir(directory).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    Ok(packages)
}

fn move_packages(from: &Path, to: &Path) -> Result<()> {
    for package in packages_in(from)? {
        let name = package.file_name().context("a package has a file name")?;
        fs::rename(&package, to.join(name))
            .with_context(|| format!("cannot move `{}`", package.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_with_debian_itself() {
        let uris = "\
'http://repo.example/other/dists/stable/main/binary-amd64/Packages.xz' x 0 \n\
'http://m.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' x 0 \n\
'http://m.example/debian/dists/bookworm/InRelease' x 0 \n\
'http://m.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' x 0 \n\
'http://m.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' x 0 \n";
        assert_eq!(mirror_of(uris).as_deref(), Some("http://m.example/debian"));
        let renamed = "'https://m.example/proxy/dists/sid/main/binary-all/Packages.xz' x 0 ";
        assert_eq!(
            mirror_of(renamed).as_deref(),
            Some("https://m.example/proxy")
        );
        assert_eq!(mirror_of(""), None);
    }

    #[test]
    fn what_apt_cannot_reach_is_told_from_what_it_cannot_do() {
        assert!(is_mirror_trouble(
            "E: Failed to fetch http://m.example/debian/dists/trixie/InRelease  Could not connect"
        ));
        assert!(!is_mirror_trouble(
            "E: Unable to locate package dovecot-core"
        ));
    }

    #[test]
    fn an_unreachable_mirror_is_unavailable() {
        let directory = tempfile::tempdir().expect("a directory");
        // Nothing listens on port 9 of this address.
        let apt = PrivateApt::new(
            &super::super::TRIXIE,
            directory.path(),
            "http://127.0.0.9:9/debian",
        )
        .expect("apt");
        let unavailable = apt
            .run(&["update"], &[], directory.path())
            .expect("apt runs")
            .expect_err("no mirror");
        assert!(
            unavailable.to_string().contains("127.0.0.9"),
            "{unavailable}"
        );
    }
}
