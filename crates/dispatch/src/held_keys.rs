//! Order by key: while a failed delivery of a key is kept in the ledger (the database), newer ones
//! of that key wait; asks now and then which keys are free again.
//!
//! A key is free as soon as all that is owed of it was claimed here. Who else claims it says
//! nothing to us: another dispatcher, or one whose partition this was before. The steps are told in
//! `lane/order`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use dovecast_log::Log;
use dovecast_notification::OrderKey;

use crate::lane::Lane;
use crate::ledger::{Ledger, LedgerError};
use crate::shared::Shared;

/// Time between two questions which keys are free: long enough for many keys, and short enough for
/// one that nothing else would free.
const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Keys that are named in one question: the statement stays short.
const KEYS_PER_QUESTION: usize = 500;

pub(crate) async fn run<L: Log + Clone, S: Ledger>(shared: Arc<Shared<L, S>>) {
    loop {
        tokio::time::sleep(KEY_CHECK_INTERVAL).await;
        let lanes: Vec<_> = shared.lanes().values().cloned().collect();
        for lane in lanes {
            if let Err(error) = check(&shared, &lane).await {
                shared.ledger_failed(&error).await;
            }
        }
    }
}

async fn check<L: Log + Clone, S: Ledger>(
    shared: &Shared<L, S>,
    lane: &Lane,
) -> Result<(), LedgerError> {
    let written = shared.recorder.written();
    let owing = lane.state().order.owing(written);
    for some in owing.chunks(KEYS_PER_QUESTION) {
        let keys: Vec<OrderKey> = some.iter().map(|owing| owing.key).collect();
        let asked = async { shared.ledger.owed_keys(lane.id, keys).await };
        let still: HashSet<OrderKey> = shared.ask(asked).await?.into_iter().collect();
        let mut state = lane.state();
        for owing in some.iter().filter(|owing| !still.contains(&owing.key)) {
            state.order.owes_nothing(owing);
        }
    }
    Ok(())
}
