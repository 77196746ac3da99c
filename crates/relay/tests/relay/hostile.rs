//! What a user who may make files in the spill directory can put there: nobody but himself is held
//! back by it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dovecast_relay::client::{Client, News};
use dovecast_relay::spill;
use dovecast_relay::wire::WireRecord;
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::{Host, PATIENCE, check_in_order, finish, id, is_aside, read_to_end, send};

/// Comes before every name that a client gives.
const FIRST: &str = "0000000000000-x";

fn record(user: &str, number: u32) -> (Vec<u8>, Uuid) {
    (format!("{user} {number}").into_bytes(), id(user, number))
}

/// A proper spill file with so many records, at `path`.
fn proper(path: &Path, user: &str, count: u32) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = None;
    for number in 0..count {
        let (value, id) = record(user, number);
        let record = WireRecord {
            topic: "dovecot",
            key: user.as_bytes(),
            value: &value,
            time_ms: 0,
            id,
            txn: Uuid::nil(),
            txn_seq: 0,
            txn_last: true,
        };
        let author = spill::Author {
            host: "mail1",
            program: "x",
        };
        let writer = writer.get_or_insert_with(|| {
            spill::Writer::create(dir.path(), &author, &record, 1 << 30).expect("a file")
        });
        writer.push(&record);
    }
    let mut writer = writer.expect("a record");
    writer.flush().expect("room");
    fs::copy(writer.path(), path).expect("a copy");
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(path, mode).expect("its own");
}

/// What is put into the directory; what it returns is kept as long as the relay runs.
type Mischief = (&'static str, fn(&Path) -> Vec<File>);

fn mischief() -> Vec<Mischief> {
    vec![
        (
            "nonsense, and a directory under the name it is put aside as",
            |dir| {
                fs::write(dir.join(format!("{FIRST}.spill")), "nonsense").expect("a file");
                let aside = dir.join(format!("{FIRST}.spill.torn"));
                fs::create_dir(&aside).expect("a directory");
                fs::write(aside.join("full"), "").expect("a file");
                vec![]
            },
        ),
        ("a directory", |dir| {
            fs::create_dir(dir.join(format!("{FIRST}.spill"))).expect("a directory");
            vec![]
        }),
        ("links", |dir| {
            for (name, to) in [
                ("0", "/dev/zero"),
                ("1", "nowhere"),
                ("2", "2.spill"),
                ("3", "/"),
            ] {
                symlink(to, dir.join(format!("{name}.spill"))).expect("a link");
            }
            vec![]
        }),
        ("a pipe and a socket", |dir| {
            let pipe = dir.join(format!("{FIRST}.spill"));
            let made = Command::new("mkfifo").arg(pipe).status();
            assert!(made.expect("mkfifo").success());
            drop(UnixListener::bind(dir.join("1.spill")).expect("a socket"));
            vec![]
        }),
        ("a file that nobody may read", |dir| {
            let path = dir.join(format!("{FIRST}.spill"));
            fs::write(&path, "").expect("a file");
            fs::set_permissions(path, fs::Permissions::from_mode(0o000)).expect("its own");
            vec![]
        }),
        ("a huge file", |dir| {
            let file = File::create(dir.join(format!("{FIRST}.spill"))).expect("a file");
            (&file).write_all(spill::MAGIC).expect("room");
            file.set_len(1 << 40).expect("holes take no room");
            vec![]
        }),
        ("strange names", |dir| {
            let long = "0".repeat(249);
            for name in ["0\n0", "0\x1b[2J", "ä", long.as_str(), " ", "..0", "-rf"] {
                fs::write(dir.join(format!("{name}.spill")), "nonsense").expect("a file");
            }
            vec![]
        }),
        ("a file whose writer stays, torn", |dir| {
            let path = dir.join(format!("{FIRST}.spill"));
            proper(&path, "mallory", 3);
            let file = File::options().append(true).open(&path).expect("the file");
            (&file).write_all(b"torn").expect("room");
            flock(&file, FlockOperation::NonBlockingLockExclusive).expect("a lock");
            vec![file]
        }),
        ("thousands of files", |dir| {
            for i in 0..3000 {
                fs::write(dir.join(format!("{FIRST}{i}.spill")), "nonsense").expect("a file");
                fs::create_dir(dir.join(format!("{FIRST}{i}x.spill"))).expect("a directory");
                fs::write(dir.join(format!("{FIRST}{i}.torn")), "").expect("a file");
            }
            vec![]
        }),
    ]
}

/// That a client was never turned away, and has lost nothing.
fn check_unhindered(what: &str, client: Client) {
    let news = finish(client);
    let hindered = |news: &News| match news {
        News::Trouble(text) => text.contains("it refuses"),
        News::Lost { .. } => true,
    };
    assert!(!news.iter().any(hindered), "{what}: {news:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_leaves_in_the_directory_holds_no_other_back() {
    for (what, make) in mischief() {
        let mut host = Host::new();
        host.make_spill_dir();
        // A client whose file comes after all that, before and while the relay runs.
        let mut early = host.client();
        send(&mut early, "alice", 0..2);
        let _kept = make(&host.spill_dir());
        host.start();
        early.retry_now();
        send(&mut early, "alice", 2..4);
        check_unhindered(what, early);
        let mut late = host.client();
        host.stop().await;
        send(&mut late, "bob", 0..2);
        host.start();
        late.retry_now();
        send(&mut late, "bob", 2..4);
        check_unhindered(what, late);
        let mallory = usize::from(what.contains("torn") && what.contains("writer")) * 3;
        let records = host.arrived(8 + mallory).await;
        check_in_order(&records);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_put_aside_are_kept_apart_and_bounded() {
    let mut host = Host::new();
    host.make_spill_dir();
    let taken = host.spill_dir().join("a.spill.torn");
    fs::create_dir(&taken).expect("a directory");
    for name in ["a.spill".to_owned(), format!("{}.spill", "0".repeat(249))] {
        fs::write(host.spill_dir().join(name), "nonsense").expect("a file");
    }
    for i in 0..200 {
        fs::write(host.spill_dir().join(format!("x{i}.torn")), "").expect("a file");
    }
    host.start();
    let aside = async {
        loop {
            let there = host.spill_files();
            let are_aside = there.iter().all(|name| is_aside(name));
            if are_aside && there.len() == 101 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(PATIENCE, aside).await;
    assert!(done.is_ok(), "{:?}", host.spill_files());
    assert!(taken.is_dir());
    assert_eq!(host.relay().stats().spill_torn, 2);
}

/// A writer that does not lock its file, and appends as much as the relay has read.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_grows_while_it_is_read_is_read_as_far_as_it_was() {
    const RECORDS: u32 = 5000;
    let mut host = Host::new();
    host.make_spill_dir();
    let path = host.spill_dir().join(format!("{FIRST}.spill"));
    proper(&path, "mallory", RECORDS);
    let whole = fs::read(&path).expect("the file");
    let mut file = File::options().append(true).open(&path).expect("the file");
    host.start();
    let mut client = host.client();
    let sends = tokio::task::spawn_blocking(move || {
        send(&mut client, "alice", 0..3);
        finish(client)
    });
    // The records behind the head again and again: known to the log, and read all the same.
    let head = head_bytes();
    let grows = async {
        let mut seen = 0;
        loop {
            let read = host.relay().stats().spill_records;
            if read != seen {
                seen = read;
                file.write_all(&whole[head..]).expect("room");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let sent = tokio::select! {
        () = grows => unreachable!("it grows for ever"),
        sent = sends => sent.expect("a client"),
        () = tokio::time::sleep(PATIENCE) => panic!("the client is not heard"),
    };
    assert_eq!(sent, []);
    check_in_order(&host.arrived(5003).await);
}

/// What is before the first record of a file that `proper` makes.
fn head_bytes() -> usize {
    spill::MAGIC.len() + 8 + 2 + "mail1".len() + 2 + "x".len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_names_what_is_no_name_is_refused_and_reads_nothing() {
    let mut host = Host::new();
    host.make_spill_dir();
    proper(&host.dir.path().join("outside.spill"), "mallory", 1);
    host.start();
    for name in [
        "../outside.spill",
        ".hidden.spill",
        "a",
        "a/b.spill",
        "a\nb.spill",
    ] {
        let mut stream = host.connect();
        let hello = crate::clients::hello(name);
        stream.write_all(&hello).expect("the relay reads");
        let said = read_to_end(stream);
        let text = String::from_utf8_lossy(&said);
        assert!(
            text.contains("is no name of a spill file"),
            "{name}: {text}"
        );
    }
    host.arrived(0).await;
}

/// Whatever number of files is there: the client does not wait for the search to come to them.
#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_user_who_may_not_send_keep_no_client_waiting_for_a_relay_that_starts() {
    const FILES: u64 = 100;
    if fs::metadata("/proc/self").expect("proc").uid() != 0 {
        println!("*** not root: files of another user could not be tried");
        return;
    }
    let mut host = Host::new();
    host.make_spill_dir();
    for number in 0..FILES {
        let path = host.spill_dir().join(format!("{FIRST}{number}.spill"));
        proper(&path, "mallory", 1);
        chown(path, Some(10_001), None).expect("given away");
    }
    // The search comes to them when it has looked for long.
    host.options.spill_interval = Duration::from_hours(1);
    host.start();
    let mut client = host.client();
    send(&mut client, "alice", 0..1);
    check_unhindered("files of another user", client);
    check_in_order(&host.arrived(1).await);
    assert_eq!(host.relay().stats().spill_refused, 0, "not opened yet");
    host.stop().await;
    host.options.spill_interval = Duration::from_millis(50);
    host.start();
    let refused = async {
        while host.relay().stats().spill_refused < FILES {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await;
    assert!(refused.is_ok(), "{:?}", host.relay().stats());
}
