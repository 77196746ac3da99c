//! Tests of snapshots against a plain list of mails.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Deliver(u8, u32),
    Expunge(prop::sample::Index),
    Vanish(prop::sample::Index),
    Flag(prop::sample::Index, u8, bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let index = any::<prop::sample::Index>;
    let act = prop_oneof![
        (0..32_u8, 1..3_u32).prop_map(|(flags, gap)| Act::Deliver(flags, gap)),
        index().prop_map(Act::Expunge),
        index().prop_map(Act::Vanish),
        (index(), 0..32_u8, any::<bool>()).prop_map(|(at, flags, by)| Act::Flag(at, flags, by)),
    ];
    prop::collection::vec(act, 0..200)
}

fn flags(bits: u8) -> Flags {
    Flags::from_dovecot(u32::from(bits))
}

/// What is told, taken back into a list.
fn follow(mails: &mut Vec<(u32, Flags)>, what: &What) {
    let flags_of = |mails: &mut Vec<(u32, Flags)>, uid: u32| {
        mails.iter().position(|mail| mail.0 == uid).expect("a mail")
    };
    match what {
        What::Came(_) => {}
        What::Went { uid } => {
            let at = flags_of(mails, *uid);
            mails.remove(at);
        }
        What::FlagsSet { uid, flags } => {
            let at = flags_of(mails, *uid);
            mails[at].1 = mails[at].1 | *flags;
        }
        What::FlagsClear { uid, flags } => {
            let at = flags_of(mails, *uid);
            mails[at].1 = mails[at].1.without(*flags);
        }
    }
}

proptest! {
    #[test]
    fn a_snapshot_tells_what_happens_to_a_list_of_mails(acts in acts()) {
        let mut mails: Vec<(u32, Flags)> = Vec::new();
        let mut told = Vec::new();
        let mut snapshot = Snapshot::new(1, 1);
        let first = snapshot.clone();
        let mut next = 1;
        let number = |at: usize| u32::try_from(at + 1).expect("few mails");
        for act in acts {
            let mut tell = |what: What| follow(&mut told, &what);
            match act {
                Act::Deliver(bits, gap) => {
                    next += gap;
                    mails.push((next, flags(bits)));
                    snapshot.apply(&Data::Exists(number(mails.len() - 1)), &mut tell);
                    prop_assert!(snapshot.has_more());
                    snapshot.push(next, flags(bits));
                    told.push((next, flags(bits)));
                }
                _ if mails.is_empty() => {}
                Act::Expunge(at) => {
                    let at = at.index(mails.len());
                    mails.remove(at);
                    snapshot.apply(&Data::Expunge(number(at)), &mut tell);
                }
                Act::Vanish(at) => {
                    let (uid, _) = mails.remove(at.index(mails.len()));
                    let uids = vec![UidRange { first: uid, last: uid }];
                    snapshot.apply(&Data::Vanished { earlier: false, uids }, &mut tell);
                }
                Act::Flag(at, bits, by_uid) => {
                    let at = at.index(mails.len());
                    mails[at].1 = flags(bits);
                    let fetched = Fetched {
                        sequence: number(at),
                        uid: by_uid.then_some(mails[at].0),
                        flags: Some(flags(bits)),
                        ..Fetched::default()
                    };
                    snapshot.apply(&Data::Fetch(fetched), &mut tell);
                }
            }
            prop_assert!(snapshot.is_complete());
            prop_assert_eq!(snapshot.since(0).collect::<Vec<_>>(), mails.clone());
            prop_assert_eq!(&told, &mails);
        }
        // The way from an empty mailbox has nothing but mails that came.
        let mut changes = 0;
        first.differences(&snapshot, &mut |_| changes += 1);
        prop_assert_eq!(changes, 0);
        let json = serde_json::to_string(&snapshot).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<Snapshot>(&json).expect("a snapshot"), snapshot);
    }

    #[test]
    fn two_snapshots_differ_by_what_happened_between(
        before in prop::collection::btree_map(1..60_u32, 0..32_u8, 0..40),
        after in prop::collection::btree_map(1..60_u32, 0..32_u8, 0..40),
    ) {
        let snapshot = |mails: &std::collections::BTreeMap<u32, u8>| {
            let mut snapshot = Snapshot::new(1, 1);
            for (uid, bits) in mails {
                snapshot.push(*uid, flags(*bits));
            }
            snapshot
        };
        let (old, new) = (snapshot(&before), snapshot(&after));
        let mut mails: Vec<_> = old.since(0).collect();
        old.differences(&new, &mut |what| follow(&mut mails, &what));
        let expected: Vec<_> = new.since(0).filter(|(uid, _)| before.contains_key(uid)).collect();
        prop_assert_eq!(mails, expected);
    }
}

#[test]
fn of_a_mailbox_with_too_many_runs_the_oldest_mails_are_a_number() {
    let mut snapshot = Snapshot::new(1, 1);
    let mails = u32::try_from(MAX_RUNS).expect("a number") + 10;
    for uid in 1..=mails {
        snapshot.push(uid * 2, Flags::default());
    }
    assert_eq!((snapshot.known(), snapshot.below), (mails - 10, 10));
    assert!(snapshot.is_complete());
    assert_eq!(snapshot.unseen(), None);
    let mut told = Vec::new();
    snapshot.apply(&Data::Expunge(10), &mut |what| told.push(what));
    assert_eq!(told, []);
    snapshot.apply(&Data::Expunge(10), &mut |what| told.push(what));
    assert_eq!(told, [What::Went { uid: 22 }]);
    assert!(snapshot.is_complete());
    let gone = UidRange {
        first: 20,
        last: 21,
    };
    let vanished = Data::Vanished {
        earlier: true,
        uids: vec![gone],
    };
    snapshot.apply(&vanished, &mut |what| told.push(what));
    assert_eq!(told.len(), 1);
    snapshot.apply(&Data::Exists(mails - 3), &mut |what| told.push(what));
    assert!(snapshot.settle());
}
