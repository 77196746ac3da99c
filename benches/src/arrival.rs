//! How long after the answer to a command its event is printed by `dovecast tail`: through the mail
//! process, the socket, the log on the disk, the control socket.

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
    // There are no flag events before the first command: none is missed, whenever `tail` is ready.
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
    let tail = server.tail(&only)?;
    let mut took = Vec::new();
    for command in 0..WARM_UP + world.rounds(1000) {
        let sign = if command % 2 == 0 { '+' } else { '-' };
        client.ok(&format!("STORE 1 {sign}FLAGS (\\Flagged)"))?;
        let answered = Instant::now();
        let _line = tail.next(ARRIVAL)?.context("no event has arrived")?;
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
