//! How records leave the process: one transport for each set of general settings, shared by all
//! users and driver instances, and the one timer that serves them all.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use dovecast_dovecot_sys::host;

#[cfg(feature = "kafka")]
use crate::kafka::{Cluster, PropertyError};
use crate::record::Record;
use crate::relay::Relay;
use dovecast_options::{GeneralSettings, TransportKind};

/// Different destinations one process may have. More of them are a mistake in per-user settings,
/// and each costs connections, with Kafka threads as well.
const MAX_TRANSPORTS: usize = 16;

thread_local! {
    /// Only Dovecot's main thread has any.
    static TRANSPORTS: RefCell<Vec<(GeneralSettings, Rc<Transport>)>> = RefCell::default();
    /// When the process's timer runs off.
    static TIMER_DUE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Why there is no transport for some settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    #[cfg(feature = "kafka")]
    #[error(transparent)]
    Property(#[from] PropertyError),
    #[cfg(not(feature = "kafka"))]
    #[error("this build of the plugin has no transport `kafka`, only `relay`")]
    NoKafka,
    #[error(
        "this process publishes to {MAX_TRANSPORTS} different destinations already (new: `{0}`)"
    )]
    TooMany(String),
}

/// A way out of the process.
#[cfg_attr(
    feature = "kafka",
    expect(
        clippy::large_enum_variant,
        reason = "a process has a few, for as long as it lives"
    )
)]
pub(crate) enum Transport {
    #[cfg(feature = "kafka")]
    Kafka(Cluster),
    Relay(Relay),
}

/// The transport for these settings; the same for the same settings.
pub(crate) fn for_settings(settings: &GeneralSettings) -> Result<Rc<Transport>, TransportError> {
    TRANSPORTS.with_borrow_mut(|transports| {
        let known = transports.iter().find(|(known, _)| known == settings);
        if let Some((_, transport)) = known {
            return Ok(Rc::clone(transport));
        }
        let transport = Rc::new(Transport::new(settings)?);
        if transports.len() >= MAX_TRANSPORTS {
            return Err(TransportError::TooMany(settings.destination().to_owned()));
        }
        transports.push((settings.clone(), Rc::clone(&transport)));
        Ok(transport)
    })
}

/// Called by the timer: does what there is to do, and sets the timer anew.
pub(crate) fn serve_all() {
    TIMER_DUE.set(None);
    let next = all().iter().filter_map(|transport| transport.serve()).min();
    if let Some(delay) = next {
        set_timer(delay);
    }
}

/// Called at process exit: every transport has its time to get rid of what it holds. Their waits
/// overlap.
pub(crate) fn finish_all() {
    host::clear_timer();
    let transports = all();
    let started = Instant::now();
    for transport in &transports {
        transport.begin_finish();
    }
    for transport in &transports {
        transport.finish(started);
    }
    #[cfg(feature = "kafka")]
    crate::kafka::destroy(
        transports
            .iter()
            .filter_map(|transport| match &**transport {
                Transport::Kafka(cluster) => Some(cluster),
                Transport::Relay(_) => None,
            }),
    );
    TRANSPORTS.with_borrow_mut(Vec::clear);
}

fn all() -> Vec<Rc<Transport>> {
    TRANSPORTS.with_borrow(|transports| {
        transports
            .iter()
            .map(|(_, transport)| Rc::clone(transport))
            .collect()
    })
}

/// Makes the timer run off after `delay`, or sooner if it is set sooner.
pub(crate) fn set_timer(delay: Duration) {
    let due = Instant::now() + delay;
    if TIMER_DUE.get().is_none_or(|set| due < set) {
        TIMER_DUE.set(Some(due));
        host::set_timer(delay);
    }
}

impl Transport {
    fn new(settings: &GeneralSettings) -> Result<Self, TransportError> {
        match settings.transport {
            TransportKind::Relay => Ok(Self::Relay(Relay::new(settings))),
            #[cfg(feature = "kafka")]
            TransportKind::Kafka => Ok(Self::Kafka(Cluster::new(settings.clone())?)),
            #[cfg(not(feature = "kafka"))]
            TransportKind::Kafka => Err(TransportError::NoKafka),
        }
    }

    /// Takes a record over. Waits for nothing.
    #[cfg_attr(
        not(feature = "kafka"),
        expect(clippy::needless_pass_by_value, reason = "librdkafka's queue keeps it")
    )]
    pub(crate) fn send(&self, record: Record) {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(cluster) => cluster.send(record),
            Self::Relay(relay) => relay.send(&record),
        }
    }

    /// A transaction has ended.
    pub(crate) fn end_transaction(&self) {
        match self {
            // All that concerns librdkafka happens in the event loop.
            #[cfg(feature = "kafka")]
            Self::Kafka(_) => {}
            Self::Relay(relay) => relay.flush(),
        }
    }

    fn serve(&self) -> Option<Duration> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(cluster) => cluster.serve(),
            Self::Relay(relay) => relay.serve(),
        }
    }

    fn begin_finish(&self) {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(cluster) => cluster.begin_flush(),
            Self::Relay(relay) => relay.flush(),
        }
    }

    fn finish(&self, started: Instant) {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka(cluster) => cluster.flush(started),
            Self::Relay(relay) => relay.finish(started),
        }
    }
}
