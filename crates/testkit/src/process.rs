//! What a running process holds, signals to it, and its end; all from `/proc`, without unsafe code.
//!
//! Meant for the processes that a test started itself: no name is ever looked up machine-wide.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// How often a condition on another process is looked at.
const POLL: Duration = Duration::from_millis(5);

/// What one process holds at one moment. See proc(5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProcessStats {
    /// Resident memory in kB (`VmRSS`).
    pub rss_kb: u64,
    /// The most that was resident, in kB (`VmHWM`).
    pub peak_kb: u64,
    /// Address space in kB (`VmSize`): what Dovecot's `vsz_limit` bounds.
    pub vm_size_kb: u64,
    /// Threads, the main one included.
    pub threads: u64,
    /// Open file descriptors.
    pub fds: usize,
    /// Descriptors that are TCP sockets, listening and IPv6 ones included.
    pub tcp_sockets: usize,
}

impl ProcessStats {
    /// Reads the figures of the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let path = proc_path(pid, "status");
        let status = fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        let field = |name: &str| {
            status_field(&status, name).with_context(|| format!("process {pid} has no `{name}`"))
        };
        let links = descriptor_links(pid)?;
        let tcp = tcp_inodes(pid)?;
        Ok(Self {
            rss_kb: field("VmRSS")?,
            peak_kb: field("VmHWM")?,
            vm_size_kb: field("VmSize")?,
            threads: field("Threads")?,
            fds: links.len(),
            tcp_sockets: links
                .iter()
                .filter_map(|link| socket_inode(link))
                .filter(|inode| tcp.contains(*inode))
                .count(),
        })
    }
}

/// One thread of a process. See proc(5).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Thread {
    /// Whether it is the one the process began with.
    pub is_main: bool,
    /// Name of the thread; the kernel keeps 15 bytes of it.
    pub name: String,
    /// The signals it does not take (`SigBlk`): bit 0 is signal 1.
    pub blocked_signals: u64,
}

/// The threads that the process `pid` has now.
pub fn threads(pid: u32) -> Result<Vec<Thread>> {
    let path = proc_path(pid, "task");
    let context = || format!("cannot list `{}`", path.display());
    let mut threads = Vec::new();
    for entry in fs::read_dir(&path).with_context(context)? {
        let entry = entry.with_context(context)?;
        // One that has ended meanwhile is none.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim)
                .with_context(|| format!("a thread of process {pid} has no `{name}`"))
        };
        let blocked = value("SigBlk:")?;
        threads.push(Thread {
            is_main: entry.file_name() == *pid.to_string(),
            name: value("Name:")?.to_owned(),
            blocked_signals: u64::from_str_radix(blocked, 16)
                .with_context(|| format!("`{blocked}` is no signal mask"))?,
        });
    }
    Ok(threads)
}

/// Runs `program` without any descriptor of this process but the first three, and with as many as
/// this user may have.
///
/// The mock cluster's connections are not closed on exec: a server that inherits them keeps them
/// open when a mock broker goes down, and its clients wait for answers instead of connecting again.
pub fn detached(program: impl AsRef<OsStr>) -> Command {
    // The shell of Debian's /bin/sh cannot name descriptors of two digits.
    const CLOSE_AND_EXEC: &str = r#"
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
        done
        ulimit -n "$(ulimit -H -n)" && exec "$0" "$@""#;
    let mut command = Command::new("bash");
    command.args(["-c", CLOSE_AND_EXEC]).arg(program);
    command
}

/// Sends `signal_name` ("TERM", "STOP", "CONT", "KILL", "HUP") to one process that the caller
/// started.
pub fn signal(pid: u32, signal_name: &str) -> Result<()> {
    let output = kill(&[pid], signal_name)?;
    ensure!(
        output.status.success(),
        "cannot send {signal_name} to process {pid}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Sends a signal to those of `pids` that still run.
pub fn signal_running(pids: &[u32], signal_name: &str) -> Result<()> {
    let running: Vec<u32> = pids
        .iter()
        .copied()
        .filter(|pid| is_running(*pid))
        .collect();
    if !running.is_empty() {
        // The others get the signal when one of them has just ended.
        kill(&running, signal_name)?;
    }
    Ok(())
}

fn kill(pids: &[u32], signal_name: &str) -> Result<Output> {
    let refused = pids
        .iter()
        .find(|pid| **pid <= 1 || **pid == std::process::id());
    ensure!(refused.is_none(), "refusing to signal process {refused:?}");
    // The shell's own `kill`: there is one even where no procps is installed.
    Command::new("sh")
        .args(["-c", r#"kill -s "$0" "$@""#, signal_name])
        .args(pids.iter().map(u32::to_string))
        .output()
        .context("cannot run `sh`")
}

/// Whether `pid` still runs; one that ended and was not waited for does not.
pub fn is_running(pid: u32) -> bool {
    Stat::of(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
}

/// Waits until the process `pid` has ended.
pub fn wait_exit(pid: u32, timeout: Duration) -> Result<()> {
    poll_until(timeout, || (!is_running(pid)).then_some(()))
        .ok_or_else(|| anyhow!("process {pid} still runs after {timeout:?}"))
}

/// Looks at `condition` until it gives something or `timeout` is over. For what other processes do.
pub fn poll_until<T>(timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = condition() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(POLL);
    }
}

/// The running children of `parent` and their command names (the kernel keeps 15 bytes of them).
pub fn children(parent: u32) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list `/proc`")? {
        let name = entry.context("cannot list `/proc`")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may end while the list is read; then it is not running.
        if let Some(stat) = Stat::of(pid)
            && stat.parent == parent
            && !matches!(stat.state, 'Z' | 'X')
        {
            found.push((pid, stat.command));
        }
    }
    Ok(found)
}

struct Stat {
    command: String,
    state: char,
    parent: u32,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(
            &fs::read(proc_path(pid, "stat")).ok()?,
        ))
    }

    /// `pid (command) state parent ...`, where the command itself may hold blanks and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let (head, tail) = line.rsplit_once(") ")?;
        let (_, command) = head.split_once(" (")?;
        let mut fields = tail.split(' ');
        Some(Self {
            command: command.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
        })
    }
}

fn proc_path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn descriptor_links(pid: u32) -> Result<Vec<String>> {
    let path = proc_path(pid, "fd");
    let context = || format!("cannot list `{}`", path.display());
    let mut links = Vec::new();
    for entry in fs::read_dir(&path).with_context(context)? {
        // One that was closed meanwhile is not open.
        if let Ok(link) = fs::read_link(entry.with_context(context)?.path()) {
            links.push(link.to_string_lossy().into_owned());
        }
    }
    Ok(links)
}

fn socket_inode(link: &str) -> Option<&str> {
    link.strip_prefix("socket:[")?.strip_suffix(']')
}

/// The inodes of all TCP sockets in the process's network namespace.
///
/// Read twice: the kernel may skip a socket while others come and go.
fn tcp_inodes(pid: u32) -> Result<HashSet<String>> {
    let mut inodes = HashSet::new();
    for file in ["net/tcp", "net/tcp6", "net/tcp", "net/tcp6"] {
        let path = proc_path(pid, file);
        match fs::read_to_string(&path) {
            Ok(table) => inodes.extend(
                table
                    .lines()
                    .skip(1)
                    .filter_map(|line| line.split_whitespace().nth(9))
                    .map(str::to_owned),
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && file == "net/tcp6" => {}
            Err(error) => bail!("cannot read `{}`: {error}", path.display()),
        }
    }
    Ok(inodes)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn stats_count_the_tcp_sockets_of_this_process() {
        let before = ProcessStats::of(std::process::id()).expect("stats");
        let listeners: Vec<_> = (0..20)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("bind"))
            .collect();
        let after = ProcessStats::of(std::process::id()).expect("stats");
        // Other tests of this process open and close descriptors meanwhile.
        assert!(
            after.tcp_sockets >= before.tcp_sockets + listeners.len() - 5,
            "{before:?} {after:?}"
        );
        assert!(
            after.rss_kb > 100 && after.vm_size_kb > after.rss_kb && after.threads > 0,
            "{after:?}"
        );
    }

    #[test]
    fn a_stopped_process_runs_on_and_a_killed_one_ends() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("spawn");
        signal(child.id(), "STOP").expect("stop");
        assert!(wait_exit(child.id(), Duration::from_millis(20)).is_err());
        assert!(
            children(std::process::id())
                .expect("children")
                .contains(&(child.id(), "sleep".to_owned()))
        );
        signal(child.id(), "KILL").expect("kill");
        wait_exit(child.id(), crate::PATIENCE).expect("exit");
        assert_eq!(child.wait().expect("wait").signal(), Some(9));
        assert!(signal(child.id(), "TERM").is_err());
    }

    #[test]
    fn threads_have_their_names_and_one_is_the_main_one() {
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = thread::Builder::new()
            .name("named".to_owned())
            .spawn(move || wait.recv())
            .expect("a thread");
        let found = poll_until(crate::PATIENCE, || {
            let threads = threads(std::process::id()).expect("threads");
            let named = threads.iter().any(|thread| thread.name == "named");
            named.then_some(threads)
        });
        let threads = found.expect("a thread named `named`");
        assert_eq!(threads.iter().filter(|thread| thread.is_main).count(), 1);
        drop(done);
        let _ = thread.join();
    }

    #[test]
    fn a_detached_program_has_three_descriptors() {
        let fds = (0..20).map(|_| fs::File::open("/dev/null").expect("open"));
        let open: Vec<_> = fds.map(|fd| fd.try_clone().expect("clone")).collect();
        let output = detached("ls").arg("/proc/self/fd").output().expect("ls");
        // The fourth one is the directory that is listed.
        assert_eq!(output.stdout, b"0\n1\n2\n3\n", "{output:?}");
        drop(open);
    }

    #[test]
    fn a_command_name_may_hold_blanks_and_parentheses() {
        let stat = Stat::parse("42 (a (b) c) S 7 42 42").expect("parse");
        assert_eq!(
            (stat.command.as_str(), stat.state, stat.parent),
            ("a (b) c", 'S', 7)
        );
    }

    #[test]
    fn no_signal_goes_to_init_or_to_this_process() {
        assert!(
            signal(0, "TERM").is_err()
                && signal(1, "TERM").is_err()
                && signal(std::process::id(), "TERM").is_err()
        );
    }
}
