//! What statements read, for tests: no more where there are a hundred times as many rows that are
//! none of theirs. Counted are the steps of SQLite's virtual machine, a few for each row or entry
//! of an index that is touched.

use rusqlite::{Connection, StatementStatus, ToSql};

use crate::schema::{MIGRATIONS, spoken};

/// Steps that say nothing: one more level of an index is deeper.
const SLACK: i32 = 300;

/// A database with all tables and no rows.
pub(crate) fn empty() -> Connection {
    let connection = Connection::open_in_memory().expect("a database");
    for migration in MIGRATIONS {
        let migration = spoken(migration, false);
        connection.execute_batch(&migration).expect("the schema");
    }
    connection
}

/// How many rows a statement gives, and the steps it takes.
pub(crate) fn run(connection: &Connection, statement: &str, values: &[&dyn ToSql]) -> (usize, i32) {
    let mut statement = connection.prepare(statement).expect(statement);
    let mut found = statement.query(values).expect("an answer");
    let mut rows = 0;
    while found.next().expect("a row").is_some() {
        rows += 1;
    }
    drop(found);
    (rows, statement.get_status(StatementStatus::VmStep))
}

/// Fails if a statement takes more steps among many rows than among few.
pub(crate) fn are_no_more(few: i32, many: i32, statement: &str) {
    assert!(
        many <= few + SLACK,
        "{many} steps among many, {few} among few: {statement}"
    );
}
