//! A clock that is set, a process that is away: what of a log with a batch for each hour is left
//! then.

use std::time::{Duration, Instant};

use super::*;

/// Hours that are kept, each with one batch at first.
const KEPT: i64 = 7 * 24;
const DECADES: i64 = YEAR / HOUR * 50;

/// What happens; all in hours.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Somebody sets the clock by so much.
    Set(i64),
    /// Time passes, and retention is looked at each hour.
    Pass(u32),
    /// Time passes while no process runs.
    Down(u32),
    /// A batch is appended.
    Append,
}
use Event::{Append, Down, Pass, Set};

/// The log and the machine around it.
struct Machine {
    shared: Shared,
    connection: Connection,
    retention: Retention,
    now: Now,
    /// The offset of the next batch.
    next: u64,
}

impl Machine {
    /// A log whose clock was wrong by so much while it was written.
    fn new(dir: &std::path::Path, wrong: i64) -> Self {
        let kept_ms = (KEPT * HOUR).cast_unsigned();
        let shared = shared(dir, (None, Some(kept_ms)));
        let connection = shared.store.open_writer().expect("a store");
        let now = Now {
            time_ms: now_ms() + wrong * HOUR,
            steady: Instant::now(),
        };
        connection
            .execute_batch(
                "INSERT INTO topic (id, name) VALUES (1, 'dovecot');
                INSERT INTO partition (id, topic, number) VALUES (0, 1, 0);",
            )
            .expect("a topic");
        load::load(&shared, &connection).expect("a log");
        let mut machine = Self {
            shared,
            connection,
            retention: Retention::new(now),
            now,
            next: 0,
        };
        for age in (0..KEPT).rev() {
            // Half an hour from where it is too old.
            machine.append(now.time_ms - age * HOUR - HOUR / 2);
        }
        machine.look();
        machine
    }

    fn append(&mut self, time_ms: i64) {
        self.connection
            .execute(
                "INSERT INTO batch (key, count, time_ms, pos, bytes) VALUES (?1, 1, ?2, ?1, x'00')",
                params![key(0, self.next), time_ms],
            )
            .expect("room");
        self.next += 1;
    }

    fn look(&mut self) {
        let retention = &mut self.retention;
        step(&self.shared, &mut self.connection, retention, self.now).expect("room");
    }

    fn pass(&mut self, hours: u32) {
        self.now.time_ms += i64::from(hours) * HOUR;
        self.now.steady += Duration::from_hours(u64::from(hours));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Append => self.append(self.now.time_ms),
            Set(hours) => self.now.time_ms += hours * HOUR,
            Pass(hours) => {
                for _ in 1..hours {
                    self.pass(1);
                    self.look();
                }
                self.pass(1);
            }
            Down(hours) => {
                self.pass(hours);
                self.retention = Retention::new(self.now);
            }
        }
        self.look();
    }
}

/// What happens, and how many batches are left afterwards.
fn check(what: &str, wrong: i64, events: &[(Event, u64)]) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut machine = Machine::new(dir.path(), wrong);
    for (i, (event, left)) in events.iter().enumerate() {
        machine.happen(*event);
        let found = batches(&machine.connection, 0);
        assert_eq!(found, *left, "{what}: after {:?}", &events[..=i]);
    }
}

#[test]
fn a_clock_that_is_set_empties_no_log() {
    const AHEAD: i64 = 8 * 24;
    check("right all along", 0, &[(Pass(24), 144), (Pass(24), 120)]);
    check(
        "ahead for an hour",
        0,
        &[
            (Set(AHEAD), 168),
            (Pass(1), 164),
            (Set(-AHEAD), 164),
            (Pass(4), 163),
        ],
    );
    check(
        "ahead from now on",
        0,
        &[(Set(AHEAD), 168), (Pass(32), 40), (Pass(32), 0)],
    );
    check(
        "ahead, and begun anew",
        0,
        &[
            (Set(AHEAD), 168),
            (Down(1), 168),
            (Pass(1), 164),
            (Down(1), 164),
            (Pass(1), 160),
        ],
    );
    check("ahead when it is begun", AHEAD, &[(Set(-AHEAD), 168)]);
    check(
        "behind for an hour",
        0,
        &[
            (Set(-AHEAD), 168),
            (Pass(1), 168),
            (Set(AHEAD), 168),
            (Pass(1), 168),
        ],
    );
}

#[test]
fn what_grew_old_while_no_process_ran_goes_in_time() {
    check(
        "away for a month",
        0,
        &[(Down(30 * 24), 168), (Pass(24), 72), (Pass(24), 0)],
    );
    check("away for an hour", 0, &[(Down(1), 168), (Pass(1), 166)]);
}

#[test]
fn a_clock_that_is_right_after_decades_keeps_nothing_for_years() {
    check(
        "right at once",
        -DECADES,
        &[
            (Set(DECADES), 168),
            (Append, 169),
            (Pass(42), 1),
            (Pass(126), 1),
            (Pass(1), 0),
        ],
    );
    check(
        "set twice",
        -DECADES,
        &[
            (Set(DECADES - 48), 168),
            (Append, 169),
            (Pass(100), 1),
            (Set(48), 1),
            (Append, 2),
            (Pass(167), 2),
            (Pass(2), 0),
        ],
    );
}
