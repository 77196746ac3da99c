//! What a Lua script costs in Dovecot's lmtp, and the same script in `dovecast lua-host`; and what
//! a host's memory does over a million transactions.

use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_relay::client::Client;
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use uuid::Uuid;

use crate::figures::{Median, print_head, print_row};
use crate::gather::{acknowledged, options};
use crate::proc::{CpuTime, Memory, cpu_time};
use crate::receiver::Receiver;
use crate::subject::{Subject, World};
use crate::workload::{Delivery, Workload};

/// Mails of a block, and blocks.
const MAILS: u32 = 500;
const ROUNDS: usize = 10;
/// How long a script may take for a block, or for a tenth of a million.
const PATIENCE: Duration = Duration::from_mins(5);
/// Transactions between two looks at memory, and looks.
const TENTH: u64 = 100_000;
const TENTHS: u64 = 10;
/// Transactions that are sent before the relay is asked whether it has them.
const SENT_AHEAD: u64 = 200;
/// Most memory in the end, of that after the first tenth: what is more is not flat.
const MEMORY_BAR: f64 = 1.1;

/// CPU of a transaction of one mail that lmtp delivers: of Dovecot's driver, what lmtp needs more
/// than with the framework alone; of ours, what the process of the script needs.
pub(crate) fn throughput(world: &World) -> Result<()> {
    let framework = Side::open(world, Subject::Framework)?;
    let theirs = Side::open(world, Subject::Lua)?;
    let ours = Side::open(world, Subject::Behind(Receiver::Script))?;
    let host = world.behind_server(host_of)?;
    let server = world.behind_server(|server| Ok(server.pid()))?;
    let mut sides = [framework, theirs, ours];
    let mut done = world.behind_server(transactions)?;
    let (mut of_theirs, mut of_ours, mut of_all) = (Vec::new(), Vec::new(), Vec::new());
    let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(MAILS);
    for _ in 0..world.rounds(ROUNDS) {
        let before = (cpu_time(host)?, cpu_time(server)?);
        let mut lmtp = Vec::new();
        for side in &mut sides {
            lmtp.push(each(side.block()?));
        }
        done += f64::from(MAILS);
        let all = process::poll_until(PATIENCE, || {
            let handled = world.behind_server(transactions);
            matches!(handled, Ok(handled) if handled >= done).then_some(())
        });
        all.context("the script does not get all mails")?;
        let host_us = each(cpu_time(host)?.saturating_sub(before.0));
        let server_us = each(cpu_time(server)?.saturating_sub(before.1));
        of_theirs.push(lmtp[1] - lmtp[0]);
        of_ours.push(host_us);
        of_all.push(lmtp[2] - lmtp[0] + server_us + host_us);
    }
    print_head(
        &format!("A script's work for one mail, blocks of {MAILS}"),
        &[
            "where",
            "CPU us",
            "transactions per CPU second",
            "bar: as many as Dovecot's driver",
        ],
    );
    let [theirs, ours, all] = [of_theirs, of_ours, of_all].map(Median::of);
    for (name, median, bar) in [
        ("Dovecot's driver, in lmtp", theirs, ""),
        (
            "the process of the script",
            ours,
            verdict(ours.value <= theirs.value),
        ),
        ("plugin, server and script together", all, ""),
    ] {
        let rate = 1e6 / median.value.max(f64::MIN_POSITIVE);
        print_row(&[
            name.to_owned(),
            format!("{median:.1}"),
            format!("{rate:.0}"),
            bar.to_owned(),
        ]);
    }
    Ok(())
}

/// Word for a bar.
fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

/// Mails for one user of one Dovecot.
struct Side {
    pid: u32,
    work: Delivery,
    _dovecot: Dovecot,
}

impl Side {
    fn open(world: &World, subject: Subject) -> Result<Self> {
        let dovecot = world.start(subject, "lua")?;
        let mut work = Delivery::open(&dovecot, "alice")?;
        work.run(2)?;
        let pids = dovecot.pids(Delivery::SERVICE)?;
        Ok(Self {
            pid: *pids.first().context("no process `lmtp`")?,
            work,
            _dovecot: dovecot,
        })
    }

    /// Delivers a block; the time that lmtp had of a CPU.
    fn block(&mut self) -> Result<Duration> {
        let before = CpuTime::of(self.pid)?.all;
        self.work.run(MAILS)?;
        Ok(CpuTime::of(self.pid)?.all.saturating_sub(before))
    }
}

/// Memory of the process of a script, and of its server, while a million transactions go through.
pub(crate) fn memory(rounds: Option<usize>) -> Result<()> {
    let started = Receiver::Script.start()?;
    let server = Server::builder()
        .release()
        .config(&started.config)
        .start()?;
    let mut client = Client::new(options(&server, "lmtp"));
    print_head(
        "Memory of a script's process",
        &[
            "transactions",
            "process, PSS kB",
            "server, PSS kB",
            &format!("process, bar {MEMORY_BAR} of the first {TENTH}"),
        ],
    );
    let tenths = rounds.map_or(TENTHS, |rounds| rounds as u64);
    let mut sent = 0;
    let mut first_kb = None;
    for tenth in 0..=tenths {
        // The process is there after the first.
        let wanted = (tenth * TENTH).max(1);
        while sent < wanted {
            let until = (sent + SENT_AHEAD).min(wanted);
            for uid in sent..until {
                send(&mut client, uid);
            }
            acknowledged(&mut client);
            sent = until;
        }
        let handled = process::poll_until(PATIENCE, || {
            let handled = transactions(&server);
            #[expect(clippy::cast_precision_loss, reason = "a million")]
            let is_all = matches!(handled, Ok(handled) if handled >= wanted as f64);
            is_all.then_some(())
        });
        handled.context("the script does not get all transactions")?;
        let process_kb = Memory::of(host_of(&server)?)?.pss_kb;
        // What is loaded with the first of all is no part of what grows.
        if tenth == 1 {
            first_kb = Some(process_kb);
        }
        #[expect(clippy::cast_precision_loss, reason = "memory of a process")]
        let is_flat = |first: u64| process_kb as f64 <= first as f64 * MEMORY_BAR;
        let first_kb = first_kb.filter(|_| tenth > 1);
        let bar = first_kb.map_or("", |first| verdict(is_flat(first)));
        print_row(&[
            wanted.to_string(),
            process_kb.to_string(),
            Memory::of(server.pid())?.pss_kb.to_string(),
            bar.to_owned(),
        ]);
    }
    Ok(())
}

/// A new mail, in a transaction of its own.
fn send(client: &mut Client, uid: u64) {
    let value = format!(
        r#"{{"user":"user{}","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":{},"from":"Bob <bob@sender.example>","snippet":"Shall we meet?","subject":"Lunch","to":"alice@example.com"}}"#,
        uid % 1000,
        uid + 1
    );
    let id = Uuid::from_u128(u128::from(uid) + 1);
    client.push(&WireRecord {
        topic: "dovecot",
        key: format!("user{}", uid % 1000).as_bytes(),
        value: value.as_bytes(),
        time_ms: u64::try_from(dovecast_testkit::clock::now_ms()).unwrap_or(0),
        id,
        txn: id,
        txn_seq: 0,
        txn_last: true,
    });
    client.flush();
}

/// Transactions that the script has taken to their end.
fn transactions(server: &Server) -> Result<f64> {
    server.metric("dovecast_lua_transactions_total{block=\"script\"}")
}

/// The process of a server's only script.
fn host_of(server: &Server) -> Result<u32> {
    let children = process::children(server.pid())?;
    let (pid, _) = children.first().context("the script has no process")?;
    Ok(*pid)
}
