//! A server that is killed at full load and started again: how soon everything that it had accepted
//! is delivered.

use dovecast_testkit::crash::{CrashOptions, at_saturation};
use dovecast_testkit::server::Server;

use anyhow::Result;

use crate::figures::{print_head, print_row};

const OPTIONS: CrashOptions = CrashOptions {
    connections: 64,
    batch: 1,
    accepted: 50_000,
    message_bytes: 1000,
};

pub(crate) fn run(rounds: Option<usize>) -> Result<()> {
    print_head(
        "kill -9 while 64 connections send as fast as they are answered, embedded log and store",
        &[
            "accepted",
            "1/s",
            "delivered before",
            "start to ready, s",
            "start to all delivered, s",
            "duplicates",
            "not recognisable",
            "lost",
        ],
    );
    for _ in 0..rounds.unwrap_or(3) {
        let crash = at_saturation(Server::builder().release(), OPTIONS)?;
        print_row(&[
            crash.accepted.to_string(),
            format!("{:.0}", crash.accepted_per_second),
            crash.delivered_before.to_string(),
            format!("{:.2}", crash.ready.as_secs_f64()),
            format!("{:.2}", crash.all_delivered.as_secs_f64()),
            crash.duplicates.to_string(),
            crash.unrecognisable.to_string(),
            crash.lost.to_string(),
        ]);
    }
    Ok(())
}
