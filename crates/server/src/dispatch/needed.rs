//! What endpoints owe of this host's log as ranges, told to the log: its consumer group has read
//! that already, so the log alone would remove it without a warning.

use std::time::Duration;

use dovecast_log::embedded::Embedded;
use dovecast_store::Store;

/// How often the log is told: it is full in a minute at the soonest.
const INTERVAL: Duration = Duration::from_secs(15);
/// What the line about records that go next calls those who need them.
const WHO: &str = "endpoints that catch up";

/// Tells the log from time to time.
pub(super) async fn follow(store: Store, log: Embedded) {
    loop {
        match store.owed_offsets().await {
            Ok(offsets) => log.set_needed(WHO, offsets),
            // Others say that the store is away; what was said last counts until then.
            Err(error) => tracing::debug!(%error, "what endpoints owe of the log is not known"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
