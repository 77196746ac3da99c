//! Keys and sealed values, without a database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Barrier};

use super::envelope::Field;
use super::key::Key;
use super::keyring::Keyring;
use super::source::KeySource;
use super::{KeyId, SecretsError};

const A: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const B: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
const FIELD: Field<'static> = Field {
    table: "endpoint",
    row: "1",
    name: "sealed",
};

fn ring(text: &str) -> Keyring {
    Keyring::parse(text, "here").expect("keys")
}

fn only(ring: &Keyring) -> KeyId {
    let mut ids = ring.ids();
    let id = ids.next().expect("a key");
    assert_eq!(ids.next(), None);
    id
}

#[test]
fn what_is_sealed_is_opened_in_its_place_and_with_its_key_only() {
    let (a, b, both) = (ring(A), ring(B), ring(&format!("{A}\n{B}\n")));
    let sealed = a.seal(only(&a), FIELD, b"s3cret").expect("sealed");
    assert!(sealed.starts_with(&format!("dcs1:{}:", only(&a))));
    assert_eq!(&**a.open(FIELD, &sealed).expect("opened"), b"s3cret");
    assert_eq!(&**both.open(FIELD, &sealed).expect("opened"), b"s3cret");
    let again = a.seal(only(&a), FIELD, b"s3cret").expect("sealed");
    assert_ne!(sealed, again, "a nonce came twice");

    let unknown = b.open(FIELD, &sealed).expect_err("without its key");
    let said = unknown.to_string();
    assert!(matches!(unknown, SecretsError::UnknownKey { .. }), "{said}");
    assert!(said.contains(&only(&a).to_string()) && said.contains("here"));
    assert!(said.contains("`sealed` of the endpoint `1`"), "{said}");

    for elsewhere in [
        Field { row: "2", ..FIELD },
        Field {
            table: "device",
            ..FIELD
        },
        Field {
            name: "other",
            ..FIELD
        },
    ] {
        let moved = a.open(elsewhere, &sealed).expect_err("in another place");
        assert!(matches!(moved, SecretsError::Damaged { .. }), "{moved}");
    }
}

#[test]
fn a_value_that_was_changed_is_an_error_and_never_empty() {
    let ring = ring(A);
    let id = only(&ring);
    let sealed = ring.seal(id, FIELD, b"s3cret").expect("sealed");
    let head = format!("dcs1:{id}:");
    let flipped = |at: usize| {
        let mut bytes = sealed.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).expect("text")
    };
    for (text, is_sealed) in [
        (String::new(), false),
        ("s3cret".to_owned(), false),
        ("dcs1:".to_owned(), false),
        (format!("dcs1:{A}"), false),
        (sealed.replace("dcs1", "dcs2"), false),
        (head.clone(), true),
        (format!("{head}AAAA"), true),
        (format!("{head}?"), true),
        (sealed[..sealed.len() - 4].to_owned(), true),
        (flipped(head.len()), true),
        (flipped(sealed.len() - 8), true),
    ] {
        let error = ring.open(FIELD, &text).expect_err(&text);
        let is_told = match &error {
            SecretsError::Damaged { .. } => is_sealed,
            SecretsError::NotSealed { .. } => !is_sealed,
            _ => false,
        };
        assert!(is_told, "{text}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_list_of_keys_is_read_as_it_is_written() {
    let text = format!("# the keys\n\n{A}\r\n  {B} # \n");
    let error = Keyring::parse(&text, "here").expect_err("a remark behind a key");
    assert_eq!(
        error.to_string(),
        "here, line 4: a key is the base64 of 32 bytes"
    );
    let both = ring(&format!("# the keys\n\n{A}\r\n  {B}\n{A}\n"));
    assert_eq!(both.ids().count(), 2);
    let again = ring(&both.text());
    assert!(again.ids().eq(both.ids()));
    assert!(ring(&format!("{A},{B}")).ids().eq(both.ids()));
    assert!(!format!("{both:?}").contains(&A[..8]), "{both:?}");
}

#[test]
fn what_is_no_key_is_refused_by_its_line_and_not_shown() {
    let id = only(&ring(A));
    for (text, expected) in [
        (String::new(), "there is no key in here"),
        ("# none\n".to_owned(), "there is no key in here"),
        (
            "s3cret".to_owned(),
            "here, line 1: a key is the base64 of 32 bytes",
        ),
        (
            format!("{A}\n{}", &A[4..]),
            "here, line 2: a key is the base64 of 32 bytes",
        ),
        (
            format!("{A}{A}"),
            "here, line 1: a key is the base64 of 32 bytes",
        ),
        (
            format!("s3cret:{A}"),
            "here, line 1: the id before the key is none",
        ),
        (
            format!("{id}:{B}"),
            "here, line 1: the id before the key is another key's",
        ),
    ] {
        let error = Keyring::parse(&text, "here").expect_err(&text).to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(
            !error.contains("s3cret") && !error.contains(&A[4..]),
            "{error}"
        );
    }
}

#[test]
fn a_file_is_made_once_for_its_owner_and_replaced_as_a_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secrets.key");
    let source = KeySource::File(path.clone());
    assert!(source.load().expect("nothing yet").is_none());
    let made = source.make().expect("made");
    let rights = fs::metadata(&path).expect("a file").permissions();
    assert_eq!(rights.mode() & 0o777, 0o600);
    let loaded = source.load().expect("read").expect("keys");
    assert!(loaded.ids().eq(made.ids()));
    let second = source.make().expect("those of who was faster");
    assert!(second.ids().eq(made.ids()));

    let before = source.stamp();
    let (a, b) = (ring(A), ring(B));
    let added = source.update(|ring| ring.add(Arc::clone(a.find(only(&a)).expect("a key"))));
    let added = added.expect("written");
    assert_ne!(source.stamp(), before);
    let loaded = source.load().expect("read").expect("keys");
    assert!(loaded.ids().eq(added.ids()));
    assert!(loaded.ids().eq(made.ids().chain(a.ids())));
    let all: Vec<_> = added.ids().collect();
    let before = source.stamp();
    let emptied = source.update(|ring| {
        ring.remove(&all);
        Ok(())
    });
    let emptied = emptied.expect_err("a file without keys");
    assert!(matches!(emptied, SecretsError::Empty { .. }), "{emptied}");
    let refused = source.update(|ring| {
        ring.add(Arc::clone(b.find(only(&b)).expect("a key")))?;
        Err(SecretsError::AnotherRotation)
    });
    refused.expect_err("no change");
    assert_eq!(source.stamp(), before);
    let mut left: Vec<_> = fs::read_dir(dir.path())
        .expect("a list")
        .map(|entry| entry.expect("a file").file_name())
        .collect();
    left.sort();
    assert_eq!(
        left,
        ["secrets.key", "secrets.key.lock"],
        "nothing else is left behind"
    );

    for mode in [0o644, 0o620, 0o604, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("rights");
        let exposed = source.load().expect_err("others may read it");
        assert!(matches!(exposed, SecretsError::Exposed { .. }), "{exposed}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("rights");
    assert!(source.load().is_ok(), "a group may read it");
}

#[test]
fn a_source_is_named_as_it_is_written() {
    for (text, expected) in [
        ("file:/a b", Some("`/a b`")),
        ("env:KEYS", Some("the environment variable `KEYS`")),
        (
            "credential:dovecast.keys",
            Some("the credential `dovecast.keys`"),
        ),
        ("file:", None),
        ("env:A=B", None),
        ("credential:../a", None),
        ("credential:a/b", None),
        ("vault:a", None),
        ("secrets.key", None),
    ] {
        let source = text.parse::<KeySource>().ok();
        let source = source.map(|source| source.to_string());
        assert_eq!(source.as_deref(), expected, "{text}");
    }
    let missing = KeySource::Environment("DOVECAST_TEST_NOT_SET".to_owned());
    let error = missing.load().expect_err("not set").to_string();
    assert!(error.contains("DOVECAST_TEST_NOT_SET"), "{error}");
    let missing = KeySource::Credential("dovecast-test".to_owned());
    let error = missing.load().expect_err("not there").to_string();
    assert!(error.contains("the credential `dovecast-test`"), "{error}");
}

#[test]
fn no_key_is_lost_where_several_write_a_file_at_once() {
    const WRITERS: usize = 8;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secrets.key");
    let source = KeySource::File(path.clone());
    let barrier = Barrier::new(WRITERS);
    let added: Vec<KeyId> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    let key = Arc::new(Key::generate().expect("a key"));
                    let id = key.id();
                    barrier.wait();
                    source.make().expect("a file");
                    source.update(|ring| ring.add(key)).expect("written");
                    id
                })
            })
            .collect();
        let ids = writers
            .into_iter()
            .map(|writer| writer.join().expect("an id"));
        ids.collect()
    });
    let loaded = source.load().expect("read").expect("keys");
    assert_eq!(loaded.ids().count(), WRITERS + 1);
    assert!(added.iter().all(|id| loaded.has(*id)));
}

#[test]
fn a_key_too_many_is_refused_before_it_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let source = KeySource::File(dir.path().join("secrets.key"));
    let add = |count: usize| {
        source.update(|ring| (0..count).try_for_each(|_| ring.add(Arc::new(Key::generate()?))))
    };
    add(100).expect("as many as there may be");
    let refused = add(1).expect_err("one more").to_string();
    assert!(refused.contains("there are 100 keys in"), "{refused}");
    assert_eq!(
        source.load().expect("read").expect("keys").ids().count(),
        100
    );
}

#[test]
fn what_a_killed_process_leaves_beside_the_file_is_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secrets.key");
    let source = KeySource::File(path.clone());
    source.tidy().expect("nothing");
    assert!(
        !dir.path().join("secrets.key.lock").exists(),
        "nothing to lock"
    );
    let leftovers = ["secrets.key.77.new", "secrets.key.00ff00ff00ff00ff.new"];
    let others = [
        "secrets.key.new",
        "secrets.key.mine.new",
        "other.key.77.new",
    ];
    for name in leftovers.iter().chain(&others) {
        fs::write(dir.path().join(name), A).expect("a file");
    }
    source.tidy().expect("removed");
    for name in leftovers {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
    for name in others {
        assert!(dir.path().join(name).exists(), "{name}");
    }
}

#[test]
fn the_index_of_keys_serves_what_is_asked_with_the_registry_locked() {
    let database = rusqlite::Connection::open_in_memory().expect("a database");
    for migration in crate::schema::MIGRATIONS {
        let migration = crate::schema::spoken(migration, false);
        database.execute_batch(&migration).expect("a migration");
    }
    for (statement, index) in super::rotation::WITH_THE_LOCK {
        let plan = format!("EXPLAIN QUERY PLAN {statement}");
        let mut plan = database.prepare(&plan).expect("a plan");
        let count = plan.parameter_count();
        let steps = plan.query_map(rusqlite::params_from_iter(vec!["1"; count]), |row| {
            row.get::<_, String>("detail")
        });
        let steps: Vec<_> = steps
            .expect("steps")
            .map(|step| step.expect("a step"))
            .collect();
        assert!(steps.iter().any(|step| step.contains(index)), "{steps:?}");
        let without_index = ["endpoint", "push_subscription", "push_credential"]
            .map(|table| format!("SCAN {table}"));
        assert!(
            !steps.iter().any(|step| without_index.contains(step)),
            "{steps:?}"
        );
    }
}
