//! The relay: takes records of local mail processes, appends them to the log, acknowledges what is
//! durable.
//!
//! One task for each client ([`session`]), woken together with those of others ([`gather`]); spill
//! files are taken in by one worker ([`intake`]), at the start before any client is heard, later
//! whenever there are new ones.

mod admission;
mod append;
mod batch;
mod gather;
mod inbox;
mod intake;
mod peers;
mod records;
mod senders;
mod session;
mod shares;
mod socket;
mod stats;

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dovecast_log::embedded::Embedded;
use dovecast_log::{LineLimit, Log, RateLimits, Rates};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

use gather::Gather;
use intake::{Intake, Look};
use peers::Peers;
use senders::Senders;
use shares::{Part, Shares};
use stats::Counters;

pub use admission::{Topics, UserNames, matches};
pub use stats::RelayStats;

/// Connections that wait to be accepted: a relay that is started anew finds all mail processes
/// there at once.
const BACKLOG: i32 = 4096;
/// How long after an error (too many open files, for example) the next client is accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long a stop waits for one more client that waits to be accepted.
const DRAIN: Duration = Duration::from_millis(5);
/// Places for clients that one user gets at most: nine tenths of those that others leave.
const PLACES_OF_A_USER: Part = Part { of: 10, most: 9 };
/// Memory for frames that have not arrived whole and are longer than a read, of all clients
/// together, in bytes: three users that take all they can get leave room for the longest frame.
const UNFINISHED_BYTES: u64 = 128 * 1024 * 1024;
/// One user gets half of it at most, and of what others leave.
const UNFINISHED_OF_A_USER: Part = Part { of: 2, most: 1 };
/// Memory for records that were taken and wait for the log, of all clients together, in bytes: what
/// all mail processes send in some seconds in which the log cannot be written.
const WAITING_BYTES: u64 = 128 * 1024 * 1024;
/// One user gets half of it at most, and of what others leave.
const WAITING_OF_A_USER: Part = Part { of: 2, most: 1 };
/// How long a stop waits for clients to be told what is durable.
const STOP: Duration = Duration::from_secs(10);

/// How the relay is run.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// Whose processes may send, and whose spill files are taken in: user ids. The relay's own user
    /// always may.
    pub allow: Vec<RangeInclusive<u32>>,
    /// Topics that they may write to.
    pub topics: Topics,
    /// Where each user has a user id of his own: how his name is found, and what he sends has to be
    /// about him. Root and the relay's own user are not bound.
    pub bind_user: Option<UserNames>,
    /// Clients at a time.
    pub max_clients: usize,
    /// Where mail processes leave spill files; made if it is not there.
    pub spill_dir: PathBuf,
    /// How often spill files are looked for.
    pub spill_interval: Duration,
    /// Records of a client are not read on when so much of them waits for the log.
    pub max_client_bytes: usize,
    /// Records and bytes that the clients and the spill files of one user may bring in a second;
    /// they are read more slowly then.
    pub user_rate: RateLimits,
    /// How much of that a user may send at once, as the time in which it could have been sent.
    pub user_burst: Duration,
    /// How long a client may take to say who it is.
    pub hello_time: Duration,
    /// How long a client may leave its acknowledgements unread.
    pub unread_time: Duration,
    /// Least time from one reading of what clients have sent, and so from one commit of it, to the
    /// next; zero: each frame is read when it comes.
    pub commit_interval: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            topics: Topics::new(["dovecot".to_owned()], []),
            bind_user: None,
            max_clients: 20_000,
            spill_dir: PathBuf::from("/var/lib/dovecast/spill"),
            spill_interval: Duration::from_secs(5),
            max_client_bytes: 256 * 1024,
            user_rate: RateLimits::default(),
            user_burst: Duration::from_secs(10),
            hello_time: Duration::from_secs(5),
            unread_time: Duration::from_secs(30),
            commit_interval: Duration::from_millis(2),
        }
    }
}

/// What all parts of the relay need.
struct Relay {
    options: RelayOptions,
    log: Embedded,
    counters: Counters,
    peers: Peers,
    senders: Senders,
    intake: Intake,
    places: Shares,
    /// What users have sent, by user id.
    rates: Rates<u32>,
    unfinished: Shares,
    waiting: Shares,
    /// `None`: each session is woken for itself.
    gather: Option<Gather>,
    stopping: watch::Sender<bool>,
    trouble_lines: LineLimit,
    accept_lines: LineLimit,
}

impl Relay {
    fn new(options: RelayOptions, log: Embedded) -> io::Result<Self> {
        let peers = Peers::new(&options.allow);
        let is_gathering = !options.commit_interval.is_zero();
        let gather = is_gathering.then(|| Gather::start(options.commit_interval, log.clone()));
        Ok(Self {
            intake: Intake::new(&options.spill_dir)?,
            gather: gather.transpose()?,
            senders: Senders::new(peers.own(), options.bind_user.clone(), options.hello_time),
            places: Shares::new(options.max_clients as u64, PLACES_OF_A_USER),
            rates: Rates::bursting(options.user_rate, options.user_burst),
            unfinished: Shares::new(UNFINISHED_BYTES, UNFINISHED_OF_A_USER),
            waiting: Shares::new(WAITING_BYTES, WAITING_OF_A_USER),
            options,
            log,
            counters: Counters::default(),
            peers,
            stopping: watch::Sender::new(false),
            trouble_lines: LineLimit::default(),
            accept_lines: LineLimit::default(),
        })
    }
}

/// A running relay.
pub struct RelayServer {
    relay: Arc<Relay>,
    tasks: Mutex<JoinSet<()>>,
}

impl RelayServer {
    /// Begins to take in spill files, then to listen. Has to be called within a tokio runtime.
    pub fn start(
        options: RelayOptions,
        listener: UnixListener,
        log: Embedded,
    ) -> Result<Self, io::Error> {
        let relay = Arc::new(Relay::new(options, log)?);
        let mut tasks = JoinSet::new();
        tasks.spawn(run(Arc::clone(&relay), listener));
        Ok(Self {
            relay,
            tasks: Mutex::new(tasks),
        })
    }

    /// What was counted so far.
    pub fn stats(&self) -> RelayStats {
        self.relay.counters.snapshot()
    }

    /// Waits until the relay has ended, which it does by itself only if something is very wrong.
    pub async fn ended(&self) {
        self.tasks.lock().await.join_next().await;
    }

    /// Listens no more; what was read is appended and acknowledged. Takes some seconds at most.
    pub async fn stop(&self) {
        self.relay.stopping.send_replace(true);
        if let Some(gather) = &self.relay.gather {
            gather.hurry();
        }
        let mut tasks = self.tasks.lock().await;
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP, all).await.is_err() {
            tracing::warn!(
                "the relay has stopped before all clients had their acknowledgements; they send those records again"
            );
        }
        tasks.shutdown().await;
    }
}

/// Makes the socket of mail processes. One that a dead relay has left is replaced, one that
/// somebody answers is not.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("`{}` is there and is no socket", path.display()),
            ));
        }
        Ok(_) if is_answered(path)? => {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another relay answers at `{}`", path.display()),
            ));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    // Whoever may send is decided by the user id, not by who may open the file.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(socket.into())
}

/// Whether somebody listens on a socket; without waiting, as a relay with a full backlog would make
/// us.
fn is_answered(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn run(relay: Arc<Relay>, listener: UnixListener) {
    announce_topics(&relay).await;
    intake::take_back(&relay).await;
    intake::take_all(&relay, Look::First).await;
    let mut stopping = relay.stopping.subscribe();
    let mut clients = JoinSet::new();
    let scanning = tokio::spawn(scan(Arc::clone(&relay)));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    relay.counters.accepted.fetch_add(1, Ordering::Relaxed);
                    clients.spawn(session::run(Arc::clone(&relay), stream));
                }
                Err(error) => {
                    relay.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                    if let Some(suppressed) = relay.accept_lines.take_counted() {
                        tracing::error!(%error, suppressed, "the relay cannot accept clients; this is retried");
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = clients.join_next() => {}
            () = stopped(&mut stopping) => break,
        }
    }
    // Who waits to be accepted has perhaps sent something and ended.
    while let Ok(Ok((stream, _))) = tokio::time::timeout(DRAIN, listener.accept()).await {
        clients.spawn(session::run(Arc::clone(&relay), stream));
    }
    drop(listener);
    while clients.join_next().await.is_some() {}
    if scanning.await.is_err() {
        tracing::error!("the search for spill files has panicked");
    }
}

/// Logs which topics clients may write to, and warns of those that have records already and are no
/// longer among them: who upgrades finds here what clients have written to.
async fn announce_topics(relay: &Relay) {
    let topics = &relay.options.topics;
    tracing::info!(topics = ?topics.names(), "mail processes may write to these topics");
    // Without the list there is nothing to warn of; that the log is closed others say.
    for topic in relay.log.topics().await.unwrap_or_default() {
        if topics.is_closed(&topic.name) {
            tracing::warn!(
                topic = topic.name,
                "the log has a topic that mail processes may not write to: if it is theirs, name it in `event_topics` of [dispatch] or in `topics` of [relay]"
            );
        }
    }
}

/// Looks for spill files now and then.
async fn scan(relay: Arc<Relay>) {
    let mut stopping = relay.stopping.subscribe();
    loop {
        tokio::select! {
            () = tokio::time::sleep(relay.intake.next_look(relay.options.spill_interval)) => {}
            () = stopped(&mut stopping) => return,
        }
        intake::take_all(&relay, Look::Later).await;
    }
}

/// Waits until the relay is to be stopped.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the relay is gone altogether.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
