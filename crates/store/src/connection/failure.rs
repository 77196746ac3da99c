//! What a failure says: about the connection it happened on, and about whether the database can be
//! used at all.

use std::borrow::Cow;

use sqlx::Error;
use sqlx::error::{DatabaseError, ErrorKind};

/// SQLite's primary result codes that pass: `BUSY`, `LOCKED`, `NOMEM`, `READONLY`, `IOERR`, `FULL`,
/// `CANTOPEN`, `PROTOCOL` (of locks). The low byte of an extended code is its primary code.
const SQLITE_PASSES: [u32; 8] = [5, 6, 7, 8, 10, 13, 14, 15];
/// Codes of [`SQLITE_PASSES`] that come of the disk or of other connections, and that a new
/// connection would meet as well: `BUSY`, `FULL`. Readers go on with the old ones; a new one may
/// need room on the disk.
const SQLITE_SPARES: [u32; 2] = [5, 13];
/// PostgreSQL's classes of what passes: connections, transactions that were rolled back for others,
/// resources (a full disk is `53100`), ends by an operator or a limit, the system (an I/O error is
/// `58030`).
const POSTGRES_PASSES: [&str; 5] = ["08", "40", "53", "57", "58"];
/// Single codes of what passes: `read_only_sql_transaction` (it was the primary before a failover),
/// `lock_not_available`, `idle_in_transaction_session_timeout`.
const POSTGRES_PASSES_TOO: [&str; 3] = ["25006", "55P03", "25P03"];
/// Codes after which a rollback leaves the connection as good as it was: `serialization_failure`,
/// `deadlock_detected`, `lock_not_available`, `query_canceled` (the limit of a statement).
const POSTGRES_SPARES: [&str; 4] = ["40001", "40P01", "55P03", "57014"];

/// A code of the database, which is a number for SQLite and five characters for PostgreSQL.
enum Code<'a> {
    Sqlite(u32),
    Postgres(Cow<'a, str>),
}

fn code(error: &dyn DatabaseError) -> Option<Code<'_>> {
    let code = error.code()?;
    // No class of PostgreSQL's codes is met here that would be a number of SQLite's: those have at
    // most four digits.
    match code.parse::<u32>() {
        Ok(number) if code.len() < 5 => Some(Code::Sqlite(number & 0xff)),
        _ => Some(Code::Postgres(code)),
    }
}

/// Whether a connection can be used again, once it is rolled back, after a statement on it has
/// failed so.
pub(super) fn spares_connection(error: &Error) -> bool {
    let Error::Database(error) = error else {
        // What was asked for cannot be said or read; anything else is of the connection.
        return matches!(
            error,
            Error::Encode(_)
                | Error::Decode(_)
                | Error::ColumnDecode { .. }
                | Error::ColumnNotFound(_)
                | Error::RowNotFound
        );
    };
    if error.kind() != ErrorKind::Other {
        return true;
    }
    match code(&**error) {
        Some(Code::Sqlite(code)) => SQLITE_SPARES.contains(&code),
        Some(Code::Postgres(code)) => POSTGRES_SPARES.contains(&&*code),
        None => false,
    }
}

/// Whether the database could not be used, and may be usable again later: it is not there, its disk
/// is full or fails, it takes no writes.
pub(crate) fn is_unavailable(error: &Error) -> bool {
    match error {
        Error::Io(_)
        | Error::Tls(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed
        | Error::BeginFailed => true,
        Error::Database(error) => match code(&**error) {
            Some(Code::Sqlite(code)) => SQLITE_PASSES.contains(&code),
            Some(Code::Postgres(code)) => {
                POSTGRES_PASSES_TOO.contains(&&*code)
                    || POSTGRES_PASSES.iter().any(|class| code.starts_with(class))
            }
            None => false,
        },
        _ => false,
    }
}
