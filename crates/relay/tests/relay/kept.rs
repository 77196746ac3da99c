//! Records of spill files that the configuration refuses: kept until it takes them.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use dovecast_log::embedded::Embedded;
use dovecast_log::{Log, Reader, Record, StartAt};
use dovecast_relay::client::{Client, News};
use dovecast_relay::server::{Topics, UserNames};
use dovecast_relay::spill;
use dovecast_relay::wire::WireRecord;
use uuid::Uuid;

use crate::{Host, PATIENCE, check_in_order, finish, id, send};

/// A user id that is not the relay's.
const JOE: u32 = 10_001;

fn record<'a>(topic: &'a str, key: &'a str, value: &'a [u8], number: u32) -> WireRecord<'a> {
    WireRecord {
        topic,
        key: key.as_bytes(),
        value,
        time_ms: 0,
        id: id(key, number),
        txn: Uuid::nil(),
        txn_seq: 0,
        txn_last: true,
    }
}

fn topics(names: &[&str]) -> Topics {
    let reserved = ["hooks.outbox".to_owned()];
    Topics::new(names.iter().map(|name| (*name).to_owned()), reserved)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(done.is_ok(), "{what}");
}

async fn read(log: &Embedded, topic: &str, count: usize) -> Vec<Record> {
    let reader = log.reader(topic, StartAt::Beginning).await;
    let mut reader = reader.expect("a reader");
    let mut records = Vec::new();
    while records.len() < count {
        let next = tokio::time::timeout(PATIENCE, reader.next()).await;
        records.extend(next.expect("they come").expect("they can be read"));
    }
    let more = tokio::time::timeout(Duration::from_millis(100), reader.next()).await;
    assert!(more.is_err(), "more than {count} records of {topic}");
    records
}

/// Sends records to `dovecot`, and to a topic that had to be named nowhere before.
fn send_mixed(client: &mut Client) {
    send(client, "alice", 0..1);
    for number in 0..2 {
        client.push(&record("mail-events", "old", b"{}", number));
        client.flush();
        send(client, "alice", number + 1..number + 2);
    }
}

fn is_refused(names: &[String]) -> bool {
    matches!(names, [name] if name.ends_with(".refused"))
}

fn has_lost(news: &[News]) -> bool {
    news.iter().any(|news| matches!(news, News::Lost { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spill_file_for_a_topic_that_is_not_named_is_kept_until_it_is() {
    // Whether the file's writer lives while it is taken in first.
    for is_live in [false, true] {
        let mut host = Host::new();
        host.make_spill_dir();
        let mut client = Some(host.client());
        send_mixed(client.as_mut().expect("a client"));
        if !is_live && let Some(client) = client.take() {
            assert!(!has_lost(&finish(client)));
        }
        host.start();
        check_in_order(&read(host.log(), "dovecot", 3).await);
        if let Some(client) = client.take() {
            host.stop().await;
            assert!(!has_lost(&finish(client)));
            // What it has had of the file it has had before it was started.
            host.start();
        }
        until("it is kept", || is_refused(&host.spill_files())).await;
        let stats = host.relay().stats();
        assert_eq!(stats.dropped, 0);
        assert_eq!(stats.spill_kept, if is_live { 0 } else { 2 });
        // Another start with the same configuration changes nothing.
        let before = host.spill_files();
        host.stop().await;
        host.start();
        check_in_order(&read(host.log(), "dovecot", 3).await);
        assert_eq!(host.spill_files(), before);
        host.stop().await;
        host.options.topics = topics(&["dovecot", "mail-events"]);
        host.start();
        read(host.log(), "mail-events", 2).await;
        check_in_order(&read(host.log(), "dovecot", 3).await);
        until("it is gone", || host.spill_files().is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_file_has_refused_records_is_heard_and_loses_none() {
    let mut host = Host::new();
    host.make_spill_dir();
    let mut client = host.client();
    send_mixed(&mut client);
    // Never taken, whatever is configured.
    let mut own = record("dovecot", "own", b"{}", 0);
    own.id = uuid::Builder::from_custom_bytes([7; 16]).into_uuid();
    client.push(&own);
    client.flush();
    host.start();
    client.retry_now();
    send(&mut client, "alice", 3..4);
    let news = finish(client);
    let lost: Vec<&News> = news
        .iter()
        .filter(|news| matches!(news, News::Lost { .. }))
        .collect();
    let [News::Lost { records: 1, reason }] = lost[..] else {
        panic!("not the one that is never taken: {lost:?}");
    };
    assert!(reason.ends_with("is one of dovecast's own"), "{reason}");
    check_in_order(&host.arrived(4).await);
    until("it is kept", || is_refused(&host.spill_files())).await;
    let stats = host.relay().stats();
    assert_eq!((stats.dropped, stats.spill_kept), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_a_process_that_served_several_users_is_kept_when_they_are_bound() {
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        println!("*** not root: a file of another user could not be tried");
        return;
    }
    let mut host = Host::new();
    host.make_spill_dir();
    let first = record("dovecot", "joe", b"", 0);
    let author = spill::Author::new("mail1", "lmtp");
    let mut writer =
        spill::Writer::create(&host.spill_dir(), &author, &first, 1 << 20).expect("a file");
    for (number, user) in (0..).zip(["joe", "ann", "joe"]) {
        let value = format!(
            r#"{{"user":"{user}","mailbox":"INBOX","event":"MailboxCreate","uidvalidity":1}}"#
        );
        writer.push(&record("dovecot", user, value.as_bytes(), number));
    }
    writer.flush().expect("room");
    chown(writer.path(), Some(JOE), None).expect("given away");
    drop(writer);
    host.options.allow = vec![JOE..=JOE];
    host.options.bind_user = Some(UserNames::new(|_| Ok(Some("joe".to_owned()))));
    host.start();
    let records = read(host.log(), "dovecot", 2).await;
    assert!(
        records
            .iter()
            .all(|record| record.key.as_deref() == Some(b"joe"))
    );
    until("it is kept", || is_refused(&host.spill_files())).await;
    let stats = host.relay().stats();
    assert_eq!((stats.dropped, stats.spill_kept), (0, 1));
    host.stop().await;
    host.options.bind_user = None;
    host.start();
    read(host.log(), "dovecot", 3).await;
    until("it is gone", || host.spill_files().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_free_for_its_writer_while_the_host_is_asked_for_a_name() {
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        println!("*** not root: a file of another user could not be tried");
        return;
    }
    let mut host = Host::new();
    host.make_spill_dir();
    let value = br#"{"user":"joe","mailbox":"INBOX","event":"MailboxCreate","uidvalidity":1}"#;
    let event = record("dovecot", "joe", value, 0);
    let author = spill::Author::new("mail1", "lmtp");
    let writer = spill::Writer::create(&host.spill_dir(), &author, &event, 1 << 20);
    let mut writer = writer.expect("a file");
    writer.push(&event);
    writer.flush().expect("room");
    let path = writer.path().to_owned();
    drop(writer);
    chown(&path, Some(JOE), None).expect("given away");
    host.options.allow = vec![JOE..=JOE];
    let (asked, is_asked) = mpsc::channel();
    let (release, hangs) = mpsc::channel::<()>();
    let hangs = Mutex::new((asked, hangs));
    host.options.bind_user = Some(UserNames::new(move |_| {
        let hangs = hangs.lock().expect("not poisoned");
        let _ = hangs.0.send(());
        // Until the test has looked.
        let _ = hangs.1.recv();
        Ok(Some("joe".to_owned()))
    }));
    host.start();
    is_asked
        .recv_timeout(PATIENCE)
        .expect("the name is asked for");
    let file = fs::File::open(&path).expect("the file");
    file.try_lock().expect("nobody else has locked it");
    drop((file, release));
    read(host.log(), "dovecot", 1).await;
}
