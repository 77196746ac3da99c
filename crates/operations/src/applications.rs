//! Acts on applications with their event types and levels: who sends notifications, of which kinds.

pub(crate) mod fields;

use dovecast_store::{Application, Page, Registered, Registration};

use crate::{Anyone, Operations, Refusal, Registrar, Resource, Result};

impl Operations {
    /// Some of all applications, in the order in which they were first registered.
    pub async fn applications(
        &self,
        _: Anyone,
        limit: i64,
        offset: i64,
    ) -> Result<Page<Application>> {
        Ok(self.store.applications(limit, offset).await?)
    }

    /// One application.
    pub async fn application(&self, _: Anyone, id: &str) -> Result<Application> {
        let none = || Refusal::no(Resource::Application, id);
        let parsed = id.parse().map_err(|_| none())?;
        self.store.application(parsed).await?.ok_or_else(none)
    }

    /// Registers an application, or changes it; with `dry_run` nothing is kept.
    pub async fn register(
        &self,
        _: Registrar,
        registration: &Registration,
        dry_run: bool,
    ) -> Result<Registered> {
        let registered = self.store.register(registration, dry_run).await?;
        if !dry_run {
            log(&registered);
        }
        Ok(registered)
    }

    /// Removes an application with its event types and levels. Filters that name it lose it, and
    /// never widen by that.
    pub async fn remove_application(&self, _: Registrar, id: &str) -> Result<()> {
        let none = || Refusal::no(Resource::Application, id);
        let parsed = id.parse().map_err(|_| none())?;
        if !self.store.delete_application(parsed).await? {
            return Err(none());
        }
        tracing::info!(application.id = id, "an application was removed");
        Ok(())
    }
}

fn log(registered: &Registered) {
    let stale = registered
        .filters
        .iter()
        .filter(|filter| !filter.emptied.is_empty());
    tracing::info!(
        application.name = registered.application.name,
        changes = registered.changes.len(),
        stale_filters = stale.count(),
        "an application was registered"
    );
}
