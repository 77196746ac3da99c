//! A relay with Kafka behind it: what mail processes hand over arrives in a real Kafka, whatever is
//! killed meanwhile.
//!
//! Where no Kafka can be had each case says so and is counted as ignored.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use dovecast_testkit::topic::TopicReader;

use crate::case::cases;
use crate::real_kafka::start;
use crate::relay::{server_for, soak};
use crate::setup::{ARRIVAL, with_plugin};
use crate::story::{FLAG_EVENTS, Story, check_alive, check_arrived, lost};

cases![
    what_a_relay_takes_arrives_in_kafka_once_and_in_order,
    a_kafka_that_is_away_for_a_while_gets_everything_in_order,
    a_slow_kafka_gets_everything_in_order_and_mail_does_not_notice,
    a_relay_that_is_killed_while_it_ships_leaves_nothing_out_and_repeats_nothing,
    a_relay_that_is_killed_with_a_batch_on_its_way_repeats_nothing,
];

struct Host {
    kafka: RealKafka,
    dovecot: Dovecot,
    server: Server,
}

impl Host {
    fn start(on: Installation) -> Result<Self> {
        let kafka = start()?;
        kafka.create_topic("dovecot", 3)?;
        let dovecot = with_plugin(on, Build::Dev)?
            .relay()
            .driver(&format!("kafka:{FLAG_EVENTS}"))
            .start()?;
        let brokers = kafka.bootstrap_plaintext();
        let server = server_for(&dovecot)
            .config(&format!(
                "[log]\nkind = \"kafka\"\n[kafka]\nbrokers = [{brokers:?}]"
            ))
            .start()?;
        Ok(Self {
            kafka,
            dovecot,
            server,
        })
    }

    fn reader(&self) -> Result<TopicReader> {
        TopicReader::new(&self.kafka.client_settings_plaintext(), "dovecot")
    }

    fn check_mail(&self) -> Result<()> {
        let lost = lost(&self.dovecot.log());
        ensure!(lost == 0, "Dovecot's log tells of {lost} lost events");
        check_alive(&self.dovecot)
    }
}

fn what_a_relay_takes_arrives_in_kafka_once_and_in_order(on: Installation) -> Result<()> {
    let host = Host::start(on)?;
    let mut alice = Story::open(&host.dovecot, "alice", 10)?;
    let mut bob = Story::open(&host.dovecot, "bob", 10)?;
    alice.steps(100)?;
    bob.steps(100)?;
    let told = [alice.logout()?, bob.logout()?];
    check_arrived(&mut host.reader()?, &told)?;
    // The commands speak to the same cluster.
    let topics = host.server.run(["topics"])?;
    ensure!(topics.contains("dovecot"), "{topics}");
    let records = host.server.records("dovecot")?;
    ensure!(records.len() == 200, "tail shows {} records", records.len());
    host.check_mail()
}

fn a_kafka_that_is_away_for_a_while_gets_everything_in_order(on: Installation) -> Result<()> {
    let mut host = Host::start(on)?;
    let mut alice = Story::open(&host.dovecot, "alice", 10)?;
    alice.steps(30)?;
    host.reader()?.read(1, ARRIVAL)?;
    alice.steps(30)?;
    host.kafka.kill()?;
    alice.steps(500)?;
    soak(|| alice.steps(20))?;
    host.kafka.restart()?;
    alice.steps(30)?;
    check_arrived(&mut host.reader()?, &[alice.logout()?])?;
    host.check_mail()
}

fn a_relay_that_is_killed_while_it_ships_leaves_nothing_out_and_repeats_nothing(
    on: Installation,
) -> Result<()> {
    let mut host = Host::start(on)?;
    let mut alice = Story::open(&host.dovecot, "alice", 10)?;
    for _ in 0..5 {
        alice.steps(50)?;
        host.server.kill()?;
        alice.steps(5)?;
        host.server.start_again()?;
    }
    alice.steps(5)?;
    check_arrived(&mut host.reader()?, &[alice.logout()?])?;
    let done = process::poll_until(ARRIVAL, || {
        let text = host.server.get("/metrics").ok()?.1;
        let lag: f64 = text
            .lines()
            .filter(|line| line.starts_with("dovecast_log_group_lag_records{group=\"kafka\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        (lag == 0.0 && text.contains("dovecast_ship_records_total")).then_some(())
    });
    done.context("the lag does not become 0")?;
    host.check_mail()
}

/// A broker that freezes again and again answers each request late.
fn a_slow_kafka_gets_everything_in_order_and_mail_does_not_notice(on: Installation) -> Result<()> {
    let host = Host::start(on)?;
    let mut alice = Story::open(&host.dovecot, "alice", 10)?;
    for round in 1..=10 {
        host.kafka.pause()?;
        // Answered while the broker does nothing at all.
        let worked = alice.steps(40);
        host.kafka.resume()?;
        worked?;
        if round % 3 == 0 {
            host.reader()?.read(round * 40, ARRIVAL)?;
        }
    }
    check_arrived(&mut host.reader()?, &[alice.logout()?])?;
    host.check_mail()
}

/// What the relay has written to its connection is taken by the frozen broker when it goes on, and
/// never acknowledged to anyone.
fn a_relay_that_is_killed_with_a_batch_on_its_way_repeats_nothing(on: Installation) -> Result<()> {
    let mut host = Host::start(on)?;
    let mut alice = Story::open(&host.dovecot, "alice", 10)?;
    let mut known = 0.0;
    for round in 1..=3 {
        alice.steps(20)?;
        host.reader()?.read(round * 70 - 50, ARRIVAL)?;
        host.kafka.pause()?;
        let worked = alice.steps(50).and_then(|()| on_its_way(&host.server));
        let killed = host.server.kill();
        host.kafka.resume()?;
        worked.and(killed)?;
        host.server.start_again()?;
        host.reader()?.read(round * 70, ARRIVAL)?;
        known += host.server.metric("dovecast_ship_known_records_total")?;
    }
    check_arrived(&mut host.reader()?, &[alice.logout()?])?;
    ensure!(
        known > 0.0,
        "no record was found in Kafka after a kill: this tests nothing"
    );
    host.check_mail()
}

/// Waits until nothing moves any more: the relay has all events and waits for Kafka's answer.
fn on_its_way(server: &Server) -> Result<()> {
    let mut before = -1.0;
    process::poll_until(ARRIVAL, || {
        let queued = server.metric("dovecast_relay_records_total").ok()?;
        let is_still = queued.to_bits() == f64::to_bits(before);
        before = queued;
        is_still.then_some(())
    })
    .context("the relay does not come to rest")
}
