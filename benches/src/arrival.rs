//! How long after the answer to a command its event is printed by `dovecast tail`: through the mail process, the socket, the
//! log on the disk, the control socket.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::figures::{print_head, print_row};
use crate::subject::{Relays, Subject, World, relay_for};
use crate::workload::select_with_a_mail;

const TOPIC: &str = "arrival-1";
const ARRIVAL: Duration = Duration::from_secs(20);
/// Commands before the measured ones.
const WARM_UP: usize = 20;

pub(crate) fn run(world: &World) -> Result<()> {
    print_head(
        "From the answer to STORE to the event in `dovecast tail`",
        &["commands", "p50, ms", "p90, ms", "p99, ms", "slowest, ms"],
    );
    let dovecot = world.start(Subject::Relay(Relays::Down), "arrival")?;
    let server = relay_for(&dovecot)?;
    let mut client = select_with_a_mail(&dovecot, "alice")?;
    let tail = Tail::start(&server)?;
    let mut took = Vec::new();
    for command in 0..WARM_UP + world.rounds(1000) {
        let sign = if command % 2 == 0 { '+' } else { '-' };
        client.ok(&format!("STORE 1 {sign}FLAGS (\\Flagged)"))?;
        let answered = Instant::now();
        let _line = tail.next()?;
        if command >= WARM_UP {
            took.push(answered.elapsed().as_secs_f64() * 1000.0);
        }
    }
    client.logout()?;
    took.sort_by(f64::total_cmp);
    let at = |share: usize| format!("{:.2}", took[(took.len() - 1) * share / 100]);
    print_row(&[took.len().to_string(), at(50), at(90), at(99), at(100)]);
    Ok(())
}

/// A `dovecast tail` of flag events.
struct Tail {
    child: Child,
    lines: Receiver<String>,
}

impl Tail {
    fn start(server: &dovecast_testkit::server::Server) -> Result<Self> {
        let arguments = ["tail", "--topic", TOPIC, "--format", "raw", "--from", "end"];
        let mut child = server
            .command(
                arguments
                    .into_iter()
                    .chain(["--kind", "FlagsSet,FlagsClear"]),
            )
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run dovecast tail")?;
        let out = child.stdout.take().context("it has no output")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    fn next(&self) -> Result<String> {
        let line = self.lines.recv_timeout(ARRIVAL);
        line.context("no event has arrived")
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // It ends with the server at the latest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
