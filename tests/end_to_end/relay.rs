//! Events on their way through a relay: whatever is killed, away, hung or full, each of them
//! arrives once and in order.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dovecast_testkit::dovecot::{Builder, Dovecot, Installation};
use dovecast_testkit::plugin::Build;
use dovecast_testkit::power_cut::{Recorder, Unsynced};
use dovecast_testkit::process::{self, ProcessStats};
use dovecast_testkit::server::Server;
use dovecast_testkit::topic::Record;

use crate::case::{Skipped, cases};
use crate::docs::{document, examples, use_mail};
use crate::setup::{ARRIVAL, with_plugin};
use crate::story::{
    FLAG_EVENTS, MAIL, Story, Told, check_alive, check_lost, check_same, lost, session_pid,
    wait_for_end,
};

cases![
    what_arrives_is_what_kafka_would_get,
    a_mail_process_has_no_thread_and_no_connection_to_a_cluster,
    a_mail_process_that_is_killed_after_its_answer_loses_nothing,
    a_relay_that_is_killed_again_and_again_under_load_has_each_event_once,
    a_relay_that_is_away_for_a_while_gets_everything_in_order,
    a_relay_that_comes_late_gets_what_all_processes_have_left,
    many_mail_processes_are_connected_at_once,
    a_hung_relay_is_not_noticed_by_mail,
    a_full_disk_costs_nothing_when_there_is_room_again,
    a_power_cut_costs_nothing_that_was_acknowledged,
    without_a_spill_directory_losses_are_counted,
    every_example_with_a_relay_works,
];

/// DOVECAST_SOAK asks for the full length.
fn is_soak() -> bool {
    std::env::var_os("DOVECAST_SOAK").is_some()
}

/// How often the relay is killed in a row.
fn kills() -> usize {
    if is_soak() { 50 } else { 10 }
}

/// How many mail processes are connected at once.
fn many() -> usize {
    if is_soak() { 2000 } else { 150 }
}

/// In a soak: goes on with this for a minute, the length of an outage. Else does nothing.
pub(crate) fn soak(mut work: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + Duration::from_mins(1);
    while is_soak() && Instant::now() < end {
        work()?;
    }
    Ok(())
}

/// A Dovecot whose events leave by the relay, and a relay in its place, not started yet.
struct Host {
    dovecot: Dovecot,
    server: Server,
}

impl Host {
    fn new(on: Installation, options: &str) -> Result<Self> {
        Self::with(on, options, |builder| builder, |server| server)
    }

    fn with(
        on: Installation,
        options: &str,
        configure: impl FnOnce(Builder) -> Builder,
        serve: impl FnOnce(dovecast_testkit::server::Builder) -> dovecast_testkit::server::Builder,
    ) -> Result<Self> {
        let builder = with_plugin(on, Build::Dev)?
            .relay()
            .driver(&format!("kafka:{options}"));
        let dovecot = configure(builder).start()?;
        let server = serve(server_for(&dovecot)).prepare()?;
        Ok(Self { dovecot, server })
    }

    fn started(on: Installation, options: &str) -> Result<Self> {
        let mut host = Self::new(on, options)?;
        host.server.start_again()?;
        Ok(host)
    }

    /// That exactly this is in the log, and that mail was not disturbed.
    fn check_arrived(&self, told: &[Told]) -> Result<()> {
        check_in_log(&self.server, told)?;
        let lost = lost(&self.dovecot.log());
        ensure!(lost == 0, "Dovecot's log tells of {lost} lost events");
        check_alive(&self.dovecot)
    }
}

/// A relay for this Dovecot.
pub(crate) fn server_for(dovecot: &Dovecot) -> dovecast_testkit::server::Builder {
    let dir = dovecot.relay_dir();
    Server::builder()
        .relay(dir.join("relay.sock"), dir.join("spill"))
        .config("allow = [\"root\", \"5000\"]\ntopics = [\"*\"]")
}

/// Waits until there are as many records as events, and compares.
fn check_in_log(server: &Server, told: &[Told]) -> Result<()> {
    let count: usize = told.iter().map(|told| told.events.len()).sum();
    let mut arrived = Vec::new();
    let done = process::poll_until(ARRIVAL, || match records(server, "dovecot") {
        Ok(records) => {
            arrived = records;
            (arrived.len() >= count).then_some(Ok(()))
        }
        Err(error) => Some(Err(error)),
    });
    match done {
        Some(done) => done?,
        None => bail!(
            "{} of {count} records have arrived; the relay's log: {}",
            arrived.len(),
            server.server_log()
        ),
    }
    check_same(&arrived, told)
}

/// The records of a topic, as the tests of Kafka have them.
fn records(server: &Server, topic: &str) -> Result<Vec<Record>> {
    let text = |value: &serde_json::Value| -> Result<Vec<u8>> {
        let text = value
            .as_str()
            .with_context(|| format!("no text: {value}"))?;
        Ok(text.as_bytes().to_vec())
    };
    let mut records = Vec::new();
    for line in server.records(topic)? {
        let json: serde_json::Value = serde_json::from_str(&line)?;
        let headers = json["headers"].as_array().context("no headers")?;
        let headers = headers.iter().map(|header| {
            let name = String::from_utf8(text(&header["name"])?)?;
            Ok((name, text(&header["value"])?))
        });
        records.push(Record {
            partition: i32::try_from(json["partition"].as_i64().context("no partition")?)?,
            offset: json["offset"].as_i64().context("no offset")?,
            key: Some(text(&json["key"])?),
            value: text(&json["value"])?,
            headers: headers.collect::<Result<_>>()?,
            timestamp_ms: json["timestamp_ms"].as_i64(),
        });
    }
    Ok(records)
}

fn what_arrives_is_what_kafka_would_get(on: Installation) -> Result<()> {
    let host = Host::started(on, "events=MessageNew,FlagsSet,MessageRead topic=one")?;
    let mut lmtp = host.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
    lmtp.quit()?;
    let mut imap = host.dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Seen $label1)")?;
    imap.logout()?;
    let all = process::poll_until(ARRIVAL, || {
        let records = records(&host.server, "one").ok()?;
        (records.len() >= 3).then_some(records)
    });
    let all = all.context("three records have not arrived")?;
    let values: Vec<String> = all.iter().map(crate::setup::value).collect();
    ensure!(
        values
            == [
                r#"{"user":"alice","mailbox":"INBOX","event":"MessageNew","uidvalidity":V,"uid":1,"from":"Bob <bob@sender.example>","snippet":"Hello.","subject":"Hi","to":"you"}"#,
                r#"{"user":"alice","mailbox":"INBOX","event":"FlagsSet","uidvalidity":V,"uid":1,"flags":["\\Seen"],"keywords":["$label1"]}"#,
                r#"{"user":"alice","mailbox":"INBOX","event":"MessageRead","uidvalidity":V,"uid":1}"#,
            ],
        "{values:#?}"
    );
    for (i, record) in all.iter().enumerate() {
        let headers = dovecast_event::ParsedHeaders::parse(
            record
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_slice())),
        )?;
        ensure!(record.key.as_deref() == Some(b"alice"), "key of {record}");
        let expected = [(0, true), (0, false), (1, true)][i];
        ensure!(
            (headers.txn_seq, headers.txn_last) == expected,
            "place of {record}: {headers:?}"
        );
    }
    check_alive(&host.dovecot)
}

fn a_mail_process_has_no_thread_and_no_connection_to_a_cluster(on: Installation) -> Result<()> {
    let host = Host::started(on, FLAG_EVENTS)?;
    let mut alice = Story::open(&host.dovecot, "alice", 2)?;
    let pid = session_pid(&host.dovecot, "alice")?;
    let before = ProcessStats::of(pid)?;
    alice.steps(2)?;
    let after = ProcessStats::of(pid)?;
    ensure!(after.threads == 1, "{} threads", after.threads);
    ensure!(
        after.fds == before.fds + 1,
        "{} descriptors more than before the first event",
        after.fds - before.fds
    );
    host.server
        .metric_is("dovecast_relay_clients", |clients| clients >= 1.0)?;
    let told = alice.logout()?;
    host.check_arrived(&[told])
}

fn a_mail_process_that_is_killed_after_its_answer_loses_nothing(on: Installation) -> Result<()> {
    let mut host = Host::started(on, FLAG_EVENTS)?;
    let mut told = Vec::new();
    for (i, is_away) in [false, true, false].into_iter().enumerate() {
        if is_away {
            host.server.stop()?;
        }
        let user = format!("user{i}");
        let mut story = Story::open(&host.dovecot, &user, 5)?;
        let pid = session_pid(&host.dovecot, &user)?;
        story.steps(8)?;
        process::signal(pid, "KILL")?;
        told.push(story.told());
        wait_for_end(&host.dovecot, pid)?;
        if is_away {
            host.server.start_again()?;
        }
    }
    check_in_log(&host.server, &told)
}

fn a_relay_that_is_killed_again_and_again_under_load_has_each_event_once(
    on: Installation,
) -> Result<()> {
    let mut host = Host::started(on, FLAG_EVENTS)?;
    let mut stories = Vec::new();
    for user in 0..5 {
        stories.push(Story::open(&host.dovecot, &format!("user{user}"), 10)?);
    }
    for _ in 0..kills() {
        for story in &mut stories {
            story.steps(7)?;
        }
        host.server.kill()?;
        for story in &mut stories {
            story.steps(7)?;
        }
        host.server.start_again()?;
    }
    let told: Vec<Told> = stories
        .into_iter()
        .map(Story::logout)
        .collect::<Result<_>>()?;
    host.check_arrived(&told)
}

fn a_relay_that_is_away_for_a_while_gets_everything_in_order(on: Installation) -> Result<()> {
    let mut host = Host::started(on, FLAG_EVENTS)?;
    let mut alice = Story::open(&host.dovecot, "alice", 20)?;
    let mut bob = Story::open(&host.dovecot, "bob", 20)?;
    alice.steps(10)?;
    bob.steps(10)?;
    host.server.stop()?;
    alice.steps(200)?;
    soak(|| alice.steps(20))?;
    bob.steps(10)?;
    // One process ends during the outage, one lives on.
    let bob = bob.logout()?;
    host.server.start_again()?;
    alice.steps(10)?;
    host.check_arrived(&[alice.logout()?, bob])
}

fn a_relay_that_comes_late_gets_what_all_processes_have_left(on: Installation) -> Result<()> {
    let mut host = Host::new(on, FLAG_EVENTS)?;
    let mut told = Vec::new();
    for user in 0..10 {
        let mut story = Story::open(&host.dovecot, &format!("user{user}"), 5)?;
        story.steps(20)?;
        told.push(story.logout()?);
    }
    host.server.start_again()?;
    host.check_arrived(&told)?;
    let left = process::poll_until(ARRIVAL, || {
        let dir = fs::read_dir(host.server.spill_dir()).ok()?;
        (dir.count() == 0).then_some(())
    });
    left.context("spill files are left")
}

fn many_mail_processes_are_connected_at_once(on: Installation) -> Result<()> {
    let mut host = Host::new(on, FLAG_EVENTS)?;
    host.server.start_again()?;
    let mut stories = Vec::new();
    for user in 0..many() {
        let mut story = Story::open(&host.dovecot, &format!("user{user}"), 1)?;
        story.step()?;
        stories.push(story);
    }
    let all = f64::from(u32::try_from(stories.len())?);
    host.server
        .metric_is("dovecast_relay_clients", |clients| clients >= all)?;
    // All at once, before and after a restart.
    stories.iter_mut().try_for_each(Story::step)?;
    host.server.kill()?;
    stories.iter_mut().try_for_each(Story::step)?;
    host.server.start_again()?;
    stories.iter_mut().try_for_each(Story::step)?;
    let told: Vec<Told> = stories
        .into_iter()
        .map(Story::logout)
        .collect::<Result<_>>()?;
    host.check_arrived(&told)
}

fn a_hung_relay_is_not_noticed_by_mail(on: Installation) -> Result<()> {
    let host = Host::started(on, FLAG_EVENTS)?;
    let mut alice = Story::open(&host.dovecot, "alice", 10)?;
    alice.steps(5)?;
    process::signal(host.server.pid(), "STOP")?;
    let worked = (|| {
        alice.steps(2000)?;
        let mut lmtp = host.dovecot.lmtp()?;
        lmtp.deliver_ok("bob@sender.example", &["carol"], MAIL)?;
        lmtp.quit()
    })();
    process::signal(host.server.pid(), "CONT")?;
    worked?;
    host.check_arrived(&[alice.logout()?])
}

/// A file system of its own, gone with this.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(size: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size},mode=755"))
            .arg("dovecast-test")
            .arg(dir.path())
            .output()?;
        if !output.status.success() {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Skipped(format!("no tmpfs can be mounted: {reason}")).into());
        }
        Ok(Self { dir })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) -> Result<()> {
        let mut file = File::create(self.path().join("filler"))?;
        let mut size = 1024 * 1024;
        while size > 0 {
            if file.write_all(&vec![0; size]).is_err() {
                size /= 2;
            }
        }
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        fs::remove_file(self.path().join("filler")).context("the filler is gone")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Nobody can do anything about an error here.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn a_full_disk_costs_nothing_when_there_is_room_again(on: Installation) -> Result<()> {
    let disk = SmallDisk::mount("16m")?;
    let data = disk.path().join("data");
    let mut host = Host::with(
        on,
        FLAG_EVENTS,
        |builder| builder,
        |server| server.data_dir(&data),
    )?;
    host.server.start_again()?;
    let mut alice = Story::open(&host.dovecot, "alice", 20)?;
    let mut bob = Story::open(&host.dovecot, "bob", 20)?;
    alice.steps(20)?;
    bob.steps(5)?;
    disk.fill()?;
    // What fits into files that have room already is taken; then nothing is.
    alice.steps(1000)?;
    bob.steps(50)?;
    let errors = "dovecast_relay_append_errors_total";
    let refused = host.server.metric_is(errors, |errors| errors > 0.0);
    let bob = bob.logout()?;
    disk.make_room()?;
    refused.context("the disk was never full")?;
    alice.steps(20)?;
    host.check_arrived(&[alice.logout()?, bob])
}

fn a_power_cut_costs_nothing_that_was_acknowledged(on: Installation) -> Result<()> {
    let data = tempfile::tempdir()?;
    let recorder = Recorder::new(data.path())?;
    let environment = recorder.environment();
    let mut host = Host::with(
        on,
        FLAG_EVENTS,
        |builder| builder,
        |server| {
            let server = server.data_dir(data.path());
            environment
                .into_iter()
                .fold(server, |server, (name, value)| server.env(name, value))
        },
    )?;
    host.server.start_again()?;
    let mut told = Vec::new();
    for user in 0..5 {
        let mut story = Story::open(&host.dovecot, &format!("user{user}"), 10)?;
        let pid = session_pid(&host.dovecot, &format!("user{user}"))?;
        story.steps(50)?;
        told.push(story.logout()?);
        // The process has waited for its acknowledgements.
        wait_for_end(&host.dovecot, pid)?;
    }
    host.server.kill()?;
    let cuts = [Unsynced::Gone, Unsynced::Some(1), Unsynced::Some(2)];
    for unsynced in cuts {
        let restored = tempfile::tempdir()?;
        recorder.restore(restored.path(), unsynced)?;
        let server = Server::builder().data_dir(restored.path()).start()?;
        check_in_log(&server, &told).with_context(|| format!("{unsynced:?}"))?;
    }
    Ok(())
}

fn without_a_spill_directory_losses_are_counted(on: Installation) -> Result<()> {
    let host = Host::new(on, FLAG_EVENTS)?;
    fs::remove_dir(host.server.spill_dir()).context("the spill directory")?;
    let mut alice = Story::open(&host.dovecot, "alice", 5)?;
    let pid = session_pid(&host.dovecot, "alice")?;
    alice.steps(30)?;
    alice.logout()?;
    wait_for_end(&host.dovecot, pid)?;
    check_lost(&host.dovecot, 30)?;
    host.dovecot
        .wait_for_log("cannot spill events to `", ARRIVAL)?;
    check_alive(&host.dovecot)
}

fn every_example_with_a_relay_works(on: Installation) -> Result<()> {
    let all = examples(document(on), "dovecot.conf relay");
    ensure!(!all.is_empty(), "there is no example");
    for example in all {
        // The paths are those of this test; the last setting of a name counts.
        let without_paths: Vec<&str> = example
            .lines()
            .filter(|line| !line.contains("relay_socket") && !line.contains("relay_spill_dir"))
            .collect();
        let dovecot = with_plugin(on, Build::Dev)?
            .relay()
            .config(&without_paths.join("\n"))
            .start()?;
        let server = server_for(&dovecot).start()?;
        use_mail(&dovecot, "alice")?;
        let arrived = process::poll_until(ARRIVAL, || {
            let records = records(&server, "dovecot").ok()?;
            (!records.is_empty()).then_some(records)
        });
        let record = arrived.context("nothing has arrived")?.remove(0);
        dovecast_event::parse(&record.value)?;
        let errors = dovecot.errors_in_log();
        ensure!(errors.is_empty(), "errors in Dovecot's log: {errors:#?}");
    }
    Ok(())
}
