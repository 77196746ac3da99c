//! A private PostgreSQL: Debian's binaries, a directory of its own, an address of its own, gone
//! when it is dropped.
//!
//! `DOVECAST_TESTS` says whether tests may do without: no (`all`, `make test`), they have to
//! (`pure`, `make check`), or, where it is not set, if there is none.
//!
//! Nothing of it outlives the process that started it, and no cluster of the system is touched. It
//! does not sync its files: what is tested on it is what dovecast says to a PostgreSQL, not whether
//! PostgreSQL is durable.

use std::env;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::cut_proxy::CutProxy;
use crate::{PATIENCE, Unavailable, loopback, process};

/// The environment variable that says whether tests may do without.
const WANTED: &str = "DOVECAST_TESTS";
/// Where Debian has them, by version.
const VERSIONS: &str = "/usr/lib/postgresql";
const PORT: u16 = 5432;
const USER: &str = "dovecast";
/// Password of the user; it stands in URLs, and must be found in no log.
pub const PASSWORD: &str = "pa55-of-the-tests";
/// Who may come in: with TLS and a password.
const ONLY_TLS: &str = "hostssl all all 0.0.0.0/0 scram-sha-256\n";

/// A PostgreSQL that runs.
#[derive(Debug)]
pub struct Postgres {
    child: Option<Child>,
    binaries: PathBuf,
    owner: Owner,
    address: Ipv4Addr,
    databases: AtomicU32,
    /// With TLS.
    certificates: Option<Certificates>,
    dir: TempDir,
}

impl Postgres {
    /// Starts one. The thread that starts it has to live as long as it.
    pub fn start() -> Result<Result<Self, Unavailable>> {
        Self::start_as(false)
    }

    /// Starts one with TLS, which refuses clients without it. Its certificate is for its address,
    /// of an authority of its own.
    pub fn start_with_tls() -> Result<Result<Self, Unavailable>> {
        Self::start_as(true)
    }

    fn start_as(has_tls: bool) -> Result<Result<Self, Unavailable>> {
        let wanted = env::var(WANTED).ok();
        let binaries = match choose(wanted.as_deref(), installed())? {
            Ok(binaries) => binaries,
            Err(unavailable) => return Ok(Err(unavailable)),
        };
        let dir = TempDir::new().context("cannot make a directory")?;
        let owner = Owner::find()?;
        owner.give(dir.path())?;
        let data = dir.path().join("data");
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD).context("cannot write a file")?;
        owner.give(&password)?;
        let mut initdb = owner.command(&binaries.join("initdb"));
        initdb.arg("--pgdata").arg(&data);
        initdb.args(["--username", USER, "--auth=scram-sha-256", "--no-sync"]);
        // Not the one of bytes: what depends on the locale has to show.
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.arg("--pwfile").arg(&password);
        run(&mut initdb)?;
        let address = loopback::unique_address();
        let certificates = if has_tls {
            fs::write(data.join("pg_hba.conf"), ONLY_TLS).context("cannot write a file")?;
            let made = Certificates::create(dir.path(), address)?;
            owner.give(&made.server_key_store)?;
            Some(made)
        } else {
            None
        };
        let mut started = Self {
            child: None,
            binaries,
            owner,
            address,
            databases: AtomicU32::new(0),
            certificates,
            dir,
        };
        started.start_again()?;
        Ok(Ok(started))
    }

    /// Directory of its files, for whoever looks what is left in them.
    pub fn data_directory(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts it again after [`Self::stop`], with what was in it.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "postgres runs already");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .context("cannot open a file")?;
        let mut postgres = self.owner.command(&self.binaries.join("postgres"));
        postgres.arg("-D").arg(self.dir.path().join("data"));
        for setting in [
            format!("listen_addresses={}", self.address),
            format!("port={PORT}"),
            "unix_socket_directories=".to_owned(),
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "max_connections=400".to_owned(),
            "shared_buffers=32MB".to_owned(),
        ] {
            postgres.args(["-c", &setting]);
        }
        if let Some(certificates) = &self.certificates {
            // The file holds both.
            let file = certificates.server_key_store.display();
            postgres.args(["-c", "ssl=on"]);
            for name in ["ssl_cert_file", "ssl_key_file"] {
                postgres.args(["-c", &format!("{name}={file}")]);
            }
        }
        postgres.stdin(Stdio::null()).stdout(Stdio::null());
        let child = postgres.stderr(log).spawn();
        self.child = Some(child.context("cannot run postgres")?);
        self.wait()
    }

    /// Process of it that has started the others; `None`: it is stopped.
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends it and all its connections, and keeps what is in it.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("postgres does not run")?;
        process::signal(child.id(), "INT")?;
        child.wait().context("cannot wait for postgres")?;
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        let mut child = self.child.take().context("postgres does not run")?;
        let ready = process::poll_until(PATIENCE, || match child.try_wait() {
            Ok(None) => {
                let connected = TcpStream::connect((self.address, PORT)).is_ok();
                (connected && self.psql("postgres", "SELECT 1").is_ok()).then_some(Ok(()))
            }
            ended => Some(Err(ended)),
        });
        self.child = Some(child);
        match ready {
            Some(Ok(())) => Ok(()),
            Some(Err(ended)) => bail!("postgres does not start ({ended:?}): {}", self.log()),
            None => bail!("postgres is not ready after {PATIENCE:?}: {}", self.log()),
        }
    }

    /// A new database of its own; its URL.
    pub fn database(&self) -> Result<String> {
        let name = format!("d{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(format!(
            "postgres://{USER}:{PASSWORD}@{}:{PORT}/{name}",
            self.address
        ))
    }

    /// The authority of its certificate (PEM), with TLS.
    pub fn ca_path(&self) -> Result<&Path> {
        let certificates = self.certificates.as_ref();
        Ok(&certificates.context("postgres has no TLS")?.ca)
    }

    /// A way to it that can be cut.
    pub fn proxy(&self) -> Result<CutProxy> {
        CutProxy::start((self.address, PORT))
    }

    /// The URL of the same database by way of a proxy.
    pub fn url_through(&self, proxy: &CutProxy, url: &str) -> String {
        let direct = format!("{}:{PORT}", self.address);
        url.replace(&direct, &proxy.address().to_string())
    }

    /// What a statement answers in the database of a URL, a row per line.
    pub fn query(&self, url: &str, statement: &str) -> Result<String> {
        let (_, name) = url.rsplit_once('/').context("a URL without a database")?;
        self.psql(name, statement)
    }

    fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet"]);
        psql.arg(format!("--host={}", self.address));
        psql.args(["--username", USER, "--dbname", database, "--command"]);
        psql.arg(statement).env("PGPASSWORD", PASSWORD);
        run(&mut psql)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nobody needs it to be left in order.
        if let Some(child) = &mut self.child {
            let _ = process::signal(child.id(), "QUIT");
            let _ = child.wait();
        }
    }
}

/// Chooses PostgreSQL's programs. Demanded and missing is a failure, so that no case is skipped
/// where all have to run.
fn choose(
    wanted: Option<&str>,
    installed: Option<PathBuf>,
) -> Result<Result<PathBuf, Unavailable>> {
    let missing = format!("no PostgreSQL in `{VERSIONS}`: install the package postgresql");
    match (wanted, installed) {
        (Some("pure"), _) => Ok(Err(Unavailable::new(format!(
            "no PostgreSQL wanted: {WANTED} is `pure`"
        )))),
        (None | Some("all"), Some(binaries)) => Ok(Ok(binaries)),
        (None, None) => Ok(Err(Unavailable::new(missing))),
        (Some("all"), None) => bail!("{missing}; {WANTED} is `all`"),
        (Some(other), _) => bail!("{WANTED} is `{other}`, not `all` or `pure`"),
    }
}

/// The newest version that is installed.
fn installed() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(VERSIONS)
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, path)| path.join("initdb").exists() && path.join("psql").exists())
        .collect();
    versions.sort();
    versions.pop().map(|(_, path)| path)
}

/// PostgreSQL does not run as root.
#[derive(Debug)]
enum Owner {
    Ourselves,
    Other { uid: u32, gid: u32 },
}

impl Owner {
    fn find() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ourselves);
        }
        let number = |option: &str| -> Result<u32> {
            let output = Command::new("id").args([option, "postgres"]).output();
            let text = output.context("cannot run `id`")?.stdout;
            // `nobody`, if the package has not made its user.
            Ok(String::from_utf8_lossy(&text)
                .trim()
                .parse()
                .unwrap_or(65534))
        };
        Ok(Self::Other {
            uid: number("-u")?,
            gid: number("-g")?,
        })
    }

    fn give(&self, path: &Path) -> Result<()> {
        let Self::Other { uid, gid } = self else {
            return Ok(());
        };
        let context = || format!("cannot give `{}` away", path.display());
        chown(path, Some(*uid), Some(*gid)).with_context(context)?;
        let mode = if path.is_dir() { 0o700 } else { 0o600 };
        fs::set_permissions(path, Permissions::from_mode(mode)).with_context(context)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = process::detached("setpriv");
        if let Self::Other { uid, gid } = self {
            command.arg(format!("--reuid={uid}"));
            command.arg(format!("--regid={gid}"));
            command.arg("--clear-groups");
        }
        command.args(["--pdeathsig", "QUIT"]).arg(program);
        command.current_dir("/");
        command
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot run a command")?;
    ensure!(
        output.status.success(),
        "`{}` fails: {}{}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_demanded_is_never_skipped() {
        let is_used = |wanted, is_installed: bool| {
            let chosen = choose(wanted, is_installed.then(|| PathBuf::from("/bin")));
            chosen.ok().map(|binaries| binaries.is_ok())
        };
        for (wanted, used_if_there, used_if_missing) in [
            (None, Some(true), Some(false)),
            (Some("all"), Some(true), None),
            (Some("pure"), Some(false), Some(false)),
            (Some("yes"), None, None),
        ] {
            assert_eq!(is_used(wanted, true), used_if_there, "{wanted:?}");
            assert_eq!(is_used(wanted, false), used_if_missing, "{wanted:?}");
        }
    }
}
