//! Mailbox transactions that a script of each of three nodes gets: whatever is killed, each of them
//! is handled whole, and those of a user in order; in the end nothing is owed, dead or uncommitted.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use dovecast_event::{RecordHeaders, UnixMillis};
use dovecast_log::kafka::{KafkaLog, KafkaOptions};
use dovecast_log::{Header, NewRecord};
use dovecast_testkit::server::Server;
use dovecast_testkit::{clock, process};
use uuid::Uuid;

use crate::cases::cases;
use crate::cluster::{NODES, OWED, PARTITIONS, PATIENCE, Services, eventually, lag};
use crate::load::{KEYS, Load};

cases![transactions_are_handled_in_order_whatever_is_killed];

/// Events of each transaction.
const EVENTS: u32 = 3;
/// Transactions that are written together: a script is slower than webhooks.
const AT_A_TIME: u32 = 2;
/// Writes a line for each transaction: whose, the UIDs of its events, how it has ended.
const SCRIPT: &str = r#"
function dovecot_lua_notify_begin_txn(user)
  return { user = user.username, uids = {} }
end
function dovecot_lua_notify_event_message_new(ctx, event)
  table.insert(ctx.uids, string.format("%d", event.uid))
end
function dovecot_lua_notify_end_txn(ctx, success)
  local out = io.open("OUT", "a")
  out:write(ctx.user, " ", table.concat(ctx.uids, ","), " ", tostring(success), "\n")
  out:close()
end
"#;

/// The transaction of a number, one after the other of each user.
fn transaction(topic: &str, number: u32) -> Vec<NewRecord> {
    let user = format!("user{}", number % KEYS);
    let first = number / KEYS * EVENTS + 1;
    let txn = Uuid::now_v7();
    let event = |seq: u32| {
        let now_ms = clock::now_ms();
        let mut headers = Vec::new();
        RecordHeaders {
            id: Uuid::now_v7(),
            time: UnixMillis(u64::try_from(now_ms).unwrap_or_default()),
            host: "mail1",
            txn,
            txn_seq: seq,
            txn_last: seq + 1 == EVENTS,
        }
        .write(&mut Vec::new(), |name, value| {
            headers.push(Header {
                name: Arc::from(name),
                value: value.to_vec().into(),
            });
        });
        let uid = first + seq;
        let value = format!(
            r#"{{"user":"{user}","mailbox":"INBOX","event":"MessageNew","uidvalidity":7,"uid":{uid}}}"#
        );
        NewRecord {
            topic: Arc::from(topic),
            key: Some(user.clone().into()),
            value: value.into(),
            headers,
            timestamp_ms: now_ms,
            id: None,
        }
    };
    (0..EVENTS).map(event).collect()
}

/// The UIDs of a user's transaction, as the script writes them.
fn uids(number: u32) -> String {
    let first = number * EVENTS + 1;
    let uids = (first..first + EVENTS).map(|uid| uid.to_string());
    uids.collect::<Vec<_>>().join(",")
}

/// What scripts have handled.
#[derive(Default)]
struct Handled {
    /// The transactions of each user, in the order in which they were handled for the first time.
    by_user: BTreeMap<String, Vec<String>>,
    /// How often one was handled that had been handled before.
    again: usize,
}

impl Handled {
    fn read(out: &Path) -> Result<Self> {
        let mut handled = Self::default();
        let text = fs::read_to_string(out).unwrap_or_default();
        for line in text.lines() {
            let (user, rest) = line.split_once(' ').context("no user")?;
            let (uids, success) = rest.split_once(' ').context("no end")?;
            ensure!(success == "true", "{line}");
            let of_user = handled.by_user.entry(user.to_owned()).or_default();
            if of_user.iter().any(|one| one == uids) {
                handled.again += 1;
            } else {
                of_user.push(uids.to_owned());
            }
        }
        Ok(handled)
    }

    fn transactions(&self) -> usize {
        self.by_user.values().map(Vec::len).sum()
    }
}

/// Kills the process of a node's script.
fn kill_script(node: &Server) -> Result<()> {
    let children = process::children(node.pid())?;
    let (script, _) = children.first().context("no process of a script")?;
    process::signal(*script, "KILL")
}

fn transactions_are_handled_in_order_whatever_is_killed(services: &mut Services) -> Result<()> {
    let name = "transactions";
    services.kafka.create_topic(name, PARTITIONS)?;
    let dir = tempfile::tempdir()?;
    let (script, out) = (dir.path().join("push.lua"), dir.path().join("out"));
    fs::write(&script, SCRIPT.replace("OUT", &out.display().to_string()))?;
    let database = services.postgres.database()?;
    let more = format!(
        "event_topics = ['{name}']\n[push_notification.teller]\ndriver = 'lua:file={}'\n",
        script.display()
    );
    let mut nodes = Vec::new();
    for number in 0..usize::from(NODES) {
        let node = services.node(number, (name, &database), &more)?;
        nodes.push(node.start()?);
    }
    let kafka = KafkaOptions {
        brokers: services.kafka.bootstrap_plaintext(),
        properties: Vec::new(),
    };
    let log = KafkaLog::connect(&kafka)?;
    let load = Load::of(log, AT_A_TIME, move |number| transaction(name, number))?;
    let handles = |node: &Server| {
        let transactions = "dovecast_lua_transactions_total{block=\"teller\"}";
        let before = node.metric(transactions).unwrap_or_default();
        node.metric_is(transactions, |count| count >= before + 20.0)
    };
    for node in &nodes {
        handles(node)?;
    }
    nodes[1].kill()?;
    load.goes_on(200)?;
    kill_script(&nodes[0])?;
    handles(&nodes[0])?;
    nodes[1].start_again()?;
    handles(&nodes[1])?;
    let stopped = nodes[2].stop()?;
    ensure!(stopped.success(), "{stopped}");
    load.goes_on(200)?;
    nodes[2].start_again()?;
    handles(&nodes[2])?;
    kill_script(&nodes[2])?;
    nodes[0].kill()?;
    nodes[0].start_again()?;
    let sent = load.stop()?;
    let count = || Handled::read(&out).map(|handled| handled.transactions());
    let what = || format!("{:?} of {sent} transactions are handled", count());
    eventually(PATIENCE, what, || Ok(count()? >= sent as usize))?;
    // The owed and the dead, and what is not committed.
    let log = KafkaLog::connect(&kafka)?;
    let left = || -> Result<(String, u64)> {
        let owed = services.postgres.query(&database, OWED)?;
        Ok((owed.trim().to_owned(), lag(&log, name)?))
    };
    let what = || format!("nothing is left: {:?}", left());
    eventually(PATIENCE, what, || Ok(left()? == ("0|0|0".to_owned(), 0)))?;
    let all = Handled::read(&out)?;
    for (user, transactions) in &all.by_user {
        let made = (0_u32..).map(uids).take(transactions.len());
        let made: Vec<String> = made.collect();
        ensure!(*transactions == made, "{user}: {transactions:?}");
    }
    ensure!(all.transactions() == sent as usize, "{sent} were sent");
    println!("{name}: {sent} transactions, {} handled again", all.again);
    Ok(())
}
