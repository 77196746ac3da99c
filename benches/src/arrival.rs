//! How long after the answer to a command its event is printed by `dovecast tail`: through the mail
//! process, the socket, the log on the disk, the control socket. With the relay gathering what
//! comes, and without, in turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::imap::ImapClient;
use dovecast_testkit::server::{Server, Tail};

use crate::figures::{print_head, print_row};
use crate::subject::{Relays, Subject, World, relay_with};
use crate::workload::select_with_a_mail;

const TOPIC: &str = "arrival-1";
const ARRIVAL: Duration = Duration::from_secs(20);
/// Commands before the measured ones.
const WARM_UP: usize = 20;
/// From one command to the next of one side: at once, and when the relay's interval is over.
const PAUSES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(10)];

pub(crate) fn run(world: &World) -> Result<()> {
    print_head(
        "From the answer to STORE to the event in `dovecast tail`",
        &[
            "commit_interval_ms, pause",
            "commands",
            "p50, ms",
            "p90, ms",
            "p99, ms",
            "slowest, ms",
        ],
    );
    for pause in PAUSES {
        let mut sides = [Side::start(world, 2)?, Side::start(world, 0)?];
        for command in 0..WARM_UP + world.rounds(1000) {
            std::thread::sleep(pause);
            for side in &mut sides {
                side.command(command)?;
            }
        }
        for side in sides {
            side.print(pause)?;
        }
    }
    Ok(())
}

/// A Dovecot with its relay, and who waits for events.
struct Side {
    interval_ms: u32,
    client: ImapClient,
    tail: Tail,
    took: Vec<f64>,
    _server: Server,
    _dovecot: Dovecot,
}

impl Side {
    fn start(world: &World, interval_ms: u32) -> Result<Self> {
        let dovecot = world.start(Subject::Relay(Relays::Down), "arrival")?;
        let server = relay_with(&dovecot, &format!("commit_interval_ms = {interval_ms}"))?;
        let client = select_with_a_mail(&dovecot, "alice")?;
        // There are no flag events before the first command: none is missed, whenever `tail` is
        // ready.
        let only = [
            "--topic",
            TOPIC,
            "--from",
            "beginning",
            "--format",
            "raw",
            "--kind",
            "FlagsSet,FlagsClear",
        ];
        Ok(Self {
            interval_ms,
            client,
            tail: server.tail(&only)?,
            took: Vec::new(),
            _server: server,
            _dovecot: dovecot,
        })
    }

    fn command(&mut self, number: usize) -> Result<()> {
        let sign = if number.is_multiple_of(2) { '+' } else { '-' };
        self.client
            .ok(&format!("STORE 1 {sign}FLAGS (\\Flagged)"))?;
        let answered = Instant::now();
        let _line = self.tail.next(ARRIVAL)?.context("no event has arrived")?;
        if number >= WARM_UP {
            self.took.push(answered.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    }

    fn print(mut self, pause: Duration) -> Result<()> {
        self.client.logout()?;
        let took = &mut self.took;
        took.sort_by(f64::total_cmp);
        let at = |share: usize| format!("{:.2}", took[(took.len() - 1) * share / 100]);
        print_row(&[
            format!("{}, {pause:?}", self.interval_ms),
            took.len().to_string(),
            at(50),
            at(90),
            at(99),
            at(100),
        ]);
        Ok(())
    }
}
