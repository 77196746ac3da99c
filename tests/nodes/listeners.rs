//! Mailboxes of a real Dovecot that three nodes hear: one node is killed, hangs, or is cut off from
//! PostgreSQL, all are restarted, and each mail rings once, at the person whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, PASSWORD};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::Request;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::cases::cases;
use crate::cluster::{NODES, PARTITIONS, PATIENCE, Services, eventually};

cases![
    listeners_of_a_node_that_is_killed_live_elsewhere_and_no_others_move,
    a_node_that_hangs_and_comes_back_rings_nothing_twice,
    a_node_that_is_cut_off_from_postgresql_rings_nothing_twice,
    listeners_whose_passwords_are_stored_outlive_a_restart_of_all_nodes,
    listeners_whose_passwords_are_in_memory_are_gone_after_a_restart_of_all_nodes,
];

/// Persons, enough for each node to hear some.
const PERSONS: usize = 30;
/// The node that something happens to; another one is asked.
const VICTIM: usize = 1;
/// How long a ring is waited for before another mail is sent, while it is not known whether the
/// mailbox is heard already.
const NEXT_MAIL: Duration = Duration::from_secs(2);

/// Nodes that hear the mailboxes of a Dovecot, and a device for all persons.
struct World<'a> {
    services: &'a Services,
    dovecot: Dovecot,
    nodes: Vec<Server>,
    device: HookEndpoint,
    /// Mails that were sent to each person, which are their UIDs.
    sent: u64,
}

impl<'a> World<'a> {
    /// Nodes with passwords in their store.
    fn start(services: &'a Services, name: &str) -> Result<Self> {
        Self::keeping(services, name, true)
    }

    /// Nodes with passwords in their store, or in their memory.
    fn keeping(services: &'a Services, name: &str, is_stored: bool) -> Result<Self> {
        services.kafka.create_topic(name, PARTITIONS)?;
        let database = services.postgres.database()?;
        let dovecot = Dovecot::builder().no_plugins().start()?;
        let imap = format!("imap://{}:{}", dovecot.address(), dovecot.imap_port());
        let mut world = Self {
            services,
            dovecot,
            nodes: Vec::new(),
            device: HookEndpoint::start()?,
            sent: 0,
        };
        for number in 0..usize::from(NODES) {
            let more = format!(
                "event_topics = ['{name}']\n\
                 [mail_push]\nallowed_clients = ['phone*']\naddress_tries_per_minute = 1000\n\
                 [mail_push.auth]\nimap = '{imap}'\nimap_insecure = true\n\
                 [mail_push.credstorage]\nenabled = true\nrdb = {is_stored}\npasscrypt = 'of the test'\n\
                 [mail_push.sources]\norder = ['imapidle']\n\
                 [mail_push.imapidle]\nserver = '{imap}'\nimap_insecure = true\nsupports_permanent_listeners = true\n"
            );
            let node = services.node(number, (name, &database), &more)?;
            world.nodes.push(node.start()?);
        }
        for person in persons() {
            world.subscribe(&person)?;
        }
        world.until_heard()?;
        Ok(world)
    }

    fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Result<Value> {
        let request = Request::new(method, &format!("/api/push/v1{path}"))
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let answer = self.nodes[0].ask(&request)?;
        ensure!((200..300).contains(&answer.status), "{answer:?}");
        Ok(serde_json::from_str(&answer.body).unwrap_or_default())
    }

    /// Logs in at the first node; the token of the session.
    fn log_in(&self, person: &str) -> Result<String> {
        let login = json!({ "login": person, "password": PASSWORD });
        let session = self.ask("POST", "/sessions", "none", &login)?;
        let token = session["session"].as_str().context("no session")?;
        Ok(token.to_owned())
    }

    /// Logs in, registers a device that rings without a session, and logs out.
    fn subscribe(&self, person: &str) -> Result<()> {
        let token = &self.log_in(person)?;
        let url = format!("{}/{person}", self.device.url().trim_end_matches('/'));
        let body = json!({ "client": "phone1", "transport": "webhook", "topics": ["mail:new"],
            "content": "ids", "webhook": { "url": url } });
        self.ask("POST", "/subscriptions", token, &body)?;
        self.ask("DELETE", "/sessions/current", token, &json!({}))?;
        Ok(())
    }

    /// Restarts all nodes; a mail comes to each person while none is there.
    fn restart(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            node.stop()?;
        }
        self.send()?;
        self.nodes.iter_mut().try_for_each(Server::start_again)
    }

    /// Sends a mail to each person.
    fn send(&mut self) -> Result<()> {
        let mut lmtp = self.dovecot.lmtp()?;
        for person in persons() {
            let mail = b"From: Bob <bob@sender.example>\r\nSubject: Hi\r\n\r\nHello.\r\n";
            lmtp.deliver_ok("bob@sender.example", &[&person], mail)?;
        }
        lmtp.quit()?;
        self.sent += 1;
        Ok(())
    }

    /// UIDs that have rung, by the name of the person in the URL, as often as they have; that a
    /// device was told of its person alone is checked.
    fn rung(&self) -> Result<BTreeMap<String, Vec<u64>>> {
        let mut rung: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for hook in self.device.hooks() {
            let line = hook.head.first().context("no request line")?;
            let person = line.split([' ', '/']).find(|word| word.starts_with("user"));
            let person = person.with_context(|| format!("no person in {line}"))?;
            let body: Value = serde_json::from_str(&hook.body)?;
            let payload = &body["payload"];
            let whose = json!({ "context": person, "user": person });
            let is_told = payload["person"] == whose
                && payload["user"] == whose["user"]
                && payload["context"] == whose["context"];
            let names_another = persons().any(|one| one != person && hook.body.contains(&one));
            ensure!(is_told && !names_another, "{person} is told {body}");
            let uid = payload["uid"].as_u64();
            let uid = uid.filter(|uid| (1..=self.sent).contains(uid));
            let uid = uid.with_context(|| format!("no UID of a mail in {body}"))?;
            rung.entry(person.to_owned()).or_default().push(uid);
        }
        Ok(rung)
    }

    /// Sends mails until one of each person has rung, and the last one, too.
    fn until_heard(&mut self) -> Result<()> {
        for _ in 0..30 {
            self.send()?;
            let all = process::poll_until(NEXT_MAIL, || {
                let rung = self.rung().ok()?;
                (rung.len() == PERSONS).then_some(())
            });
            if all.is_some() {
                return self.has_rung();
            }
        }
        anyhow::bail!("not all are heard: {:?}", self.rung()?)
    }

    /// Waits until the last mail of each person has rung.
    fn has_rung(&self) -> Result<()> {
        let last = self.sent;
        let missing = || {
            let rung = self.rung().unwrap_or_default();
            let has_it = |one: &String| rung.get(one).is_some_and(|uids| uids.contains(&last));
            persons().filter(|one| !has_it(one)).collect::<Vec<_>>()
        };
        let what = || format!("mail {last} rings at all, missing: {:?}", missing());
        eventually(PATIENCE, what, || Ok(missing().is_empty()))
    }

    /// That each mail after this one has rung once.
    fn check_once_after(&self, uid: u64) -> Result<()> {
        let expected: Vec<u64> = (uid + 1..=self.sent).collect();
        for (person, mut uids) in self.rung()? {
            uids.retain(|one| *one > uid);
            uids.sort_unstable();
            ensure!(uids == expected, "{person}: {uids:?}, not {expected:?}");
        }
        Ok(())
    }

    /// That all nodes hear again, that each mail after this one, one more included, has rung once,
    /// and that no node had anything for another's device.
    fn is_whole_again(&mut self, uid: u64) -> Result<()> {
        self.heard_by(usize::from(NODES))?;
        self.send()?;
        self.has_rung()?;
        for node in &self.nodes {
            let wrong = node.metric("dovecast_push_total{of=\"wrong_person\"}")?;
            ensure!(wrong < 1.0, "{wrong} for others: {}", node.server_log());
        }
        self.check_once_after(uid)
    }

    /// Which node hears whom.
    fn hearers(&self) -> Result<BTreeMap<String, String>> {
        let listed = self.nodes[0].run(["pushusers", "--json"])?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        let text = |one: &Value, name: &str| {
            let text = one[name].as_str().map(str::to_owned);
            text.with_context(|| format!("no {name} in {one}"))
        };
        let hearers = listed
            .iter()
            .filter(|one| one["node"].is_string())
            .map(|one| Ok((text(one, "user")?, text(one, "node")?)));
        hearers.collect()
    }

    /// Waits until each person is heard by one of so many nodes; who hears whom.
    fn heard_by(&self, nodes: usize) -> Result<BTreeMap<String, String>> {
        let mut hearers = BTreeMap::new();
        let what = || format!("all are heard by {nodes} nodes");
        eventually(PATIENCE, what, || {
            hearers = self.hearers()?;
            let names: BTreeSet<&String> = hearers.values().collect();
            Ok(hearers.len() == PERSONS && names.len() == nodes)
        })?;
        Ok(hearers)
    }
}

fn persons() -> impl Iterator<Item = String> {
    (0..PERSONS).map(|number| format!("user{number:02}"))
}

fn listeners_of_a_node_that_is_killed_live_elsewhere_and_no_others_move(
    services: &mut Services,
) -> Result<()> {
    let mut world = World::start(services, "listeners-killed")?;
    let before = world.heard_by(3)?;
    let last = world.sent;
    world.nodes[VICTIM].kill()?;
    world.send()?;
    world.has_rung()?;
    let after = world.heard_by(2)?;
    let left: BTreeSet<&String> = after.values().collect();
    for (person, node) in &before {
        if left.contains(node) {
            ensure!(
                after.get(person) == Some(node),
                "{person} has moved: {before:?}, {after:?}"
            );
        }
    }
    world.nodes[VICTIM].start_again()?;
    world.is_whole_again(last)
}

fn a_node_that_hangs_and_comes_back_rings_nothing_twice(services: &mut Services) -> Result<()> {
    let mut world = World::start(services, "listeners-hung")?;
    world.heard_by(3)?;
    let last = world.sent;
    let pid = world.nodes[VICTIM].pid();
    process::signal(pid, "STOP")?;
    let worked = world
        .send()
        .and_then(|()| world.has_rung())
        .and_then(|()| world.heard_by(2));
    process::signal(pid, "CONT")?;
    worked?;
    world.is_whole_again(last)
}

fn a_node_that_is_cut_off_from_postgresql_rings_nothing_twice(
    services: &mut Services,
) -> Result<()> {
    let mut world = World::start(services, "listeners-cut")?;
    world.heard_by(3)?;
    let last = world.sent;
    world.services.to_postgres(VICTIM)?.cut();
    // Others hear its mailboxes; partitions of the log that it reads wait until it is back.
    let worked = world.heard_by(2).and_then(|_| world.send());
    world.services.to_postgres(VICTIM)?.heal();
    worked?;
    world.has_rung()?;
    world.is_whole_again(last)
}

fn listeners_whose_passwords_are_stored_outlive_a_restart_of_all_nodes(
    services: &mut Services,
) -> Result<()> {
    let mut world = World::start(services, "listeners-stored")?;
    world.heard_by(usize::from(NODES))?;
    let last = world.sent;
    world.restart()?;
    // Nobody logs in.
    world.has_rung()?;
    world.is_whole_again(last)
}

fn listeners_whose_passwords_are_in_memory_are_gone_after_a_restart_of_all_nodes(
    services: &mut Services,
) -> Result<()> {
    let mut world = World::keeping(services, "listeners-memory", false)?;
    world.heard_by(1)?;
    world.restart()?;
    // What leases of nodes that are gone say is believed as long as a node may live.
    eventually(
        PATIENCE,
        || "nobody is heard".to_owned(),
        || Ok(world.hearers()?.is_empty()),
    )?;
    // The next login brings what was missed, of that person alone.
    let person = persons().next().context("a person")?;
    world.log_in(&person)?;
    let last = world.sent;
    let has_rung = |one: &String, rung: &BTreeMap<String, Vec<u64>>| {
        rung.get(one).is_some_and(|uids| uids.contains(&last))
    };
    let what = || format!("mail {last} rings at {person}");
    eventually(PATIENCE, what, || Ok(has_rung(&person, &world.rung()?)))?;
    let rung = world.rung()?;
    let others: Vec<String> = persons().filter(|one| has_rung(one, &rung)).collect();
    ensure!(others == [person], "{others:?} have rung");
    Ok(())
}
