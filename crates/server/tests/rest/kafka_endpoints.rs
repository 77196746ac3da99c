//! Endpoints that are topics: from a notification to the topic, through an outage and a restart;
//! who may have one.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::{Builder, Server};
use dovecast_testkit::topic::TopicReader;
use serde_json::{Value, json};

use crate::deliveries::{ARRIVAL, send};
use crate::drivers::account;
use crate::setup::{World, cases, text};

cases![
    what_is_for_a_topic_comes_through_an_outage_and_a_restart,
    which_clusters_and_topics_an_account_may_use_is_the_operators,
    a_cluster_that_cannot_be_used_ends_the_start_and_no_value_is_shown,
];

/// A server whose account 7 may write to topics of a cluster, and where the password is.
fn with_cluster(builder: Builder, brokers: &str) -> Result<(Builder, tempfile::NamedTempFile)> {
    let password = tempfile::NamedTempFile::new()?;
    std::fs::write(password.path(), "s3cret\n")?;
    let builder = builder.config(&format!(
        "[dispatch]\ntimeout_seconds = 3\n\
         [kafka_clusters.copies]\nbrokers = ['{brokers}']\naccounts = ['7']\n\
         topics = ['mail.{{account}}.*']\n\
         [kafka_clusters.copies.properties]\n'reconnect.backoff.max.ms' = 200\n\
         'sasl.password_file' = '{}'",
        password.path().display()
    ));
    Ok((builder, password))
}

fn endpoint(settings: &Value) -> Value {
    json!({"name": "copy", "driver": "kafka", "settings": settings, "filter": {}})
}

fn settings() -> Value {
    json!({"cluster": "copies", "topic": "mail.7.new"})
}

fn owed(server: &Server) -> Option<u64> {
    let printed = server.run(["endpoints", "--json"]).ok()?;
    let lines: Value = serde_json::from_str(&printed).ok()?;
    lines[0]["owed_deliveries"].as_u64()
}

fn what_is_for_a_topic_comes_through_an_outage_and_a_restart(world: &World) -> Result<()> {
    let broker = MockBroker::start(1)?;
    broker.create_topic("mail.7.new", 1)?;
    let (builder, _password) = with_cluster(world.fresh()?.0, &broker.bootstrap_servers())?;
    let mut server = builder.start()?;
    let user = account(&server, "7")?;
    let made = user.post("/endpoints", &json!({"endpoint": endpoint(&settings())}))?;
    let made = made.with(201)?;
    let shown = &made.json["data"]["attributes"];
    ensure!(shown["driver"] == "kafka" && shown["settings"] == settings());
    ensure!(shown["url"].is_null() && shown["type"] == "Endpoint");
    ensure!(made.json["meta"] == json!({}), "it signs nothing");
    let id = text(&made.json["data"]["id"])?;
    user.post(&format!("/endpoints/{id}/test"), &json!({}))?
        .with(204)?;
    let at = ["--timestamp", "2026-11-20T10:00:00Z", "--message"];
    send(&server, "7", &[&at[..], &["there"]].concat())?;
    let client = [("bootstrap.servers".to_owned(), broker.bootstrap_servers())];
    TopicReader::new(&client, "mail.7.new")?.read(2, ARRIVAL)?;
    broker.set_down()?;
    send(&server, "7", &[&at[..], &["away"]].concat())?;
    poll_until(ARRIVAL, || (owed(&server) == Some(1)).then_some(()))
        .with_context(|| server.server_log())?;
    // It is owed while it is under way.
    let attempts = poll_until(ARRIVAL, || {
        let attempts = server.run(["attempts", &id]).ok()?;
        let is_over = attempts.contains("the cluster cannot be reached");
        is_over.then_some(attempts)
    });
    let attempts = attempts.with_context(|| server.server_log())?;
    ensure!(server.stop()?.success(), "{}", server.server_log());
    server.start_again()?;
    broker.set_up()?;
    let records = TopicReader::new(&client, "mail.7.new")?.read(3, ARRIVAL)?;
    let expected = |message: &str| {
        format!(
            r#"{{"application":"a","event_type":"e","level":null,"timestamp":"2026-11-20T10:00:00.000Z","message":"{message}","account_id":"7"}}"#
        )
    };
    for (record, message) in records[1..].iter().zip(["there", "away"]) {
        ensure!(record.value == expected(message).as_bytes(), "{record}");
        ensure!(record.header("dovecast-id").is_some(), "{record:?}");
    }
    let listed = server.run(["endpoints"])?;
    let shown = r#"kafka {"cluster":"copies","topic":"mail.7.new"}"#;
    ensure!(listed.contains(shown), "{listed}");
    for text in [&listed, &attempts, &server.server_log()] {
        ensure!(!text.contains("s3cret"), "{text}");
    }
    Ok(())
}

fn which_clusters_and_topics_an_account_may_use_is_the_operators(world: &World) -> Result<()> {
    let (builder, _password) = with_cluster(world.fresh()?.0, "127.0.0.1:1")?;
    let server = builder.start()?;
    let (user, other) = (account(&server, "7")?, account(&server, "8")?);
    let place = |key: &str| format!("/data/attributes/{key}");
    let not_yours = "names `copies`, which is no cluster that this account may use";
    other
        .post("/endpoints", &json!({"endpoint": endpoint(&settings())}))?
        .refused(422, not_yours, &place("settings/cluster"))?;
    let id = user.endpoint(&endpoint(&settings()))?;
    let path = format!("/endpoints/{id}");
    let webhook_only = "is not for the driver `kafka`";
    for (change, detail, key) in [
        (
            json!({"settings": {"topic": "mail.8.new"}}),
            "names `mail.8.new`, which this account may not write to",
            "settings/topic",
        ),
        (
            json!({"settings": {"cluster": "gone"}}),
            "names `gone`, which is no cluster that this account may use",
            "settings/cluster",
        ),
        (
            json!({"settings": {"topic": null}}),
            "is missing",
            "settings/topic",
        ),
        (
            json!({"settings": {"acks": "0"}}),
            "is not known to this driver",
            "settings/acks",
        ),
        (json!({"url": "http://a/"}), webhook_only, "url"),
        (
            json!({"timeout_seconds": 3}),
            webhook_only,
            "timeout_seconds",
        ),
        (json!({"data": {}}), webhook_only, "data"),
        (
            json!({"driver": "webhook"}),
            "is `kafka`, and cannot be changed",
            "driver",
        ),
    ] {
        user.put(&path, &json!({ "endpoint": change }))?
            .refused(422, detail, &place(key))?;
    }
    user.post(&format!("{path}/secret"), &json!({}))?.refused(
        422,
        "is `kafka`, and cannot be changed",
        &place("driver"),
    )?;
    let moved = json!({"endpoint": {"name": "moved", "settings": {"topic": "mail.7.old"}}});
    let moved = user.put(&path, &moved)?.with(200)?;
    let shown = &moved.json["data"]["attributes"];
    let expected = json!({"cluster": "copies", "topic": "mail.7.old"});
    ensure!(shown["settings"] == expected && shown["name"] == "moved");
    Ok(())
}

fn a_cluster_that_cannot_be_used_ends_the_start_and_no_value_is_shown(world: &World) -> Result<()> {
    for (property, expected) in [
        (
            "'acks' = 's3cret'",
            "`acks` of the kafka cluster `copies` is set by dovecast",
        ),
        (
            "'no.such' = 's3cret'",
            "the kafka cluster `copies` cannot be used: unknown librdkafka property `no.such`",
        ),
    ] {
        let (builder, _password) = with_cluster(world.fresh()?.0, "127.0.0.1:1")?;
        let mut server = builder.start()?;
        server.stop()?;
        let file = server.config_file();
        let config = std::fs::read_to_string(file)?;
        std::fs::write(file, format!("{config}\n{property}\n"))?;
        let ended = server.start_and_end()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(!ended.status.success() && said.contains(expected), "{said}");
        ensure!(!said.contains("s3cret"), "{said}");
    }
    Ok(())
}
