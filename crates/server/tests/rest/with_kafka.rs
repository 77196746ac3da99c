//! What comes over HTTP where the log is Kafka: it is taken at once, and shipped when Kafka is
//! there.

use std::time::Duration;

use anyhow::{Result, ensure};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::topic::TopicReader;
use serde_json::{Value, json};

use crate::ox::{PASSWORD, login, mail, put};
use crate::setup::{World, bearer, cases, text};
use crate::sources::message;

cases![
    with_kafka_it_is_taken_whether_kafka_is_there_or_not,
    with_kafka_an_array_keeps_its_order_and_one_too_large_stops_no_other,
];

const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

fn with_kafka_it_is_taken_whether_kafka_is_there_or_not(world: &World) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let brokers = broker.bootstrap_servers();
    let kafka = format!("[log]\nkind = 'kafka'\n[kafka]\nbrokers = ['{brokers}']");
    let credentials = format!("[ox]\nuser = 'dovecot'\npassword = '{PASSWORD}'");
    let server = world
        .fresh()?
        .0
        .config(&credentials)
        .config(&kafka)
        .start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let taken = |uid| {
        let answer = put(&server, Some(&login()), mail("alice", uid).to_string())?;
        ensure!(answer.status == 200, "{answer:?}: {}", server.server_log());
        admin.post("/messages", &message("1"))?.with(201)
    };
    // The same mail twice.
    taken(1)?;
    taken(1)?;
    broker.set_down()?;
    let said = taken(2)?;
    broker.set_up()?;
    let settings = [("bootstrap.servers".to_owned(), brokers)];
    let events = TopicReader::new(&settings, "dovecot")?.read(2, ARRIVAL)?;
    let uids: Vec<u64> = events
        .iter()
        .filter_map(|event| uid(&event.value))
        .collect();
    ensure!(uids == [1, 2], "{events:?}");
    let sent = TopicReader::new(&settings, "hooks.outbox")?.read(3, ARRIVAL)?;
    ensure!(sent.len() == 3);
    // What the commands know by its id they find there.
    let id = text(&said.json["data"]["id"])?;
    let explained = server.run(["explain", &id, "--from", "beginning"])?;
    ensure!(explained == "the account has no endpoints\n", "{explained}");
    Ok(())
}

fn with_kafka_an_array_keeps_its_order_and_one_too_large_stops_no_other(
    world: &World,
) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let brokers = broker.bootstrap_servers();
    let kafka = format!(
        "[log]\nkind = 'kafka'\n[kafka]\nbrokers = ['{brokers}']\n[kafka.properties]\n'message.max.bytes' = 20000"
    );
    let server = world.fresh()?.0.config(&kafka).start()?;
    let admin = bearer(&server, &server.admin_token()?);
    broker.set_down()?;
    let numbered = |number: usize| {
        let mut one = message("1");
        one["message"] = json!({"number": number});
        one
    };
    let mut items: Vec<Value> = (0..100).map(numbered).collect();
    items[40]["message"] = json!("x".repeat(30_000));
    let said = admin.post("/messages", &json!(items))?.with(207)?;
    let refused = &said.json["results"][40];
    let detail = text(&refused["errors"][0]["detail"])?;
    ensure!(
        refused["status"] == "413"
            && refused["errors"][0]["source"]["pointer"] == "/40"
            && detail.contains("takes 18976 at most"),
        "{refused}"
    );
    broker.set_up()?;
    let settings = [("bootstrap.servers".to_owned(), brokers)];
    let sent = TopicReader::new(&settings, "hooks.outbox")?.read(99, ARRIVAL)?;
    let number = |value: &[u8]| -> Option<u64> {
        serde_json::from_slice::<Value>(value).ok()?["message"]["number"].as_u64()
    };
    let sent: Vec<u64> = sent.iter().filter_map(|one| number(&one.value)).collect();
    let expected: Vec<u64> = (0..100).filter(|number| *number != 40).collect();
    ensure!(sent == expected, "{sent:?}");
    Ok(())
}

fn uid(value: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Value>(value).ok()?["uid"].as_u64()
}
