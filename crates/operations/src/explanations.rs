//! Why an endpoint receives a notification, or does not.

use dovecast_notification::{Filter, Notification};
use dovecast_store::{Endpoint, EndpointRecord};

use crate::{Operations, Operator, OwnEndpoint, Refusal, Result, Tenant};

/// What an endpoint makes of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Whether the endpoint receives the notification, now or later.
    pub matches: bool,
    /// Why it does not receive the notification, or not now; `None`: it does.
    pub reason: Option<String>,
}

impl Operations {
    /// Shows what each endpoint of an account makes of a notification, in the order in which they
    /// were made.
    pub async fn explain(
        &self,
        tenant: &Tenant,
        notification: &Notification,
        mut show: impl FnMut(Explanation),
    ) -> Result<()> {
        let mut records = self.records(tenant, None).await?;
        while let Some(page) = records.next().await? {
            for record in page {
                let mismatch = self.mismatch(self.wanted(&record), notification).await;
                let matches = mismatch.is_none();
                let reason = match mismatch {
                    None => self.why_later(&record).await,
                    why_not => why_not,
                };
                show(Explanation {
                    endpoint: record.endpoint,
                    matches,
                    reason,
                });
                // What is cheap is evaluated here: others have their turn.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Shows what each endpoint of its account makes of a notification; nothing where there is no
    /// such account.
    pub async fn explain_to_operator(
        &self,
        operator: Operator,
        notification: &Notification,
        show: impl FnMut(Explanation),
    ) -> Result<()> {
        match self.account(operator, &notification.account).await {
            Ok(tenant) => self.explain(&tenant, notification, show).await,
            Err(Refusal::NotFound { .. }) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Why one endpoint does not receive a notification; `None`: it does.
    pub(crate) async fn why_not(
        &self,
        own: &OwnEndpoint,
        notification: &Notification,
    ) -> Result<Option<String>> {
        let record = self.record(own).await?;
        Ok(self.mismatch(self.wanted(&record), notification).await)
    }

    /// Why an endpoint does not receive now what it wants; `None`: nothing is known against it.
    async fn why_later(&self, record: &EndpointRecord) -> Option<String> {
        if record.endpoint.flow.paused {
            return Some("the endpoint is paused: deliveries wait until it is not".to_owned());
        }
        let objection = self.objection(record).await?;
        Some(format!("attempts fail: {objection}"))
    }

    /// A costly condition waits for its account's turn, as it does when the notification is
    /// dispatched.
    async fn mismatch(
        &self,
        wanted: Result<Filter, String>,
        notification: &Notification,
    ) -> Option<String> {
        match wanted {
            Ok(filter) => {
                let mismatch = self.parts.evaluator.mismatch(&filter, notification).await;
                mismatch.map(|why| why.to_string())
            }
            Err(reason) => Some(reason),
        }
    }

    /// What an endpoint wants; an error says why it receives nothing.
    fn wanted(&self, record: &EndpointRecord) -> Result<Filter, String> {
        if !record.endpoint.active {
            return Err("the endpoint is not active".to_owned());
        }
        let filter = record.matched_filter(self.parts.is_mail_by_domain);
        filter.ok_or_else(|| "the endpoint has no filter".to_owned())
    }
}
