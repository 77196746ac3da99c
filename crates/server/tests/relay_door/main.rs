//! The relay of `dovecast serve`, to a mail process of a user who is neither root nor trusted with
//! everything: what he may send is what the configuration says.
//!
//! Only the thread that sends is that user: to tell all threads of it, as the C library does, would
//! interrupt those of the mock broker, which ends them.

mod ids;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dovecast_relay::client::{Client, News, Options};
use dovecast_relay::wire::WireRecord;
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
#[cfg(feature = "kafka")]
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
#[cfg(feature = "kafka")]
use dovecast_testkit::topic::TopicReader;
use dovecast_testkit::{PATIENCE, as_user};
use nix::unistd::{Uid, User};
#[cfg(feature = "kafka")]
use serde_json::Value;
use uuid::Uuid;

/// A user whom every host knows, and who is nobody's.
const MAIL_USER: u32 = 65_534;

/// A notification of an account, as only the server writes it.
const FORGED: &str = r#"{"application":"a","event_type":"e","level":null,"timestamp":"2026-01-01T00:00:00Z","account_id":"1002","message":{"pay_to":"forged"}}"#;

/// A server whose relay says of itself what `section` says.
fn server(dir: &Path, section: &str) -> Result<Server> {
    Server::builder()
        .binary(env!("CARGO_BIN_EXE_dovecast"))
        .relay(dir.join("relay.sock"), dir.join("spill"))
        .config(section)
        .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
        .start()
}

/// What a client of the mail user is told of when it has sent records to these topics, each with
/// its key.
fn sent(dir: &Path, records: &[(&str, &str, &str)]) -> Result<Vec<News>> {
    sent_with_ids(dir, records.iter().map(|record| (Uuid::now_v7(), *record)))
}

/// What such a client is told of when it has chosen the ids itself.
fn sent_with_ids<'r>(
    dir: &Path,
    records: impl Iterator<Item = (Uuid, (&'r str, &'r str, &'r str))> + Send,
) -> Result<Vec<News>> {
    as_user(MAIL_USER, || {
        let mut client = Client::new(Options {
            socket: dir.join("relay.sock"),
            spill_dir: dir.join("spill"),
            queue_bytes: 1 << 20,
            spill_bytes: 1 << 20,
            host: "mail1".to_owned(),
            program: "lmtp".to_owned(),
        });
        for (id, (topic, key, value)) in records {
            client.push(&WireRecord {
                topic,
                key: key.as_bytes(),
                value: value.as_bytes(),
                time_ms: 0,
                id,
                txn: Uuid::nil(),
                txn_seq: 0,
                txn_last: true,
            });
        }
        client.flush();
        client.finish(Instant::now() + PATIENCE);
        Ok(client.take_news())
    })
}

fn event(user: &str) -> String {
    format!(r#"{{"user":"{user}","mailbox":"INBOX","event":"MessageNew","uidvalidity":1,"uid":1}}"#)
}

/// How many records were lost, and why.
fn lost(news: &[News]) -> Option<(u64, &str)> {
    match news {
        [News::Lost { records, reason }] => Some((*records, reason)),
        _ => None,
    }
}

/// How many records were lost, for whatever reasons.
fn all_lost(news: &[News]) -> u64 {
    let lost = |news: &News| match news {
        News::Lost { records, .. } => *records,
        News::Trouble(_) => 0,
    };
    news.iter().map(lost).sum()
}

/// Who it was stands beside a record.
fn is_of_the_mail_user(server: &Server) -> Result<()> {
    let record = server.records("dovecot")?.remove(0);
    let uid = format!("\"value\":\"{MAIL_USER}\"");
    ensure!(
        record.contains("dovecast-uid") && record.contains(&uid),
        "{record}"
    );
    Ok(())
}

/// The account gets what it is sent, and nothing else.
fn gets_what_it_is_sent(server: &Server, account: &str, sink: &HookEndpoint) -> Result<()> {
    let body = r#"{"application":"a","event_type":"e","level":null,"message":"real"}"#;
    let request = Request::new("POST", "/api/hooks/messages")
        .header("Authorization", &format!("Bearer {account}"))
        .header("Content-Type", "application/json")
        .body(body);
    let answer = server.ask(&request)?;
    ensure!(answer.status == 201, "{answer:?}");
    let hooks = sink.wait_for(1, PATIENCE)?;
    ensure!(hooks[0].body.contains("real"), "{hooks:?}");
    ensure!(server.values("hooks.outbox")?.len() == 1);
    Ok(())
}

/// He writes events, and no notification of an account, which would be signed with its secret.
fn no_notification_is_forged(dir: &Path) -> Result<()> {
    let server = server(dir, &format!("allow = ['{MAIL_USER}']"))?;
    let account = server.account_token("1002")?;
    let sink = HookEndpoint::start()?;
    server.endpoint(&account, ("e", &sink.url()), "true")?;
    let news = sent(
        dir,
        &[
            ("dovecot", "alice", &event("alice")),
            ("hooks.outbox", "1002", FORGED),
        ],
    )?;
    let reason =
        "the relay does not take them: the topic `hooks.outbox` is not in `topics` of [relay]";
    ensure!(lost(&news) == Some((1, reason)), "{news:?}");
    ensure!(server.values("dovecot")? == [event("alice")]);
    is_of_the_mail_user(&server)?;
    server.log_with(&["hooks.outbox", &MAIL_USER.to_string()])?;
    gets_what_it_is_sent(&server, &account, &sink)
}

/// Where the log is Kafka, what he sends goes on with all that the server may do there.
#[cfg(feature = "kafka")]
fn no_topic_of_kafka_is_written_but_that_of_events(dir: &Path) -> Result<()> {
    let broker = MockBroker::start(1)?;
    let brokers = broker.bootstrap_servers();
    let server = server(
        dir,
        &format!(
            "allow = ['{MAIL_USER}']\n[log]\nkind = 'kafka'\n[kafka]\nbrokers = ['{brokers}']"
        ),
    )?;
    let refused = ["hooks.outbox", "payments", "__consumer_offsets"];
    let news = sent(
        dir,
        &[
            ("hooks.outbox", "1002", FORGED),
            ("payments", "1002", "{}"),
            ("__consumer_offsets", "1002", "{}"),
            ("dovecot", "alice", &event("alice")),
        ],
    )?;
    ensure!(all_lost(&news) == 3, "{news:?}");
    let settings = [("bootstrap.servers".to_owned(), brokers)];
    let mut events = TopicReader::new(&settings, "dovecot")?;
    let arrived = events.read(1, PATIENCE)?;
    ensure!(arrived[0].value == event("alice").as_bytes(), "{arrived:?}");
    // Nothing else waits to be shipped, nor is it there.
    let spool: Value = serde_json::from_str(&server.run(["topics", "--spool", "--json"])?)?;
    for topic in spool.as_array().context("no list")? {
        let name = topic["topic"].as_str().context("no name")?;
        ensure!(
            !["payments", "__consumer_offsets"].contains(&name),
            "{spool}"
        );
        let partitions = topic["partitions"].as_array().context("no partitions")?;
        let is_empty = partitions.iter().all(|one| one["end"] == 0);
        ensure!(name == "dovecot" || is_empty, "{spool}");
    }
    for topic in refused {
        let there = TopicReader::new(&settings, topic)?.drain()?;
        ensure!(there.is_empty(), "{topic}: {there:?}");
    }
    ensure!(events.drain()?.is_empty(), "more than one event");
    Ok(())
}

/// With `bind_user` he speaks of himself only.
fn nobody_is_named_but_himself(dir: &Path) -> Result<()> {
    let user = User::from_uid(Uid::from_raw(MAIL_USER))?;
    let name = user.context("the host does not know the user")?.name;
    let server = server(dir, &format!("allow = ['{MAIL_USER}']\nbind_user = true"))?;
    let news = sent(
        dir,
        &[
            ("dovecot", &name, &event(&name)),
            ("dovecot", "ceo@example.org", &event("ceo@example.org")),
            ("dovecot", &name, &event("ceo@example.org")),
        ],
    )?;
    let (records, reason) = lost(&news).with_context(|| format!("{news:?}"))?;
    ensure!(records == 2 && reason.contains("bind_user"), "{news:?}");
    ensure!(server.values("dovecot")? == [event(&name)]);
    Ok(())
}

/// What he leaves in a spill file is what he sends.
fn nothing_is_forged_by_a_spill_file(dir: &Path) -> Result<()> {
    let user = User::from_uid(Uid::from_raw(MAIL_USER))?;
    let name = user.context("the host does not know the user")?.name;
    let mut server = server(dir, &format!("allow = ['{MAIL_USER}']\nbind_user = true"))?;
    let account = server.account_token("1002")?;
    let sink = HookEndpoint::start()?;
    server.endpoint(&account, ("e", &sink.url()), "true")?;
    ensure!(server.stop()?.success());
    let spilled = [
        ("dovecot", &*name, &*event(&name)),
        ("hooks.outbox", "1002", FORGED),
        ("dovecot", "ceo@example.org", &*event("ceo@example.org")),
    ];
    let news = sent(dir, &spilled)?;
    ensure!(lost(&news).is_none(), "{news:?}");
    server.start_again()?;
    server.metric_is("dovecast_relay_spill_kept_records_total", |kept| {
        kept >= 2.0
    })?;
    let arrived = poll_until(PATIENCE, || {
        let values = server.values("dovecot").ok()?;
        (!values.is_empty()).then_some(values)
    });
    ensure!(arrived == Some(vec![event(&name)]), "{arrived:?}");
    is_of_the_mail_user(&server)?;
    gets_what_it_is_sent(&server, &account, &sink)
}

/// Who is not allowed is told so, and nothing of his is lost: it is taken in once he is.
fn who_may_not_send_is_told_why(dir: &Path) -> Result<()> {
    let mut server = server(dir, "allow = ['root']")?;
    let news = sent(dir, &[("dovecot", "alice", &event("alice"))])?;
    let told = format!("it refuses: uid {MAIL_USER} may not send");
    let is_told = |news: &News| matches!(news, News::Trouble(text) if text.contains(&told));
    ensure!(
        news.iter().any(is_told) && lost(&news).is_none(),
        "{news:?}"
    );
    server.log_with(&["uid", &MAIL_USER.to_string()])?;
    ensure!(
        server
            .values("dovecot")
            .map_or(true, |values| values.is_empty())
    );
    ensure!(server.stop()?.success());
    let config = fs::read_to_string(server.config_file())?;
    let allowed = config.replace("allow = ['root']", &format!("allow = ['{MAIL_USER}']"));
    fs::write(server.config_file(), allowed)?;
    server.start_again()?;
    let arrived = poll_until(PATIENCE, || {
        let values = server.values("dovecot").ok()?;
        (values == [event("alice")]).then_some(())
    });
    arrived.with_context(|| server.server_log())
}

#[test]
fn a_mail_user_sends_what_the_configuration_says_and_nothing_else() -> Result<()> {
    if !dovecast_testkit::may_act_as_others("the relay's door") {
        return Ok(());
    }
    for case in [
        no_notification_is_forged,
        #[cfg(feature = "kafka")]
        no_topic_of_kafka_is_written_but_that_of_events,
        ids::no_id_of_the_servers_own_is_taken,
        ids::no_mail_is_kept_out_by_its_id,
        nobody_is_named_but_himself,
        nothing_is_forged_by_a_spill_file,
        who_may_not_send_is_told_why,
    ] {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        case(dir.path())?;
    }
    Ok(())
}
