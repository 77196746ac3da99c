//! Nodes on one Kafka and one PostgreSQL, two endpoints, and what has to be true of them in the
//! end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use dovecast_log::Log as _;
use dovecast_log::kafka::{KafkaLog, KafkaOptions};
use dovecast_testkit::cut_proxy::CutProxy;
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::http::Request;
use dovecast_testkit::kafka::RealKafka;
use dovecast_testkit::postgres::Postgres;
use dovecast_testkit::server::{Builder, Server};
use serde_json::{Value, json};

use crate::load::Load;

pub(crate) const TOPIC: &str = "hooks.outbox";
pub(crate) const PARTITIONS: i32 = 6;

/// As many nodes are started in a case at most, and as many ways there are to each service.
pub(crate) const NODES: u16 = 3;

/// How long what nodes do by themselves may take.
pub(crate) const PATIENCE: Duration = dovecast_testkit::PATIENCE;
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Messages of which one has its first request refused, at the endpoint that fails now and then.
const REFUSED_ONCE: u64 = 7;

/// Owed deliveries, owed ranges and dead letters, as `1|2|3`.
pub(crate) const OWED: &str = "SELECT (SELECT count(*) FROM owed), \
     (SELECT count(*) FROM owed_range), (SELECT count(*) FROM dead_letter)";

/// What all nodes of all cases use.
pub(crate) struct Services {
    pub(crate) kafka: RealKafka,
    pub(crate) postgres: Postgres,
    /// The way of each node to PostgreSQL; Kafka has its own.
    pub(crate) to_postgres: Vec<CutProxy>,
}

impl Services {
    /// A node of a group, on a database, with its own way to Kafka and to PostgreSQL. `more`: the
    /// rest of the section `dispatch`, and further sections.
    pub(crate) fn node(
        &self,
        number: usize,
        (group, database): (&str, &str),
        more: &str,
    ) -> Result<Builder> {
        let to_kafka = self.kafka.proxy(number)?.address();
        let to_postgres = self.to_postgres(number)?;
        let database = self.postgres.url_through(to_postgres, database);
        let config = format!(
            "[log]\nkind = 'kafka'\n[kafka]\nbrokers = ['{to_kafka}']\n\
             [kafka.properties]\n'session.timeout.ms' = 6000\n'heartbeat.interval.ms' = 500\n\
             [store]\nurl = '{database}'\n\
             [dispatch]\nallowed_networks = ['127.0.0.0/8']\ngroup = '{group}'\n{more}"
        );
        let node = Server::builder().roles(&["dispatch"]);
        Ok(node.config(&config).shared_keys())
    }

    /// The way of a node to PostgreSQL.
    pub(crate) fn to_postgres(&self, node: usize) -> Result<&CutProxy> {
        let ways = &self.to_postgres;
        ways.get(node)
            .with_context(|| format!("no way for node {node}"))
    }
}

/// The nodes of a case, and its endpoints.
pub(crate) struct Cluster<'a> {
    pub(crate) services: &'a mut Services,
    pub(crate) nodes: Vec<Server>,
    /// Endpoint that takes everything.
    good: HookEndpoint,
    /// Endpoint that fails now and then.
    bad: HookEndpoint,
    /// The number of the account, and the name of the consumer group.
    pub(crate) account: String,
    admin: String,
    token: String,
    database: String,
}

impl<'a> Cluster<'a> {
    /// Starts so many nodes, of a group and an account of this name.
    pub(crate) fn start(services: &'a mut Services, name: &str, nodes: usize) -> Result<Self> {
        let mut cluster = Self {
            database: services.postgres.database()?,
            services,
            nodes: Vec::new(),
            good: HookEndpoint::start()?,
            bad: HookEndpoint::start()?,
            account: name.to_owned(),
            admin: String::new(),
            token: String::new(),
        };
        cluster.recovers();
        cluster.join()?;
        cluster.admin = cluster.nodes[0].admin_token()?;
        let token = json!({"token": {"name": "t", "scope": "account", "account_number": name}});
        let made = cluster.ask_as_admin("/tokens", &token)?;
        let token = made["meta"]["token"].as_str().context("no token")?;
        token.clone_into(&mut cluster.token);
        let urls = [&cluster.good, &cluster.bad].map(HookEndpoint::url);
        for url in urls {
            cluster.endpoint(&url, &json!({}))?;
        }
        for _ in 1..nodes {
            cluster.join()?;
        }
        Ok(cluster)
    }

    /// One node more, with its own way to Kafka and to PostgreSQL.
    pub(crate) fn join(&mut self) -> Result<()> {
        let number = self.nodes.len();
        let topic = format!("outbox_topic = '{TOPIC}'\n");
        let place = (self.account.as_str(), self.database.as_str());
        let node = self.services.node(number, place, &topic)?;
        self.nodes.push(node.start()?);
        Ok(())
    }

    /// The way of a node to PostgreSQL.
    pub(crate) fn to_postgres(&self, node: usize) -> Result<&CutProxy> {
        self.services.to_postgres(node)
    }

    /// Makes an endpoint of the account; its id.
    pub(crate) fn endpoint(&self, url: &str, filter: &Value) -> Result<String> {
        let fields = json!({"name": url, "url": url, "active": true, "filter": filter});
        let made = self.ask(0, "POST", "/endpoints", &json!({"endpoint": fields}))?;
        let id = made["data"]["id"].as_str().context("no id")?;
        Ok(id.to_owned())
    }

    /// Asks the REST API of a node on behalf of the account.
    pub(crate) fn ask(&self, node: usize, method: &str, path: &str, body: &Value) -> Result<Value> {
        let request = Request::new(method, &format!("/api/hooks{path}"));
        ask(&self.nodes[node], request, &self.token, body)
    }

    /// Posts something to the first node on behalf of whoever runs it.
    pub(crate) fn ask_as_admin(&self, path: &str, body: &Value) -> Result<Value> {
        let request = Request::new("POST", &format!("/api/hooks{path}"));
        ask(&self.nodes[0], request, &self.admin, body)
    }

    /// Notifications of the account, until it is told to stop.
    pub(crate) fn load(&self) -> Result<Load> {
        Load::start(self.log()?, &self.account)
    }

    /// A load of which each node has delivered some.
    pub(crate) fn load_on_all(&self) -> Result<Load> {
        let load = self.load()?;
        for node in 0..self.nodes.len() {
            self.delivers(node, 100)?;
        }
        Ok(load)
    }

    pub(crate) fn log(&self) -> Result<KafkaLog> {
        Ok(KafkaLog::connect(&KafkaOptions {
            brokers: self.services.kafka.bootstrap_plaintext(),
            properties: Vec::new(),
        })?)
    }

    /// What a node has delivered since it was started.
    pub(crate) fn delivered(&self, node: usize) -> Result<u64> {
        self.count(node, "dovecast_dispatch_delivered_total")
    }

    /// A counter of a node.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn count(&self, node: usize, metric: &str) -> Result<u64> {
        Ok(self.nodes[node].metric(metric)? as u64)
    }

    /// Waits until a node has delivered so many more.
    pub(crate) fn delivers(&self, node: usize, more: u64) -> Result<()> {
        let before = self.delivered(node)?;
        let what = || format!("node {node} delivers {more}");
        eventually(
            PATIENCE,
            what,
            || Ok(self.delivered(node)? >= before + more),
        )
    }

    /// Has the bad endpoint refuse the first request of every message until a node has claimed
    /// ranges of the log, and go on so: see [`Self::recovers`]. A second failure of a delivery
    /// would cost minutes.
    pub(crate) fn defers(&self, node: usize) -> Result<()> {
        const DEFERRED: &str = "dovecast_dispatch_deferred_total";
        let before = self.count(node, DEFERRED)?;
        self.bad.refuse_once(1);
        let what = || format!("node {node} owes a range of the log");
        eventually(PATIENCE, what, || {
            let has_deferred = self.count(node, DEFERRED)? > before;
            Ok(has_deferred && !self.owed()?.contains("|0|"))
        })
    }

    /// The bad endpoint is as it was.
    pub(crate) fn recovers(&self) {
        self.bad.refuse_once(REFUSED_ONCE);
    }

    /// Waits until all `0..sent` have arrived at both endpoints and nothing is owed or uncommitted.
    /// Says what came again.
    pub(crate) fn arrives(&self, sent: u32) -> Result<()> {
        self.arrives_and(sent, |owed| owed == "0|0|0")
    }

    /// Waits as [`Self::arrives`] does, where endpoints of the case may owe ranges of the log.
    pub(crate) fn arrives_but_for_ranges(&self, sent: u32) -> Result<()> {
        self.arrives_and(sent, |owed| owed.starts_with("0|") && owed.ends_with("|0"))
    }

    fn arrives_and(&self, sent: u32, is_quiet: impl Fn(&str) -> bool) -> Result<()> {
        let begin = Instant::now();
        let sinks = [("good", &self.good), ("bad", &self.bad)];
        for (name, sink) in sinks {
            let missing = || {
                let came = messages(&sink.hooks());
                let missing: Vec<u32> = (0..sent).filter(|n| !came.contains_key(n)).collect();
                format!(
                    "{} of {sent} do not arrive at the {name} endpoint: {:?}",
                    missing.len(),
                    &missing[..missing.len().min(20)]
                )
            };
            let all = || Ok(messages(&sink.hooks()).len() == sent as usize);
            eventually(PATIENCE, missing, all).with_context(|| self.state())?;
        }
        let waited = begin.elapsed();
        eventually(
            PATIENCE,
            || "something is owed or not committed".to_owned(),
            || Ok(is_quiet(&self.owed()?) && self.lag()? == 0),
        )
        .with_context(|| self.state())?;
        let mut came_again = Vec::new();
        for (name, sink) in sinks {
            let hooks = sink.hooks();
            for (number, ids) in messages(&hooks) {
                ensure!(ids.len() == 1, "{number} came under several names: {ids:?}");
            }
            let more = hooks.len() - sent as usize;
            came_again.push(format!("{more} again at the {name} one"));
        }
        println!(
            "{}: {sent} notifications at two endpoints, {}; the last one {:.1} s and all quiet {:.1} s after the load",
            self.account,
            came_again.join(", "),
            waited.as_secs_f32(),
            begin.elapsed().as_secs_f32()
        );
        Ok(())
    }

    /// How many have come again so far, at both endpoints.
    pub(crate) fn again(&self) -> usize {
        let again = |sink: &HookEndpoint| {
            let hooks = sink.hooks();
            hooks.len() - messages(&hooks).len()
        };
        again(&self.good) + again(&self.bad)
    }

    fn owed(&self) -> Result<String> {
        self.query(OWED)
    }

    /// What a statement answers in the database of the nodes.
    pub(crate) fn query(&self, statement: &str) -> Result<String> {
        let answer = self.services.postgres.query(&self.database, statement)?;
        Ok(answer.trim().to_owned())
    }

    fn lag(&self) -> Result<u64> {
        lag(&self.log()?, &self.account)
    }

    /// Waits until the nodes have read all that there is: what is wanted of it is delivered, or is
    /// owed.
    pub(crate) fn reads_all(&self) -> Result<()> {
        let what = || "something is not committed".to_owned();
        eventually(PATIENCE, what, || Ok(self.lag()? == 0))
    }

    /// For whoever looks for the reason of a failure.
    fn state(&self) -> String {
        let query = |statement| self.services.postgres.query(&self.database, statement);
        let rows = query(
            "SELECT endpoint_id, topic, part, start_offset, from_offset, to_offset, claimed_by FROM owed_range LIMIT 12",
        );
        let owed = query("SELECT failures, due_ms, claimed_by, reason FROM owed LIMIT 12");
        let alive = query("SELECT * FROM dispatcher");
        let logs: Vec<String> = self
            .nodes
            .iter()
            .map(|node| tail(&node.server_log()))
            .collect();
        format!(
            "owed, ranges, dead: {:?}, lag {:?}\nranges {rows:?}\nowed {owed:?}\ndispatchers {alive:?}\n{}",
            self.owed(),
            self.lag(),
            logs.join("\n----\n")
        )
    }
}

/// Records that a group has not committed.
pub(crate) fn lag(log: &KafkaLog, name: &str) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let groups = runtime.block_on(log.groups())?;
    let ours = groups.iter().filter(|group| group.group == name);
    Ok(ours
        .map(|group| group.end.saturating_sub(group.committed))
        .sum())
}

fn ask(node: &Server, request: Request, token: &str, body: &Value) -> Result<Value> {
    let request = request
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", "application/vnd.api+json")
        .body(body.to_string());
    let answer = node.ask(&request)?;
    ensure!((200..300).contains(&answer.status), "{answer:?}");
    Ok(serde_json::from_str(&answer.body).unwrap_or_default())
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// The `webhook-id`s of each message that is a number.
pub(crate) fn messages(hooks: &[Hook]) -> BTreeMap<u32, BTreeSet<String>> {
    let mut found: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for hook in hooks {
        let body: Value = serde_json::from_str(&hook.body).unwrap_or_default();
        let id = hook.header("webhook-id").unwrap_or_default();
        found
            .entry(message(&body))
            .or_default()
            .insert(id.to_owned());
    }
    found
}

/// The number that a body holds. What is no number is none of ours, and counts as missing.
pub(crate) fn message(body: &Value) -> u32 {
    let number = body["message"].as_u64().and_then(|n| u32::try_from(n).ok());
    number.unwrap_or(u32::MAX)
}

/// Waits until something is so. What cannot be found out now is asked again: a service under load
/// may take longer than whoever asks it waits.
pub(crate) fn eventually(
    patience: Duration,
    what: impl Fn() -> String,
    mut is_so: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        let answer = is_so();
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let late = || format!("not within {patience:?}: {}", what());
            return Err(match answer {
                Ok(_) => anyhow!(late()),
                Err(error) => error.context(late()),
            });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
