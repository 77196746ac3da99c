//! A store that cannot be used for a while: what is logged of it, and when a client may ask again.

use dovecast_log::LineLimit;
use dovecast_store::StoreError;

/// Seconds after which a request that was answered with 503 may be repeated: about as long as a
/// failover or the removal of a large file takes, and long enough that waiting clients are no load.
pub(super) const RETRY_AFTER_SECONDS: &str = "5";
/// About requests that fail for this reason: a full disk fails all of them.
static LINES: LineLimit = LineLimit::a_minute(1);

/// Logs the error, once a minute with the number of requests that have failed since.
pub(super) fn log(error: StoreError) {
    let Some(suppressed) = LINES.take_counted() else {
        return;
    };
    let error = anyhow::Error::from(error);
    tracing::error!(
        error = format!("{error:#}"),
        suppressed,
        "a request has failed: the database cannot be used"
    );
}
