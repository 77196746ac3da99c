//! Waiting for a PostgreSQL that is not there yet, as when everything is started at once.
//!
//! The pool would wait as well, and tell only that it has waited; here the last reason is told.
//! What no waiting changes, such as a wrong password or a certificate that is not trusted, is told
//! at once.

use std::io::{self, ErrorKind};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{ConnectOptions, Connection, Error};
use tokio::time::{Instant, sleep, timeout_at};

/// How long until a database that is not there yet is asked again.
const RETRY_DELAY: Duration = Duration::from_millis(200);
/// PostgreSQL's names of what passes: `cannot_connect_now`, `too_many_connections`.
const PASSES: [&str; 2] = ["57P03", "53300"];

/// Returns when it lets us in.
pub(crate) async fn until_there(
    connect: &AnyConnectOptions,
    patience: Duration,
) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        let error = match timeout_at(deadline, connect.connect()).await {
            Ok(Ok(connection)) => return connection.close_hard().await,
            Ok(Err(error)) => error,
            Err(_) => {
                let said = format!("no answer within {} s", patience.as_secs());
                return Err(Error::Io(io::Error::new(ErrorKind::TimedOut, said)));
            }
        };
        if !passes(&error) || Instant::now() + RETRY_DELAY >= deadline {
            return Err(error);
        }
        sleep(RETRY_DELAY).await;
    }
}

fn passes(error: &Error) -> bool {
    match error {
        // A name that is not found may be one that is not found yet. Certificates are invalid data.
        Error::Io(error) => !matches!(
            error.kind(),
            ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::PermissionDenied
                | ErrorKind::Unsupported
        ),
        Error::Database(error) => error.code().is_some_and(|code| PASSES.contains(&&*code)),
        _ => false,
    }
}
