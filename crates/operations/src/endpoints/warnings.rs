//! What keeps an endpoint from ever receiving anything, for who has just saved it.

use std::time::Duration;

use dovecast_store::{Endpoint, EndpointRecord};

use crate::Operations;

/// Longest time that an answer waits for the addresses of a host: a warning is worth no more.
const OBJECTION_TIMEOUT: Duration = Duration::from_millis(500);

impl Operations {
    /// Why nothing will be delivered to an endpoint as it stands, in words. What somebody has said
    /// on purpose, such as `paused`, is none of it.
    pub async fn warnings(&self, endpoint: &Endpoint) -> Vec<String> {
        let loaded = self.store.load_endpoints(&[endpoint.id]).await;
        // The endpoint is saved: what cannot be read now keeps no one from knowing that.
        let Some(record) = loaded.ok().and_then(|mut records| records.pop()) else {
            return Vec::new();
        };
        let mut warnings: Vec<String> = of_filter(&record).into_iter().collect();
        if let Some(reason) = self.objection(&record).await {
            warnings.push(format!("nothing can be delivered: {reason}"));
        }
        warnings
    }

    /// Why nothing can be delivered to an endpoint, as far as that is found out soon.
    pub(crate) async fn objection(&self, record: &EndpointRecord) -> Option<String> {
        let objection = self.parts.test_delivery.objection(record);
        let found = tokio::time::timeout(OBJECTION_TIMEOUT, objection).await;
        found.ok().flatten()
    }
}

fn of_filter(record: &EndpointRecord) -> Option<String> {
    let text = match &record.filter {
        None => {
            "the endpoint has no filter, and receives nothing: `filter` says what it receives, `{}` is everything"
        }
        Some(filter) if !filter.enabled => {
            "the filter of the endpoint is not enabled, and the endpoint receives nothing"
        }
        Some(_) => return None,
    };
    Some(text.to_owned())
}
