//! A real `dovecast serve` in a directory of its own.
//!
//! It listens where the system finds a port, and it is ready when [`Server::start`] returns.
//! Killing and starting it again keeps the directory. The process is killed when this is dropped.

mod account;
mod builder;
mod tail;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;

use crate::http::{Answer, Request};
use crate::{PATIENCE, process, workspace};

pub use builder::Builder;
pub use tail::Tail;

/// A `dovecast serve`.
#[derive(Debug)]
pub struct Server {
    binary: PathBuf,
    data_dir: PathBuf,
    relay_socket: PathBuf,
    spill_dir: PathBuf,
    config_file: PathBuf,
    log_file: PathBuf,
    output_file: PathBuf,
    running: Option<Running>,
    environment: Vec<(String, PathBuf)>,
    _dir: TempDir,
}

#[derive(Debug)]
struct Running {
    child: Child,
    address: SocketAddr,
    /// Where it answers `/metrics`.
    monitor: SocketAddr,
}

impl Server {
    /// With the default configuration.
    pub fn start() -> Result<Self> {
        Self::builder().start()
    }

    /// What is to be started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts it in the same directory, and waits until it is ready.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "the server runs already");
        let logged_before = self.server_log().len();
        let mut child = self.spawn()?;
        let ready = process::poll_until(PATIENCE, || match child.try_wait() {
            Ok(None) => addresses_in(self.server_log().get(logged_before..).unwrap_or_default())
                .filter(|(address, _)| {
                    let ready = Request::get("/readyz").send(*address);
                    ready.is_ok_and(|answer| answer.status == 200)
                })
                .map(Ok),
            Ok(Some(status)) => Some(Err(anyhow!("it has ended with {status}"))),
            Err(error) => Some(Err(anyhow!(error))),
        });
        let ready = ready.unwrap_or_else(|| Err(anyhow!("it is not ready after {PATIENCE:?}")));
        match ready {
            Ok((address, monitor)) => {
                self.running = Some(Running {
                    child,
                    address,
                    monitor,
                });
                Ok(())
            }
            Err(error) => {
                // It may have ended already.
                let _ = child.kill();
                let _ = child.wait();
                Err(error.context(format!(
                    "dovecast serve does not start: {}",
                    self.server_log()
                )))
            }
        }
    }

    /// Starts it and waits until it has ended, for starts that must fail.
    pub fn start_and_end(&self) -> Result<Output> {
        self.command(["serve"])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .context("cannot run dovecast serve")
    }

    fn spawn(&self) -> Result<Child> {
        let append = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.with_context(|| format!("cannot open `{}`", path.display()))
        };
        let mut command = process::detached(&self.binary);
        command.arg("--config").arg(&self.config_file);
        command.arg("--data-dir").arg(&self.data_dir).arg("serve");
        command
            .stdin(Stdio::null())
            .stdout(append(&self.output_file)?);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stderr(append(&self.log_file)?);
        command.spawn().context("cannot run dovecast serve")
    }

    /// Ends it as a crash does (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        let mut running = self.take_running()?;
        running.child.kill().context("cannot kill the server")?;
        running.child.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut running = self.take_running()?;
        process::signal(running.child.id(), "TERM")?;
        let ended = process::poll_until(PATIENCE, || running.child.try_wait().transpose());
        let Some(status) = ended else {
            // Nothing is left behind.
            let _ = running.child.kill();
            let _ = running.child.wait();
            return Err(anyhow!(
                "dovecast serve still runs {PATIENCE:?} after SIGTERM: {}",
                self.server_log()
            ));
        };
        status.context("cannot wait for the server")
    }

    fn take_running(&mut self) -> Result<Running> {
        self.running.take().context("the server does not run")
    }

    /// Id of the server's process; 0 while there is none.
    pub fn pid(&self) -> u32 {
        self.running
            .as_ref()
            .map_or(0, |running| running.child.id())
    }

    /// Where it answers health and metrics.
    pub fn monitor_address(&self) -> Result<SocketAddr> {
        let running = self.running.as_ref().context("the server does not run")?;
        Ok(running.monitor)
    }

    /// Where it answers HTTP.
    pub fn address(&self) -> Result<SocketAddr> {
        let running = self.running.as_ref().context("the server does not run")?;
        Ok(running.address)
    }

    /// Status and body of a `GET`.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.ask(&Request::get(path))?;
        Ok((answer.status, answer.body))
    }

    /// The answer to a request; `/metrics` is asked for where it is answered.
    pub fn ask(&self, request: &Request) -> Result<Answer> {
        if request.path() == "/metrics" {
            return request.send(self.monitor_address()?);
        }
        request.send(self.address()?)
    }

    /// The admin token that the first start has printed.
    pub fn admin_token(&self) -> Result<String> {
        let printed = self.printed();
        let token = printed
            .lines()
            .find_map(|line| line.strip_prefix("admin token, shown this once: "));
        token
            .map(str::to_owned)
            .with_context(|| format!("no admin token in `{printed}`"))
    }

    /// The value of a metric without labels, or with exactly these (`name{label="x"}`).
    pub fn metric(&self, sample: &str) -> Result<f64> {
        let (status, text) = self.get("/metrics")?;
        ensure!(status == 200, "/metrics answers {status}: {text}");
        let value = text.lines().find_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            (name == sample).then_some(value)
        });
        let value = value.with_context(|| format!("no metric `{sample}`: {text}"))?;
        value
            .parse()
            .with_context(|| format!("`{sample}` is `{value}`"))
    }

    /// Waits until the metric has a value that is right, and gives it: what is counted, is counted
    /// a moment after it was done.
    pub fn metric_is(&self, sample: &str, is_right: impl Fn(f64) -> bool) -> Result<f64> {
        let found = process::poll_until(PATIENCE, || {
            self.metric(sample).ok().filter(|value| is_right(*value))
        });
        found.with_context(|| format!("`{sample}` is {:?}", self.metric(sample)))
    }

    /// Data directory of the server.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The socket of mail processes.
    pub fn relay_socket(&self) -> &Path {
        &self.relay_socket
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.data_dir.join("control.sock")
    }

    /// Where mail processes leave spill files.
    pub fn spill_dir(&self) -> &Path {
        &self.spill_dir
    }

    /// The configuration file.
    pub fn config_file(&self) -> &Path {
        &self.config_file
    }

    /// Where it logs.
    pub fn log_path(&self) -> &Path {
        &self.log_file
    }

    /// What it has logged since the first start.
    pub fn server_log(&self) -> String {
        let bytes = fs::read(&self.log_file).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What it has logged, once a line has all of these; lines are written by a thread of its own,
    /// after the answer to what they tell of.
    pub fn log_with(&self, texts: &[&str]) -> Result<String> {
        let has_it = |line: &str| texts.iter().all(|text| line.contains(text));
        let log = process::poll_until(PATIENCE, || {
            Some(self.server_log()).filter(|log| log.lines().any(has_it))
        });
        log.with_context(|| format!("no line with {texts:?} in {}", self.server_log()))
    }

    /// What it has printed on standard output since the first start.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.output_file).unwrap_or_default()
    }

    /// A command on this server.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.config_file);
        command.arg("--data-dir").arg(&self.data_dir);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// What a command prints; an error if it fails.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<String> {
        let mut command = self.command(arguments);
        let output = command.output().context("cannot run dovecast")?;
        ensure!(
            output.status.success(),
            "{command:?} ends with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).context("dovecast prints something else than UTF-8")
    }

    /// The records of a topic, from the oldest one to the end, as `dovecast tail --format json`
    /// prints them.
    pub fn records(&self, topic: &str) -> Result<Vec<String>> {
        self.all(topic, "json")
    }

    /// The values of a topic, from the oldest one to the end. No value may hold a line feed.
    pub fn values(&self, topic: &str) -> Result<Vec<String>> {
        self.all(topic, "raw")
    }

    fn all(&self, topic: &str, format: &str) -> Result<Vec<String>> {
        let all = [
            "tail",
            "--from",
            "beginning",
            "--until-end",
            "--format",
            format,
        ];
        let lines = self.run(all.into_iter().chain(["--topic", topic]))?;
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// A `dovecast tail` with these arguments, that goes on until it is dropped.
    pub fn tail(&self, arguments: &[&str]) -> Result<Tail> {
        Tail::start(&mut self.command(["tail"].iter().chain(arguments)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() {
            // There is nobody to tell.
            let _ = self.kill();
        }
    }
}

/// What cargo builds beside the server: any of its tests, for then all features are chosen as they
/// are for the tests, and what `make test` has built is not built a second time.
const AS_FOR_TESTS: [&str; 5] = [
    "--workspace",
    "--exclude",
    "dovecast-benches",
    "--test",
    "plan",
];

/// `dovecast`, built by cargo from this workspace, once per test process.
pub fn build(release: bool) -> Result<PathBuf> {
    static BUILT: [OnceLock<Result<PathBuf, String>>; 2] = [OnceLock::new(), OnceLock::new()];
    let built = BUILT[usize::from(release)]
        .get_or_init(|| compile(release).map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

fn compile(release: bool) -> Result<PathBuf> {
    let mut cargo = workspace::cargo(&["build", "--quiet", "--bin", "dovecast"]);
    if release {
        cargo.args(["--package", "dovecast-server", "--release"]);
    } else {
        cargo.args(AS_FOR_TESTS);
    }
    let output = cargo.output().context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "building dovecast failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let profile = if release { "release" } else { "debug" };
    Ok(workspace::target_dir().join(profile).join("dovecast"))
}

/// The addresses in the lines that say where HTTP is answered, and where health and metrics are.
fn addresses_in(log: &str) -> Option<(SocketAddr, SocketAddr)> {
    let monitor = address_in(log, "health and metrics are answered")?;
    Some((address_in(log, "HTTP is answered")?, monitor))
}

fn address_in(log: &str, what: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains(what))?;
    let (_, rest) = line.split_once("127.0.0.1:")?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let port: u16 = rest[..digits].parse().ok()?;
    Some(([127, 0, 0, 1], port).into())
}
