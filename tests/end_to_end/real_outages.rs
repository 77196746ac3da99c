//! A real Apache Kafka that is killed and frozen under mail.
//!
//! Where no Kafka can be had each case says so and is counted as ignored.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::topic::TopicReader;

use crate::case::cases;
use crate::real_kafka::{dovecot, start};
use crate::setup::ARRIVAL;
use crate::story::{
    FLAG_EVENTS, MAIL, Story, Told, check_alive, check_arrived_at_least_once, lost,
};

cases![
    a_killed_broker_costs_neither_events_nor_order,
    an_idempotent_producer_repeats_nothing_after_a_kill,
    a_frozen_broker_gets_everything_when_it_goes_on,
];

/// A session through the sudden death of a broker: gives the records and what was done.
fn through_a_kill(
    on: Installation,
    settings: &[(&str, &str)],
) -> Result<(TopicReader, [Told; 2], Dovecot)> {
    let mut kafka = start()?;
    kafka.create_topic("dovecot", 3)?;
    let mut client = kafka.client_settings_plaintext();
    client.extend(
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    let dovecot = dovecot(on, FLAG_EVENTS, &client)?.start()?;
    let mut stories = [
        Story::open(&dovecot, "alice", 10)?,
        Story::open(&dovecot, "bob", 7)?,
    ];
    let steps = |stories: &mut [Story; 2], count: usize| {
        (0..count).try_for_each(|_| stories.iter_mut().try_for_each(Story::step))
    };
    steps(&mut stories, 30)?;
    let mut early = TopicReader::new(&kafka.client_settings_plaintext(), "dovecot")?;
    early.read(1, ARRIVAL)?;
    // Some of these are under way when the broker dies.
    steps(&mut stories, 30)?;
    kafka.kill()?;
    steps(&mut stories, 30)?;
    kafka.restart()?;
    steps(&mut stories, 30)?;
    let told = [stories[0].told(), stories[1].told()];
    let mut reader = TopicReader::new(&kafka.client_settings_plaintext(), "dovecot")?;
    let repeated = check_arrived_at_least_once(&mut reader, &told)
        .with_context(|| format!("Dovecot's log:\n{}", dovecot.log()))?;
    println!("killed and restarted, {settings:?}: {repeated} records came twice");
    if !settings.is_empty() {
        ensure!(repeated == 0, "{repeated} records came twice");
    }
    for story in stories {
        story.logout()?;
    }
    ensure!(
        lost(&dovecot.log()) == 0,
        "the log tells of losses:\n{}",
        dovecot.log()
    );
    check_alive(&dovecot)?;
    Ok((reader, told, dovecot))
}

fn a_killed_broker_costs_neither_events_nor_order(on: Installation) -> Result<()> {
    through_a_kill(on, &[]).map(|_| ())
}

fn an_idempotent_producer_repeats_nothing_after_a_kill(on: Installation) -> Result<()> {
    through_a_kill(on, &[("enable.idempotence", "true")]).map(|_| ())
}

fn a_frozen_broker_gets_everything_when_it_goes_on(on: Installation) -> Result<()> {
    const MAILS: usize = 20;
    let kafka = start()?;
    kafka.create_topic("dovecot", 1)?;
    let settings = kafka.client_settings_plaintext();
    let dovecot = dovecot(on, "events=MessageNew", &settings)?.start()?;
    let mut lmtp = dovecot.lmtp()?;
    let mut reader = TopicReader::new(&settings, "dovecot")?;
    lmtp.deliver_ok("bob@sender.example", &["alice", "bob"], MAIL)?;
    reader.read(2, ARRIVAL)?;
    kafka.pause()?;
    for _ in 1..MAILS {
        lmtp.deliver_ok("bob@sender.example", &["alice", "bob"], MAIL)?;
    }
    kafka.resume()?;
    let told = ["alice", "bob"].map(|user| Told {
        user: user.to_owned(),
        events: (1..=MAILS).map(|uid| format!("MessageNew {uid}")).collect(),
    });
    check_arrived_at_least_once(&mut TopicReader::new(&settings, "dovecot")?, &told)?;
    lmtp.quit()?;
    let errors = dovecot.errors_in_log();
    ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:?}");
    check_alive(&dovecot)
}
