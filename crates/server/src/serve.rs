//! `dovecast serve`: what is started in which order, and how it is stopped.
//!
//! The log comes first: its lock decides which of two servers on one directory goes on, before any
//! socket is touched; then the store. When the server stops, mail processes are sent away first,
//! then what they have handed over is made durable and shipped, then the log is closed. A second
//! signal ends the process at once; the log survives that as it survives any death.

pub(crate) mod backlog;
pub(crate) mod descriptors;
mod directories;
mod health;
pub(crate) mod http;
mod listeners;
pub(crate) mod logging;
mod probe;
mod service_manager;
mod signals;
mod state;
mod status;
mod stop;
mod stopping;

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::Router;
use dovecast_drivers::Drivers;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_log::embedded::Embedded;
#[cfg(feature = "kafka")]
use dovecast_log::kafka::KafkaLog;
use dovecast_notification::EventAccount;
use dovecast_operations::{Operations, OperationsParts, Quotas};
use dovecast_relay::server::RelayServer;
#[cfg(feature = "kafka")]
use dovecast_relay::ship::{KeepLost, Shipper};
use dovecast_store::Store;
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::api::{self, Api};
use crate::config::{Config, LogKind, Role};
use crate::control::{self, Control, PeerChecked};
#[cfg(feature = "kafka")]
use crate::dispatch::Lost;
use crate::dispatch::{Dispatching, Tester};
use crate::exposition;
#[cfg(feature = "kafka")]
use crate::logs;
use crate::logs::Logs;
use crate::push::admin;
use crate::push::wiring::Pushing;
use crate::sources::Destination;
use crate::sources::ox::{self, OxSource};
use backlog::Backlogs;
use health::{LogHealth, StoreHealth};
use http::limits::Limits;
use http::stats::HttpStats;
use listeners::{Listeners, Passed};
use signals::Signals;
use stop::STOP_TIMEOUT;

pub(crate) use status::Status;
pub(crate) use stopping::Stopping;

/// Runs until a signal says stop.
pub(crate) fn run(config: &Config) -> Result<()> {
    exposition::process::start();
    // Before there are threads: it reads the environment.
    let passed = Passed::from_environment()?;
    let _started = logging::start(&config.logging)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        data_dir = %config.data_dir.display(),
        relay_socket = %passed.relay_place(config),
        control_socket = %config.control_socket().display(),
        http = %passed.http_place(config),
        "dovecast starts"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let served = runtime.block_on(serve(config, passed));
    // Whatever blocks in a system call now would block for ever.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

async fn serve(config: &Config, passed: Passed) -> Result<()> {
    let mut signals = Signals::new()?;
    config.check_places(passed.opened())?;
    config.check_topics()?;
    let outgoing = descriptors::outgoing(config, descriptors::raise());
    if let Some(exposed) = &config.exposed {
        tracing::warn!("{exposed}");
    }
    directories::make(config)?;
    if config.has(Role::Relay) {
        for user in config.relay.unknown_users()? {
            tracing::warn!(
                user,
                "a user in `allow` of [relay] does not exist on this host"
            );
        }
    }
    let log = Embedded::open(&config.log_dir(), &config.embedded_options())?;
    let topics = config.known_topics();
    log.create_topics(topics.iter().map(String::as_str)).await?;
    let store = state::open(config, &log).await?;
    let listeners = Listeners::bind(config, passed)?;
    let mut parts = Parts::start(config, (log, store), listeners, outgoing).await?;
    tracing::info!("dovecast is ready");
    service_manager::ready();

    let ended = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "dovecast stops");
            Ok(())
        }
        error = parts.failure() => Err(error),
        never = service_manager::keep_alive() => match never {},
    };
    service_manager::stopping();
    tokio::select! {
        () = parts.stop() => ended,
        () = tokio::time::sleep(STOP_TIMEOUT) => {
            Err(anyhow!("not everything has stopped within {} s", STOP_TIMEOUT.as_secs()))
        }
        name = signals.next() => Err(anyhow!("a second signal ({name}) has ended the server at once")),
    }
}

/// What runs.
struct Parts {
    log: Embedded,
    store: Option<Store>,
    dispatching: Option<Arc<Dispatching>>,
    drivers: Option<Drivers>,
    relay: Option<Arc<RelayServer>>,
    #[cfg(feature = "kafka")]
    shipper: Option<Arc<Shipper>>,
    stopping: Stopping,
    http: JoinSet<std::io::Result<()>>,
    pushing: Option<Pushing>,
    /// What ends with the server.
    _helpers: JoinSet<()>,
}

impl Parts {
    async fn start(
        config: &Config,
        (log, store): (Embedded, Option<Store>),
        listeners: Listeners,
        outgoing: usize,
    ) -> Result<Self> {
        let stopping = Stopping::default();
        let relay = start_relay(config, listeners.relay, &log)?;
        let logs = Logs::of(config, &log)?;
        #[cfg(feature = "kafka")]
        let shipper = logs
            .kafka
            .as_ref()
            .map(|kafka| shipper(&log, kafka, store.as_ref()));
        let sockets = Sockets::new(outgoing);
        let drivers = store.as_ref().map(|_| drivers(config, &sockets));
        let drivers = drivers.transpose()?;
        let with_store = store.as_ref().zip(drivers.as_ref());
        let dispatching = match with_store {
            Some((store, drivers)) => {
                let configured = config.configured_drivers(&sockets)?;
                let started = Dispatching::start(config, &logs, store, (drivers, configured));
                Some(Arc::new(started.await?))
            }
            None => None,
        };
        let ox = ox_source(config, &logs)?;
        let http_stats = Arc::<HttpStats>::default();
        let dispatched = with_store.zip(dispatching.as_ref());
        let operations = dispatched
            .map(|((store, drivers), dispatching)| operations(config, store, dispatching, drivers));
        let pushing = Pushing::start_where_stored(config, &logs, store.as_ref(), &sockets)?;
        let status = Status {
            http: Arc::clone(&http_stats),
            log_health: Arc::new(LogHealth::new(log.clone())),
            store: store.clone().map(|store| Arc::new(StoreHealth::new(store))),
            backlogs: store.clone().map(|store| Arc::new(Backlogs::new(store))),
            dispatching: dispatching.clone(),
            log: log.clone(),
            relay: relay.clone(),
            #[cfg(feature = "kafka")]
            shipper: shipper.clone(),
            stopping: stopping.clone(),
            sockets,
            drivers: drivers.clone(),
            ox: ox.guesses(),
            operations: operations.clone(),
            pushes: pushing.as_ref().map(Pushing::counters),
        };
        let control = Control {
            store: store.clone(),
            dispatch: config.dispatch.clone(),
            follows: dispatching.as_deref().map(Dispatching::follows),
            operations: operations.clone(),
            push: pushing.as_ref().map(Pushing::acts),
            benchmark: Arc::default(),
            log: log.clone(),
            is_dispatched: config.log.kind == LogKind::Embedded,
            limits: logs.limits(),
            known_topics: Arc::new(config.known_topics()),
            stopping: stopping.clone(),
        };
        let monitor = status::monitor(status.clone());
        let mut router = status::health(status).merge(ox::router(ox));
        if let Some(operations) = operations {
            let api = Api::new(operations, &logs, config);
            router = router.merge(api::router(api, &config.http.api_prefix));
        }
        router = router.merge(push_routes(pushing.as_ref(), &control, config)?);
        #[cfg_attr(not(feature = "kafka"), expect(unused_mut, reason = "Kafka has some"))]
        let mut helpers = JoinSet::new();
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &logs.kafka {
            let named = config.dispatch.options().sources.into_keys().collect();
            helpers.spawn(logs::follow_settings(log.clone(), kafka.clone(), named));
        }
        let mut http = JoinSet::new();
        for (listener, router, limits) in [
            (listeners.http, router, Limits::of_api(&config.http)),
            (listeners.monitor, monitor, Limits::of_monitor(&config.http)),
        ] {
            let door = http::Door::new(router, &limits, &http_stats, &stopping);
            http.spawn(door.serve(listener));
        }
        http.spawn(
            axum::serve(PeerChecked(listeners.control), control::router(control))
                .with_graceful_shutdown(stopping.clone().begun_owned())
                .into_future(),
        );
        Ok(Self {
            log,
            store,
            dispatching,
            drivers,
            relay,
            #[cfg(feature = "kafka")]
            shipper: shipper.map(|(shipper, _)| shipper),
            stopping,
            http,
            pushing,
            _helpers: helpers,
        })
    }

    /// Waits until something ends that should not.
    async fn failure(&mut self) -> anyhow::Error {
        #[cfg(feature = "kafka")]
        let shipping = shipping_has_ended(self.shipper.as_deref());
        #[cfg(not(feature = "kafka"))]
        let shipping = std::future::pending::<()>();
        let dispatching = dispatching_has_ended(self.dispatching.as_deref());
        let answering = tokio::select! {
            answering = self.http.join_next() => answering,
            () = relay_has_ended(self.relay.as_deref()) => return anyhow!("the relay has ended"),
            () = self.log.ended() => return anyhow!("the log has ended"),
            () = dispatching => return anyhow!("the dispatcher has ended"),
            () = shipping => return anyhow!("shipping to Kafka has ended"),
        };
        match answering {
            Some(Ok(Err(error))) => anyhow!(error).context("the HTTP server cannot go on"),
            Some(Err(error)) => anyhow!(error).context("the HTTP server has failed"),
            Some(Ok(Ok(()))) | None => anyhow!("the HTTP server has ended"),
        }
    }
}

fn start_relay(
    config: &Config,
    listener: Option<UnixListener>,
    log: &Embedded,
) -> Result<Option<Arc<RelayServer>>> {
    let Some(listener) = listener else {
        return Ok(None);
    };
    let options = config.relay_options()?;
    let started = RelayServer::start(options, listener, log.clone())?;
    Ok(Some(Arc::new(started)))
}

/// Drivers of the endpoints, with what the configuration says of them.
fn drivers(config: &Config, sockets: &Sockets) -> Result<Drivers> {
    let options = config.driver_options(sockets.clone(), config.mail_key()?)?;
    Ok(Drivers::new(&options)?)
}

/// What callers may do, here.
fn operations(
    config: &Config,
    store: &Store,
    dispatching: &Dispatching,
    drivers: &Drivers,
) -> Operations {
    let parts = OperationsParts {
        max_endpoints: config.http.max_endpoints.get(),
        drivers: drivers.clone(),
        test_delivery: Arc::new(Tester::new(drivers, &config.dispatch)),
        quotas: Quotas::new(config.quota.of_callers()),
        is_mail_by_domain: config.dispatch.event_account == EventAccount::Domain,
        evaluator: dispatching.evaluator(),
        follows: dispatching.follows(),
    };
    Operations::new(store.clone(), parts)
}

/// Requests of mail push: of persons, and of its administrator.
fn push_routes(pushing: Option<&Pushing>, control: &Control, config: &Config) -> Result<Router> {
    let persons = Pushing::router_of(pushing);
    if pushing.is_none() {
        return Ok(persons);
    }
    let admin = admin::router(control.clone(), config)?;
    Ok(persons.merge(admin))
}

/// What Dovecot's own driver speaks to.
fn ox_source(config: &Config, logs: &Logs) -> Result<OxSource> {
    let topic = config.dispatch.event_topics.first();
    let destination = Destination::new(logs, topic.map_or("dovecot", String::as_str));
    let source = OxSource::new(&config.ox, &config.ox_key_file(), destination)?;
    Ok(source.behind(&config.http.trusted_proxies))
}

async fn relay_has_ended(relay: Option<&RelayServer>) {
    match relay {
        Some(relay) => relay.ended().await,
        None => std::future::pending().await,
    }
}

async fn dispatching_has_ended(dispatching: Option<&Dispatching>) {
    match dispatching {
        Some(dispatching) => dispatching.ended().await,
        None => std::future::pending().await,
    }
}

#[cfg(feature = "kafka")]
async fn shipping_has_ended(shipper: Option<&Shipper>) {
    match shipper {
        Some(shipper) => shipper.ended().await,
        None => std::future::pending().await,
    }
}

#[cfg(feature = "kafka")]
fn shipper(spool: &Embedded, target: &KafkaLog, store: Option<&Store>) -> (Arc<Shipper>, KafkaLog) {
    let letters = store.map(|store| -> Arc<dyn KeepLost> { Arc::new(Lost::new(store)) });
    let options = Config::ship_options();
    let shipper = Shipper::start_keeping(spool, target.clone(), &options, letters);
    (Arc::new(shipper), target.clone())
}
