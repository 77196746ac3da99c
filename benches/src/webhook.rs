//! How long after the answer to a command its event has reached the webhook of the user, at some
//! rates: through the mail process, the socket, the log on the disk, the dispatcher, HTTP.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dovecast_testkit::dovecot::MAIL_UID;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::server::Server;

use crate::figures::{print_head, print_row};
use crate::subject::{Relays, Subject, World};
use crate::workload::select_with_a_mail;

const ARRIVAL: Duration = Duration::from_secs(30);
/// Commands before the measured ones.
const WARM_UP: usize = 50;

pub(crate) fn run(world: &World) -> Result<()> {
    print_head(
        "From the answer to STORE to the webhook",
        &[
            "1/s",
            "commands",
            "p50, ms",
            "p90, ms",
            "p99, ms",
            "slowest, ms",
        ],
    );
    let dovecot = world.start(Subject::Relay(Relays::Down), "webhook")?;
    let dir = dovecot.relay_dir();
    let server = Server::builder()
        .release()
        .relay(dir.join("relay.sock"), dir.join("spill"))
        .config(&format!("allow = [\"root\", \"{MAIL_UID}\"]"))
        .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']\nevent_topics = ['webhook-1']")
        .start()?;
    let sink = HookEndpoint::start()?;
    let condition = "message.event == 'FlagsSet' || message.event == 'FlagsClear'";
    let token = server.account_token("alice")?;
    server.endpoint(&token, ("sink", &sink.url()), condition)?;
    let mut client = select_with_a_mail(&dovecot, "alice")?;
    let mut done = 0;
    for rate in [50_u32, 200] {
        let interval = Duration::from_secs(1) / rate;
        let count = WARM_UP + world.rounds(2000);
        let mut answered = Vec::new();
        let start = Instant::now();
        for command in 0..count {
            let due = start + interval * u32::try_from(command)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sign = if (done + command) % 2 == 0 { '+' } else { '-' };
            client.ok(&format!("STORE 1 {sign}FLAGS (\\Flagged)"))?;
            answered.push(Instant::now());
        }
        // They arrive in order, but for those that are under way at the same time.
        let hooks = sink.wait_for(done + count, ARRIVAL)?;
        let mut took: Vec<f64> = hooks[done..]
            .iter()
            .zip(&answered)
            .skip(WARM_UP)
            .map(|(hook, answered)| hook.arrived.saturating_duration_since(*answered))
            .map(|took| took.as_secs_f64() * 1000.0)
            .collect();
        done += count;
        took.sort_by(f64::total_cmp);
        let at = |share: usize| format!("{:.2}", took[(took.len() - 1) * share / 100]);
        let row = [
            rate.to_string(),
            took.len().to_string(),
            at(50),
            at(90),
            at(99),
            at(100),
        ];
        print_row(&row);
    }
    client.logout()?;
    Ok(())
}
