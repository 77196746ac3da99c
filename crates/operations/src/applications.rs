//! Acts on applications with their event types and levels: who sends notifications, of which kinds.

pub(crate) mod fields;

use dovecast_store::{Application, Page, Registration, RegistrationChange, TouchedFilter};

use crate::caller::{By, Registers};
use crate::refusal::Fault;
use crate::{Anyone, Operations, Refusal, Registrar, Resource, Result};

/// Application of `dovecast bench`: no token may register it or send for it.
pub const BENCHMARK_APPLICATION: &str = "BenchmarkApp";
/// Applications that the server itself registers at each start, and sends for.
const OWN: [&str; 2] = ["dovecot", "dovecast"];

/// Whether no token may have an application of this name, or of one that looks like it to a person.
pub(crate) fn is_reserved(name: &str) -> bool {
    is_own(name) || looks_like(name, BENCHMARK_APPLICATION)
}

fn is_own(name: &str) -> bool {
    OWN.iter().any(|own| looks_like(name, own))
}

fn looks_like(name: &str, other: &str) -> bool {
    name.trim().eq_ignore_ascii_case(other)
}

/// What a registration did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// As it is now.
    pub application: Application,
    /// What is different.
    pub changes: Vec<RegistrationChange>,
    /// Filters that lost members or got some back; `None`: the caller may not know whose they are.
    pub filters: Option<Vec<TouchedFilter>>,
    /// How many those are.
    pub counts: FilterCounts,
}

/// How many filters a registration changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterCounts {
    /// Filters that lose members or get some back.
    pub changed: usize,
    /// Filters of which a set loses all members.
    pub stale: usize,
    /// Filters of which a set gets back what it had lost.
    pub restored: usize,
}

impl FilterCounts {
    fn of(filters: &[TouchedFilter]) -> Self {
        let stale = filters.iter().filter(|filter| !filter.emptied.is_empty());
        let restored = filters.iter().filter(|filter| !filter.restored.is_empty());
        Self {
            changed: filters.len(),
            stale: stale.count(),
            restored: restored.count(),
        }
    }
}

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
        registrar: &Registrar,
        registration: &Registration,
        dry_run: bool,
    ) -> Result<Registered> {
        let name = &*registration.name;
        let registered = match &registrar.0 {
            Registers::Own(_) if is_reserved(name) => {
                return Err(Refusal::forbidden(format!(
                    "The application `{name}` is dovecast's own: no token may register it"
                )));
            }
            Registers::All(_) if is_own(name) => {
                return Err(Refusal::invalid(Fault::at(
                    "/application/name",
                    "is the name of an application that dovecast registers itself",
                )));
            }
            Registers::Own(token) => {
                self.store
                    .register_with(*token, registration, dry_run)
                    .await?
            }
            Registers::All(_) => self.store.register(registration, dry_run).await?,
        };
        let counts = FilterCounts::of(&registered.filters);
        log(
            &registrar.by(),
            name,
            (registered.changes.len(), counts),
            dry_run,
        );
        Ok(Registered {
            application: registered.application,
            changes: registered.changes,
            filters: registrar.is_operator().then_some(registered.filters),
            counts,
        })
    }

    /// Removes an application with its event types and levels. Filters that name it lose it, and
    /// never widen by that; they have it again once it is registered again.
    pub async fn remove_application(&self, registrar: &Registrar, id: &str) -> Result<()> {
        let none = || Refusal::no(Resource::Application, id);
        let parsed = id.parse().map_err(|_| none())?;
        let found = self.store.application(parsed).await?.ok_or_else(none)?;
        if OWN.contains(&&*found.name) {
            return Err(Refusal::Conflict(format!(
                "`{}` is an application that dovecast registers itself, and stays",
                found.name
            )));
        }
        let removed = match &registrar.0 {
            Registers::All(_) => self.store.delete_application(parsed).await?,
            Registers::Own(token) => {
                let removing = self.store.delete_application_with(*token, parsed);
                removing.await?
            }
        };
        if !removed {
            return Err(none());
        }
        tracing::info!(
            application.id = id,
            application.name = ?found.name,
            by = %registrar.by(),
            "an application was removed"
        );
        Ok(())
    }
}

fn log(by: &By, name: &str, (changes, counts): (usize, FilterCounts), dry_run: bool) {
    let said = if dry_run {
        "a registration of an application was tried, and changed nothing"
    } else {
        "an application was registered"
    };
    tracing::info!(
        application.name = ?name,
        changes,
        stale_filters = counts.stale,
        restored_filters = counts.restored,
        %by,
        "{said}"
    );
}
