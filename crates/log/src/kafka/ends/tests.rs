//! Partitions that have lost their end or begin anew, with a cluster that is made up.

use super::*;

/// Partitions that begin and end somewhere, and whether another consumer gets a record of them.
#[derive(Default)]
struct Fake {
    kept: HashMap<u32, Range<u64>>,
    has_records: bool,
    is_slow: bool,
    asked: Vec<u32>,
    probed: usize,
}

impl Cluster for Fake {
    fn kept(&mut self, of: &TopicPartition) -> Option<Range<u64>> {
        self.asked.push(of.partition);
        self.kept.get(&of.partition).cloned()
    }

    fn has_record(&mut self, _: &TopicPartition, _: u64) -> Option<bool> {
        self.probed += 1;
        (!self.is_slow).then_some(self.has_records)
    }
}

fn followed(partition: u32, next: Option<u64>) -> Followed {
    let topic = Arc::from("t");
    let of = TopicPartition { topic, partition };
    Followed { of, next }
}

/// Checks one partition so often, each time with what comes next; gives the number of each
/// check that found it silent.
fn found(checks: &mut EndChecks, cluster: &mut Fake, nexts: &[Option<u64>]) -> Vec<usize> {
    let mut found = Vec::new();
    for (number, next) in nexts.iter().enumerate() {
        let followed = [followed(0, *next)];
        if let Some(silent) = checks.look(&followed, cluster) {
            assert_eq!(silent.of, followed[0].of);
            found.push(number);
        }
    }
    found
}

/// One partition that keeps these offsets.
fn check(kept: Range<u64>, has_records: bool, nexts: &[Option<u64>], expected: &[usize]) {
    let mut cluster = Fake {
        kept: HashMap::from([(0, kept.clone())]),
        has_records,
        ..Fake::default()
    };
    let mut checks = EndChecks::new(Instant::now());
    assert_eq!(
        found(&mut checks, &mut cluster, nexts),
        expected,
        "{kept:?}, {nexts:?}"
    );
}

#[test]
fn a_partition_is_silent_that_ends_before_what_comes_next_or_has_a_record_that_does_not_come() {
    check(0..20, false, &[Some(20); 4], &[]);
    check(0..10, false, &[Some(20); 3], &[2]);
    check(0..30, true, &[Some(20); 3], &[2]);
    check(0..30, false, &[Some(20); 6], &[]);
    // What moves is not silent.
    let moving: Vec<Option<u64>> = (0..6).map(Some).collect();
    check(0..30, true, &moving, &[]);
    // What was never read and never committed begins at the oldest record.
    check(7..30, true, &[None; 3], &[2]);
    check(7..7, true, &[None; 6], &[]);
}

#[test]
fn nothing_is_done_twice_for_the_same_end() {
    check(0..10, false, &[Some(20); 9], &[2]);
    check(0..30, true, &[Some(20); 9], &[2]);
    let mut checks = EndChecks::new(Instant::now());
    let mut cluster = Fake {
        kept: HashMap::from([(0, 0..30)]),
        ..Fake::default()
    };
    assert!(found(&mut checks, &mut cluster, &[Some(20); 9]).is_empty());
    // Twice: a leader may be behind.
    assert_eq!(cluster.probed, 2);
    cluster.kept.insert(0, 0..31);
    cluster.has_records = true;
    assert_eq!(found(&mut checks, &mut cluster, &[Some(20); 3]), [1]);
    checks.replaced(Instant::now());
    assert!(found(&mut checks, &mut cluster, &[Some(20); 9]).is_empty());
}

#[test]
fn what_cannot_be_found_out_is_asked_again() {
    let mut checks = EndChecks::new(Instant::now());
    let mut cluster = Fake {
        kept: HashMap::from([(0, 0..30)]),
        has_records: true,
        is_slow: true,
        ..Fake::default()
    };
    assert!(found(&mut checks, &mut cluster, &[Some(20); 7]).is_empty());
    assert_eq!(cluster.probed, 3);
    cluster.is_slow = false;
    assert_eq!(found(&mut checks, &mut cluster, &[Some(20); 2]), [1]);
}

#[test]
fn while_partitions_are_paused_nothing_is_unread() {
    let mut checks = EndChecks::new(Instant::now());
    let mut cluster = Fake {
        kept: HashMap::from([(0, 0..30)]),
        has_records: true,
        ..Fake::default()
    };
    for _ in 0..5 {
        assert!(found(&mut checks, &mut cluster, &[Some(20); 2]).is_empty());
        checks.paused();
    }
    assert_eq!(found(&mut checks, &mut cluster, &[Some(20); 3]), [2]);
}

#[test]
fn all_partitions_are_asked_about_in_turn_also_where_one_does_not_answer() {
    const PARTITIONS: u32 = 40;
    let mut checks = EndChecks::new(Instant::now());
    let mut cluster = Fake::default();
    let followed: Vec<Followed> = (0..PARTITIONS).map(|at| followed(at, Some(1))).collect();
    cluster
        .kept
        .extend((0..PARTITIONS).filter(|at| *at != 3).map(|at| (at, 0..1)));
    let mut look = |cluster: &mut Fake| {
        cluster.asked.clear();
        checks.look(&followed, cluster);
        cluster.asked.clone()
    };
    assert!(look(&mut cluster).is_empty());
    // The fourth does not answer, and those behind it would take as long.
    assert_eq!(look(&mut cluster), (0..4).collect::<Vec<_>>());
    assert_eq!(look(&mut cluster), (4..20).collect::<Vec<_>>());
    assert_eq!(look(&mut cluster), (20..36).collect::<Vec<_>>());
    assert_eq!(look(&mut cluster), (36..40).chain(0..4).collect::<Vec<_>>());
}

#[test]
fn an_end_that_is_lost_is_found_while_partitions_are_paused_now_and_then() {
    let mut checks = EndChecks::new(Instant::now());
    let mut cluster = Fake {
        kept: HashMap::from([(0, 0..10)]),
        ..Fake::default()
    };
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(found(&mut checks, &mut cluster, &[Some(20)]));
        checks.paused();
    }
    assert_eq!(seen, [0]);
}

#[test]
fn one_that_does_not_answer_any_more_holds_up_no_other() {
    let mut checks = EndChecks::new(Instant::now());
    let mut cluster = Fake {
        kept: HashMap::from([(0, 0..30), (1, 0..20)]),
        has_records: true,
        ..Fake::default()
    };
    let followed = [0, 1].map(|at| followed(at, Some(20)));
    for _ in 0..2 {
        assert_eq!(checks.look(&followed, &mut cluster), None);
    }
    // Something was found of the first, and its leader has gone; the second is silent now.
    cluster.kept = HashMap::from([(1, 0..25)]);
    let silent = (0..8).find_map(|_| checks.look(&followed, &mut cluster));
    assert_eq!(silent.map(|silent| silent.of.partition), Some(1));
}

#[test]
fn one_question_without_an_answer_ends_a_check_and_the_next_comes_later() {
    let now = Instant::now();
    let mut checks = EndChecks::new(now);
    let mut cluster = Fake {
        is_slow: true,
        ..Fake::default()
    };
    cluster.kept.extend((0..16).map(|at| (at, 0..30)));
    let followed: Vec<Followed> = (0..16).map(|at| followed(at, Some(20))).collect();
    for _ in 0..3 {
        checks.look(&followed, &mut cluster);
    }
    assert_eq!(cluster.probed, 1);
    assert!(!checks.is_due(now + CHECK_INTERVAL));
    assert!(checks.is_due(now + CHECK_INTERVAL * 2));
    // All of them have moved: there is no question left.
    let followed: Vec<Followed> = (0..16)
        .map(|at| super::tests::followed(at, Some(30)))
        .collect();
    for _ in 0..2 {
        checks.look(&followed, &mut cluster);
    }
    assert!(checks.is_due(now + CHECK_INTERVAL));
}

#[test]
fn what_was_settled_is_not_what_comes_when_a_partition_has_moved() {
    let mut checks = EndChecks::new(Instant::now());
    let mut cluster = Fake {
        kept: HashMap::from([(0, 0..10)]),
        ..Fake::default()
    };
    assert_eq!(found(&mut checks, &mut cluster, &[Some(20); 3]), [2]);
    checks.replaced(Instant::now());
    let nexts = [Some(5), Some(20), Some(20), Some(20)];
    assert_eq!(found(&mut checks, &mut cluster, &nexts), [3]);
}
