//! What the topic of notifications takes: a node has asked Kafka, and refuses what would be lost;
//! the doctor names the topic whose settings lose records.

use anyhow::{Result, ensure};
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::server::Server;
use serde_json::json;

use crate::cases::cases;
use crate::cluster::{PATIENCE, Services, eventually};

cases![what_the_topic_does_not_take_is_refused_and_the_doctor_names_its_settings,];

/// A topic of its own: the settings of the others' are Kafka's defaults.
const SMALL: &str = "hooks.small";
const SETTINGS: [(&str, &str); 3] = [
    ("max.message.bytes", "20000"),
    ("retention.ms", "3600000"),
    ("message.timestamp.type", "CreateTime"),
];

/// Sends a notification whose message has so many bytes.
fn send(node: &Server, admin: &str, bytes: usize) -> Result<Answer> {
    let body = json!({
        "application": "nodes", "event_type": "graded", "level": null, "account_id": "limits",
        "message": "x".repeat(bytes)});
    let request = Request::new("POST", "/api/hooks/messages")
        .header("Authorization", &format!("Bearer {admin}"))
        .header("Content-Type", "application/json")
        .body(body.to_string());
    node.ask(&request)
}

fn what_the_topic_does_not_take_is_refused_and_the_doctor_names_its_settings(
    services: &mut Services,
) -> Result<()> {
    services.kafka.create_topic_with(SMALL, 1, &SETTINGS)?;
    let database = services.postgres.database()?;
    let topic = format!("outbox_topic = '{SMALL}'\n");
    let place = ("limits", database.as_str());
    let node = services.node(0, place, &topic)?.start()?;
    let admin = node.admin_token()?;
    // Until the node has asked, the producer's limit is the only one.
    let refused = || "30 kB are refused".to_owned();
    eventually(PATIENCE, refused, || {
        let answer = send(&node, &admin, 30_000)?;
        if answer.status == 201 {
            return Ok(false);
        }
        let text = &answer.body;
        ensure!(
            answer.status == 413
                && text.contains("takes 18976 at most")
                && text.contains("max.message.bytes"),
            "{answer:?}"
        );
        Ok(true)
    })?;
    let taken = || "10 kB are taken".to_owned();
    eventually(PATIENCE, taken, || {
        Ok(send(&node, &admin, 10_000)?.status == 201)
    })?;

    let named = [
        "has retention.ms=3600000: records that are not read within",
        "has message.timestamp.type=CreateTime: Kafka removes records by the clock of their sender, set `LogAppendTime`",
        "has max.message.bytes=20000: larger notifications are refused",
    ];
    let examined = || "the doctor names what is wrong".to_owned();
    eventually(PATIENCE, examined, || {
        // It may find more wrong with this host, or no Dovecot.
        let output = node.command(["doctor"]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        for what in named {
            let warning = format!("warning: topic `{SMALL}` {what}");
            ensure!(said.contains(&warning), "{warning:?} is not in {said}");
        }
        Ok(true)
    })
}
