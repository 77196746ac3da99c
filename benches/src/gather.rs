//! What an event costs the relay, and the mail process that sends it, when each frame is read and
//! committed for itself and when what has come is gathered: counts of what happens, which a busy
//! machine does not change, beside times.

use std::time::{Duration, Instant};

use anyhow::Result;
use dovecast_relay::client::{Client, Options};
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::server::Server;
use uuid::Uuid;

use crate::figures::{Median, print_head, print_row};
use crate::proc::{CpuTime, context_switches};

/// Values of `commit_interval_ms` that are compared.
const INTERVALS_MS: [u32; 2] = [0, 2];
/// Events of a block, and blocks of each side.
const EVENTS: u32 = 500;
const ROUNDS: usize = 7;
/// Clients, and the time from one event to the next, whichever client's it is.
const LOADS: [(usize, Duration); 4] = [
    (1, Duration::from_micros(300)),
    (1, Duration::from_millis(1)),
    (1, Duration::from_millis(10)),
    (50, Duration::from_micros(300)),
];
/// As many as the client's timer lets pass between two looks at acknowledgements.
const EVENTS_A_LOOK: u32 = 16;

pub(crate) fn run(rounds: Option<usize>) -> Result<()> {
    print_head(
        &format!("Events of mail processes in the relay, in blocks of {EVENTS}, per event"),
        &[
            "clients, time between events",
            "commit_interval_ms",
            "commits",
            "context switches",
            "CPU us of the relay",
            "us to send",
        ],
    );
    for (clients, spacing) in LOADS {
        let mut sides = Vec::new();
        for interval_ms in INTERVALS_MS {
            sides.push(Side::start(interval_ms, clients)?);
        }
        for round in 0..rounds.unwrap_or(ROUNDS) {
            let mut order = [0, 1];
            order.rotate_left(round % 2);
            for side in order {
                sides[side].block(spacing)?;
            }
        }
        for side in &sides {
            side.print(&format!("{clients}, {spacing:?}"));
        }
    }
    Ok(())
}

/// A relay with its clients.
struct Side {
    interval_ms: u32,
    server: Server,
    clients: Vec<Client>,
    sent: u64,
    blocks: Vec<Cost>,
}

/// What one event costs.
struct Cost {
    commits: f64,
    switches: f64,
    cpu_us: f64,
    send_us: f64,
}

impl Side {
    fn start(interval_ms: u32, clients: usize) -> Result<Self> {
        let server = Server::builder()
            .release()
            .roles(&["relay"])
            .config(&format!("commit_interval_ms = {interval_ms}"))
            .start()?;
        let options = options(&server, "imap");
        let clients = (0..clients).map(|_| Client::new(options.clone()));
        let mut side = Self {
            interval_ms,
            server,
            clients: clients.collect(),
            sent: 0,
            blocks: Vec::new(),
        };
        // Everybody is connected before anything is counted.
        for client in 0..side.clients.len() {
            side.send(client);
            acknowledged(&mut side.clients[client]);
        }
        Ok(side)
    }

    fn block(&mut self, spacing: Duration) -> Result<()> {
        const COMMITS: &str = "dovecast_log_commit_seconds_count";
        let pid = self.server.pid();
        let commits = self.server.metric(COMMITS)?;
        let (switches, cpu) = (context_switches(pid)?, CpuTime::of(pid)?.all);
        let count = self.clients.len();
        let (mut sending, began) = (Duration::ZERO, Instant::now());
        for event in 0..EVENTS {
            let due = began + spacing * event;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let client = event as usize % count;
            let before = Instant::now();
            self.send(client);
            sending += before.elapsed();
            if event % EVENTS_A_LOOK == 0 {
                self.clients[client].serve();
            }
        }
        self.clients.iter_mut().for_each(acknowledged);
        let (switches_now, cpu_now) = (context_switches(pid)?, CpuTime::of(pid)?.all);
        let events = f64::from(EVENTS);
        #[expect(clippy::cast_precision_loss, reason = "a count of some thousands")]
        let switches = (switches_now - switches) as f64;
        self.blocks.push(Cost {
            commits: (self.server.metric(COMMITS)? - commits) / events,
            switches: switches / events,
            cpu_us: cpu_now.saturating_sub(cpu).as_secs_f64() * 1e6 / events,
            send_us: sending.as_secs_f64() * 1e6 / events,
        });
        Ok(())
    }

    /// One event in one transaction.
    fn send(&mut self, client: usize) {
        self.sent += 1;
        let client = &mut self.clients[client];
        client.push(&WireRecord {
            topic: "dovecot",
            key: b"alice",
            value: &[b'x'; 300],
            time_ms: 1_795_210_528_120,
            id: Uuid::from_u128(self.sent.into()),
            txn: Uuid::nil(),
            txn_seq: 0,
            txn_last: true,
        });
        client.flush();
    }

    fn print(&self, load: &str) {
        let median = |of: fn(&Cost) -> f64| Median::of(self.blocks.iter().map(of)).value;
        print_row(&[
            load.to_owned(),
            self.interval_ms.to_string(),
            format!("{:.2}", median(|cost| cost.commits)),
            format!("{:.2}", median(|cost| cost.switches)),
            format!("{:.1}", median(|cost| cost.cpu_us)),
            format!("{:.1}", median(|cost| cost.send_us)),
        ]);
    }
}

/// Options of a mail process that sends to a relay.
pub(crate) fn options(server: &Server, program: &str) -> Options {
    Options {
        socket: server.relay_socket().to_owned(),
        spill_dir: server.spill_dir().to_owned(),
        queue_bytes: 1024 * 1024,
        spill_bytes: 1024 * 1024,
        host: "mail1".to_owned(),
        program: program.to_owned(),
    }
}

/// Waits until the relay has everything.
pub(crate) fn acknowledged(client: &mut Client) {
    while let Some(again) = client.serve() {
        std::thread::sleep(again);
    }
}
