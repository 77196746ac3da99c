//! The role `dispatch`: the endpoints of the store, the log, and the workers between them.

mod announcer;
mod configured;
mod following;
#[cfg(feature = "kafka")]
mod lost;
mod needed;
mod noticed;
mod routes;
mod tester;
mod unusable;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use dovecast_dispatch::driver::Target;
use dovecast_dispatch::{AccountPaces, Directory, Dispatcher, Evaluator, Stats};
use dovecast_drivers::Drivers;
use dovecast_drivers::configured::ConfiguredDriver;
#[cfg(feature = "lua")]
use dovecast_drivers::configured::lua::LuaDriver;
#[cfg(feature = "lua")]
use dovecast_drivers::lua::LuaStats;
use dovecast_event::EventKind;
use dovecast_store::{AccountPast, KeptPast, NewEventType, Registration, Store};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::{Config, Dispatch};
use crate::logs::Logs;
use crate::sources::Destination;

use configured::Configured;
use following::Following;
#[cfg(feature = "kafka")]
pub(crate) use lost::Lost;
use noticed::Noticed;
use routes::Routes;
pub(crate) use tester::Tester;

/// How often what is not kept any more is dropped.
const FORGET_INTERVAL: Duration = Duration::from_mins(10);
/// How often accounts are looked for that have too much of it: what one can send within this time
/// is what it may have besides.
const TRIM_INTERVAL: Duration = Duration::from_mins(1);

/// How long it is left alone after what deleted endpoints have left was removed.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

/// The application of what dovecast itself has to tell, and of that: an endpoint was disabled.
const OWN: &str = "dovecast";
const DISABLED: &str = "endpoint.disabled";

/// Running workers.
pub(crate) struct Dispatching {
    dispatcher: Dispatcher,
    /// The number of the last change that counts.
    follows: watch::Receiver<i64>,
    locked_count: Arc<AtomicUsize>,
    /// Receivers of the drivers of the configuration.
    configured: Vec<Arc<dyn Target>>,
    /// Scripts among them, by the names of their blocks.
    #[cfg(feature = "lua")]
    scripts: Vec<(String, Arc<LuaDriver>)>,
    /// Tasks beside the dispatcher; they end when this is dropped.
    _helpers: JoinSet<()>,
}

impl Dispatching {
    /// Knows all endpoints when this returns.
    pub(crate) async fn start(
        config: &Config,
        logs: &Logs,
        store: &Store,
        (drivers, configured): (&Drivers, Vec<ConfiguredDriver>),
    ) -> Result<Self> {
        for registration in [events_of_dovecot(), own()] {
            store.register(&registration, false).await?;
        }
        let directory = Arc::<Directory>::default();
        let targets = configured.iter().map(|driver| Arc::clone(&driver.target));
        let targets = targets.collect();
        #[cfg(feature = "lua")]
        let scripts = configured.iter().filter_map(|driver| {
            let script = driver.lua.clone()?;
            Some((driver.name.clone(), script))
        });
        #[cfg(feature = "lua")]
        let scripts = scripts.collect();
        let routes = Routes::new(drivers, &config.dispatch)
            .with_configured(Configured::load(store, configured).await?)
            .paced(AccountPaces::new(
                config.quota.attempts(),
                config.quota.burst(),
            ));
        let noticed = Noticed::new(&config.dispatch.event_account, drivers.guard());
        let following = Following::load(store, &directory, routes, noticed).await?;
        let applied = watch::Sender::new(following.seq());
        let follows = applied.subscribe();
        let locked_count = following.locked_count();
        let mut helpers = JoinSet::new();
        helpers.spawn(following.follow(applied));
        helpers.spawn(forget(store.clone(), kept(&config.dispatch)));
        helpers.spawn(trim(store.clone(), kept_of_account(&config.dispatch)));
        helpers.spawn(sweep_gone(store.clone()));
        if logs.is_own() {
            helpers.spawn(needed::follow(store.clone(), logs.own.clone()));
        }
        helpers.spawn(announcer::run(
            store.clone(),
            Destination::new(logs, &config.dispatch.outbox_topic),
            config.dispatch.clone(),
        ));
        tracing::info!(
            endpoints = directory.len(),
            "the dispatcher has loaded its endpoints"
        );
        Ok(Self {
            dispatcher: dispatcher(config, logs, store, directory),
            follows,
            locked_count,
            configured: targets,
            #[cfg(feature = "lua")]
            scripts,
            _helpers: helpers,
        })
    }

    /// For whoever wants to know that a change counts here.
    pub(crate) fn follows(&self) -> watch::Receiver<i64> {
        self.follows.clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.dispatcher.stats()
    }

    /// Number of the endpoints that are paused here because their secrets cannot be opened.
    pub(crate) fn locked_count(&self) -> usize {
        self.locked_count.load(Ordering::Relaxed)
    }

    /// What scripts of the driver `lua` have done, by the names of their blocks.
    #[cfg(feature = "lua")]
    pub(crate) fn scripts(&self) -> Vec<(String, LuaStats)> {
        let scripts = self.scripts.iter();
        scripts
            .map(|(name, script)| (name.clone(), script.stats()))
            .collect()
    }

    /// What evaluates conditions.
    pub(crate) fn evaluator(&self) -> Arc<Evaluator> {
        self.dispatcher.evaluator()
    }

    /// Waits until it has ended, which it should not.
    pub(crate) async fn ended(&self) {
        self.dispatcher.ended().await;
    }

    pub(crate) async fn stop(&self) {
        self.dispatcher.stop().await;
        for target in &self.configured {
            target.close().await;
        }
    }
}

fn dispatcher(
    config: &Config,
    logs: &Logs,
    store: &Store,
    directory: Arc<Directory>,
) -> Dispatcher {
    let store = store.clone();
    let options = config.dispatch.options();
    #[cfg(feature = "kafka")]
    if let Some(log) = &logs.kafka {
        return Dispatcher::start(log.clone(), store, directory, options);
    }
    Dispatcher::start(logs.own.clone(), store, directory, options)
}

/// So that filters can name the events of mail.
fn events_of_dovecot() -> Registration {
    let event_type = |kind: EventKind| NewEventType {
        external_id: kind.name().to_owned(),
        title: kind.name().to_owned(),
        levels: Vec::new(),
    };
    Registration {
        name: "dovecot".to_owned(),
        title: "Dovecot".to_owned(),
        event_types: EventKind::ALL.into_iter().map(event_type).collect(),
    }
}

/// What dovecast itself has to tell.
fn own() -> Registration {
    Registration {
        name: OWN.to_owned(),
        title: "dovecast".to_owned(),
        event_types: vec![NewEventType {
            external_id: DISABLED.to_owned(),
            title: "An endpoint was disabled".to_owned(),
            levels: Vec::new(),
        }],
    }
}

fn kept(config: &Dispatch) -> KeptPast {
    const HOUR_MS: i64 = 60 * 60 * 1000;
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    KeptPast {
        attempts_ms: number(config.attempts_hours.get()) * HOUR_MS,
        dead_letters_ms: number(config.dead_letters_days.get()) * 24 * HOUR_MS,
        ..KeptPast::default()
    }
}

/// Finishes closings of accounts that a process has not come to the end of, this one before its
/// start or another node.
async fn finish_closings(store: &Store) {
    match store.finish_closings().await {
        Ok(0) => {}
        Ok(accounts) => tracing::info!(accounts, "closed accounts have lost what they still had"),
        Err(error) => {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(
                error,
                "closed accounts may still have something; this is retried"
            );
        }
    }
}

/// Removes what deleted endpoints have left: at once where this process has deleted them.
async fn sweep_gone(store: Store) {
    loop {
        if let Err(error) = store.sweep_gone().await {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(
                error,
                "dead letters and attempts of deleted endpoints cannot be removed; this is retried"
            );
        }
        // It fails at once where the database is away: no loop without a pause.
        tokio::time::sleep(SWEEP_PAUSE).await;
        let _ = tokio::time::timeout(TRIM_INTERVAL, store.endpoint_gone()).await;
    }
}

async fn forget(store: Store, kept: KeptPast) {
    loop {
        finish_closings(&store).await;
        match store.forget_past(kept).await {
            Ok(dropped) if dropped.attempt_rows + dropped.dead_letters > 0 => {
                tracing::info!(
                    attempt_rows = dropped.attempt_rows,
                    dead_letters = dropped.dead_letters,
                    "old attempts and dead letters were removed"
                );
            }
            Ok(_) => {}
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(
                    error,
                    "old attempts and dead letters cannot be removed; this is retried"
                );
            }
        }
        tokio::time::sleep(FORGET_INTERVAL).await;
    }
}

fn kept_of_account(config: &Dispatch) -> AccountPast {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    AccountPast {
        dead_letters: number(config.account_dead_letters.get()),
        dead_letter_bytes: number(config.account_dead_letters_mb.get() * 1024 * 1024),
        ..AccountPast::default()
    }
}

async fn trim(store: Store, most: AccountPast) {
    loop {
        tokio::time::sleep(TRIM_INTERVAL).await;
        match store.trim_past(&most).await {
            Ok(trimmed) if trimmed.attempt_rows + trimmed.dead_letters > 0 => {
                tracing::warn!(
                    attempt_rows = trimmed.attempt_rows,
                    dead_letters = trimmed.dead_letters,
                    "the oldest attempts and dead letters of accounts were removed that have too many"
                );
            }
            Ok(_) => {}
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::from(error));
                tracing::warn!(
                    error,
                    "accounts may have too many attempts and dead letters; this is looked at again"
                );
            }
        }
    }
}
