//! What an endpoint may see of a mail (`content`): what is left out is nowhere, whoever delivers,
//! wherever the store is, and however much is logged.

use std::fs;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
#[cfg(feature = "kafka")]
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use dovecast_testkit::services::{SERVICES, example, section};
use dovecast_testkit::smtp::MailServer;
#[cfg(feature = "kafka")]
use dovecast_testkit::topic::TopicReader;
use serde_json::{Value, json};

use crate::deliveries::ARRIVAL;
use crate::drivers::account;
use crate::setup::{Database, User, World, cases};

cases![what_an_endpoint_may_not_see_is_nowhere_whoever_delivers];

/// Stands in all fields of a mail that say what it is about.
const WORD: &str = "geheimnis";
/// What is there to see without them.
const MAILBOX: &str = "INBOX";

/// Receivers that are no plain webhooks.
struct Receivers {
    services: Vec<HookEndpoint>,
    mails: MailServer,
    #[cfg(feature = "kafka")]
    broker: MockBroker,
}

impl Receivers {
    fn start() -> Result<Self> {
        let services = SERVICES.iter();
        let services = services.map(|service| HookEndpoint::answering(service.answer));
        #[cfg(feature = "kafka")]
        let broker = MockBroker::start(1)?;
        #[cfg(feature = "kafka")]
        broker.create_topic("mails", 1)?;
        Ok(Self {
            services: services.collect::<Result<_>>()?,
            mails: MailServer::start()?,
            #[cfg(feature = "kafka")]
            broker,
        })
    }

    /// The configuration of a server that delivers to them.
    fn config(&self) -> String {
        let mut config = format!(
            "[logging]\nfilter = 'debug'\n[dispatch]\nallowed_networks = ['127.0.0.0/8']\n\
             [mail]\nserver = '127.0.0.1'\nport = {}\ntls = 'none'\n\
             from = 'noreply@example.org'\nrecipients = ['example.org']\n",
            self.mails.port()
        );
        for (service, stand_in) in SERVICES.iter().zip(&self.services) {
            config.push_str(&section(service.preset, stand_in));
        }
        #[cfg(feature = "kafka")]
        {
            let brokers = self.broker.bootstrap_servers();
            let cluster = format!("[kafka_clusters.copies]\nbrokers = ['{brokers}']\n");
            config.push_str(&cluster);
            config.push_str("accounts = ['7']\ntopics = ['mails']\n");
        }
        config
    }

    /// Endpoints that may not see what a mail is about.
    fn endpoints(&self) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        for (service, stand_in) in SERVICES.iter().zip(&self.services) {
            let url = stand_in.url().replace("/hook", service.path);
            all.push(example(service.preset, &url)?);
        }
        #[cfg(feature = "kafka")]
        all.push(json!({
            "name": "copy", "driver": "kafka", "settings": {"cluster": "copies", "topic": "mails"},
            "filter": {},
        }));
        for endpoint in &mut all {
            endpoint["content"] = json!("ids");
        }
        let mut mail = example("mail", "")?;
        // Without that it is not seen that the mail is none of ours.
        mail["content"] = json!(["mailbox", "messageID", "user"]);
        all.push(mail);
        Ok(all)
    }

    /// What each was sent, when all have got it.
    fn told(&self) -> Result<Vec<String>> {
        let mut told = Vec::new();
        for (service, stand_in) in SERVICES.iter().zip(&self.services) {
            let hooks = stand_in.wait_for(1, ARRIVAL).context(service.preset)?;
            told.push(format!("{}: {:?}", service.preset, hooks[0]));
        }
        let mails = self.mails.wait_for(1, ARRIVAL)?;
        told.push(format!("mail: {}", mails[0].text));
        #[cfg(feature = "kafka")]
        {
            let servers = self.broker.bootstrap_servers();
            let client = [("bootstrap.servers".to_owned(), servers)];
            let records = TopicReader::new(&client, "mails")?.read(1, ARRIVAL)?;
            told.push(format!("kafka: {records:?}"));
            let value = String::from_utf8_lossy(&records[0].value);
            told.push(format!("kafka: {value}"));
        }
        Ok(told)
    }
}

fn send_a_mail(user: &User<'_>) -> Result<()> {
    let message = json!({
        "user": "ann@example.org", "mailbox": MAILBOX, "event": "MessageNew", "uid": 7,
        "messageID": "<1@example.org>", "from": format!("{WORD} <{WORD}@example.org>"),
        "fromAddress": format!("{WORD}@example.org"), "fromDisplayName": WORD,
        "subject": WORD, "subjectDecoded": WORD, "snippet": format!("{WORD}, {WORD}"),
    });
    let notification = json!({
        "application": "dovecot", "event_type": "MessageNew", "level": null, "message": message,
    });
    user.post("/messages", &notification)?.with(201).map(drop)
}

/// Whether a word stands anywhere in the state of a server.
fn is_stored(database: &Database, server: &Server) -> Result<bool> {
    match database {
        Database::Sqlite => {
            let mut is_stored = false;
            for name in ["state.db", "state.db-wal"] {
                let bytes = fs::read(server.data_dir().join(name)).unwrap_or_default();
                let mut parts = bytes.windows(WORD.len());
                is_stored |= parts.any(|part| part == WORD.as_bytes());
            }
            Ok(is_stored)
        }
        Database::Postgres(postgres, url) => {
            let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
            let tables = postgres.query(url, tables)?;
            ensure!(tables.lines().count() > 10, "{tables}");
            for table in tables.lines() {
                // Bytes as the letters that they are.
                let rows =
                    format!("SET bytea_output = 'escape'; SELECT t::text FROM \"{table}\" t");
                if postgres.query(url, &rows)?.contains(WORD) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Waits until an endpoint has a dead letter; what is shown of it, and of its attempts.
fn dead(user: &User<'_>, id: &str) -> Result<String> {
    let letters = poll_until(ARRIVAL, || {
        let shown = user.get(&format!("/endpoints/{id}/dead_letters")).ok()?;
        let has_one = shown.json["data"][0].is_object();
        has_one.then(|| shown.json.to_string())
    });
    let letters = letters.context("nothing is dead")?;
    let attempts = user.get(&format!("/endpoints/{id}/attempts"))?.with(200)?;
    Ok(format!("{letters} {}", attempts.json))
}

fn what_an_endpoint_may_not_see_is_nowhere_whoever_delivers(world: &World) -> Result<()> {
    let receivers = Receivers::start()?;
    let (builder, database) = world.fresh()?;
    let server = builder.config(&receivers.config()).start()?;
    let user = account(&server, "7")?;
    for endpoint in receivers.endpoints()? {
        user.endpoint(&endpoint)?;
    }
    let (refuses, fails) = (HookEndpoint::start()?, HookEndpoint::start()?);
    refuses.answer(400);
    fails.answer(503);
    let webhook = |name: &str, at: &HookEndpoint, content: &str| {
        user.endpoint(&json!({"name": name, "url": at.url(), "content": content, "filter": {}}))
    };
    let dies = webhook("dies", &refuses, "ids")?;
    let waits = webhook("waits", &fails, "ids")?;
    send_a_mail(&user)?;
    for told in receivers.told()? {
        ensure!(!told.contains(WORD), "{told}");
        ensure!(
            told.contains(MAILBOX) || told.starts_with("kafka"),
            "{told}"
        );
    }
    let shown = dead(&user, &dies)?;
    ensure!(shown.contains(MAILBOX) && !shown.contains(WORD), "{shown}");
    let owed = poll_until(ARRIVAL, || {
        let attempts = user.get(&format!("/endpoints/{waits}/attempts")).ok()?;
        attempts.json["data"][0]
            .is_object()
            .then_some(attempts.json)
    });
    let owed = owed.context("no attempt")?.to_string();
    ensure!(!owed.contains(WORD), "{owed}");
    ensure!(!is_stored(&database, &server)?, "it is in the store");
    // What may be seen is found there, so that it would have been.
    let sees = webhook("sees", &refuses, "all")?;
    send_a_mail(&user)?;
    let shown = dead(&user, &sees)?;
    ensure!(shown.contains(WORD), "{shown}");
    ensure!(is_stored(&database, &server)?, "the store is not looked at");
    let log = server.server_log();
    ensure!(log.contains("DEBUG") || log.contains("debug"), "{log}");
    ensure!(!log.contains(WORD), "it is in the log");
    Ok(())
}
