//! A plan as tables for people.

use std::fmt::{self, Write as _};

use crate::measured::{self, Constant, Origin};
use crate::plan::{Part, Plan};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables = vec![self.counts(), self.roles(), self.ends()];
        let last = tables.pop().unwrap_or_default();
        for table in tables {
            writeln!(f, "{table}")?;
        }
        f.write_str(&last)
    }
}

impl Plan {
    /// What the machines cost at a price of one, in whatever money and time it is said.
    pub fn cost(&self, price: u64) -> u128 {
        self.machines * u128::from(price)
    }

    fn counts(&self) -> String {
        let rows = [
            ("deliveries a second", self.deliveries_per_second),
            ("partitions of the topic", self.partitions),
            ("dispatchers, one to spare", self.dispatchers),
            (
                "statements a second of PostgreSQL",
                self.statements_per_second,
            ),
            ("rows of attempts a second", self.attempt_rows_per_second),
            ("seconds that attempts are kept", self.attempts_kept_s),
            ("ranges owed by endpoints that are down", self.range_rows),
            ("write-ahead log a second, bytes", self.wal_bytes_per_second),
            (
                "seconds until a lost dispatcher's ranges are taken up",
                self.taken_over_s,
            ),
            ("machines besides the mail hosts", self.machines),
        ];
        let rows = rows.map(|(name, value)| [name.to_owned(), grouped(value)]);
        let mut text = table([["COUNT", ""].map(str::to_owned)].into_iter().chain(rows));
        // A String takes everything.
        let _ = writeln!(
            text,
            "so many dispatchers for: {}",
            self.dispatchers_because
        );
        text
    }

    fn roles(&self) -> String {
        let head = [
            "ROLE",
            "PROCESSES",
            "PROCESSORS",
            "MEMORY, GiB",
            "DISK, GiB",
            "NETWORK, Mbit/s",
            "MACHINES",
        ];
        let row = |part: &Part| {
            let of = |value: u128, unit: u128| grouped(value.div_ceil(unit));
            [
                part.name.to_owned(),
                grouped(part.processes),
                of(part.millicores, 1_000),
                of(part.memory_mib, 1_024),
                of(part.disk_mib, 1_024),
                of(part.network_kbit, 1_000),
                grouped(part.machines),
            ]
        };
        let rows = self.parts.iter().map(row);
        table([head.map(str::to_owned)].into_iter().chain(rows))
    }

    fn ends(&self) -> String {
        let head = ["LIMIT", "USED", "OF", "PERCENT"].map(str::to_owned);
        let rows = self.limits.iter().map(|limit| {
            [
                limit.what.to_owned(),
                grouped(limit.used),
                grouped(limit.bound),
                grouped(limit.percent),
            ]
        });
        let mut text = table([head].into_iter().chain(rows));
        if let Some(first) = self.limits.first() {
            let fits = if first.percent > 100 {
                "does not fit"
            } else {
                "comes first"
            };
            let events = grouped(first.reached_at(self.demand.events_per_second));
            let _ = writeln!(
                text,
                "{fits}: {}, reached at {events} events a second",
                first.what
            );
            let _ = writeln!(text, "what moves it: {}", first.moved_by);
        }
        text
    }
}

/// All constants, with where they come from.
pub fn constants() -> String {
    let head = ["CONSTANT", "VALUE", "UNIT", "FROM"].map(str::to_owned);
    let row = |constant: &Constant| {
        let from = match constant.origin {
            Origin::Measured(place) => format!("measured: {place}"),
            Origin::Decided(place) => format!("decided: {place}"),
            Origin::Assumed(reason) => format!("assumed: {reason}"),
        };
        [
            constant.name.to_owned(),
            grouped(constant.value.into()),
            constant.unit.to_owned(),
            from,
        ]
    };
    let rows = measured::ALL.iter().map(row);
    table([head].into_iter().chain(rows))
}

/// Thousands apart, as `12,345`.
fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Columns as wide as their widest cell; numbers stand at the right.
fn table<const COLUMNS: usize>(rows: impl IntoIterator<Item = [String; COLUMNS]>) -> String {
    let rows: Vec<[String; COLUMNS]> = rows.into_iter().collect();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    // The head says nothing about it.
    let is_number: [bool; COLUMNS] = std::array::from_fn(|column| {
        let mut cells = rows.iter().skip(1).map(|row| &row[column]);
        cells.all(|cell| {
            cell.chars()
                .all(|char| char.is_ascii_digit() || char == ',')
        })
    });
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let cell = if is_number[column] {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
