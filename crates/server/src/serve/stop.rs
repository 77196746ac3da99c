//! The stop of a server: the order in which its parts end, and how long that may take.

use std::time::Duration;

use super::Parts;

/// How long a graceful stop may take, all in all: more than its steps, of which the first takes at
/// most 15 s, and less than systemd gives it.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(25);
/// How long requests that are being answered may take of it.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the connections of drivers and of the store may take to end: where the other side does
/// not answer they end with the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl Parts {
    pub(super) async fn stop(mut self) {
        self.stopping.begin();
        // At once: each may have to wait for somebody else who does not answer.
        let taken_in = async {
            if let Some(relay) = &self.relay {
                relay.stop().await;
            }
            #[cfg(feature = "kafka")]
            if let Some(shipper) = &self.shipper {
                shipper.stop().await;
            }
        };
        let pushing = self.pushing.take();
        let pushed = async {
            if let Some(pushing) = pushing {
                pushing.stop().await;
            }
        };
        let delivered = async {
            if let Some(dispatching) = &self.dispatching {
                dispatching.stop().await;
            }
        };
        let answered = async { while self.http.join_next().await.is_some() {} };
        let answered = tokio::time::timeout(REQUESTS_TIMEOUT, answered);
        let ((), (), (), answered) = tokio::join!(taken_in, pushed, delivered, answered);
        if answered.is_err() {
            tracing::warn!("the server has stopped before all requests were answered");
            self.http.abort_all();
        }
        // Nothing is delivered any more, not even a test.
        if let Some(drivers) = &self.drivers {
            close("drivers", drivers.close()).await;
        }
        if let Some(store) = &self.store {
            close("the store", store.close()).await;
        }
        self.log.close().await;
        tracing::info!("dovecast has stopped");
    }
}

/// Ends the connections of a part, which may hang on those.
async fn close(part: &str, closed: impl Future<Output = ()>) {
    if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
        tracing::warn!(
            part,
            "connections that did not end in time end with the process"
        );
    }
}
