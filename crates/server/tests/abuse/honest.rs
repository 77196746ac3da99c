//! The honest parties: a tenant who sends notifications over HTTP, and a mail user whose mails are
//! told of by Dovecot's plugin. Each one numbers what is sent, and waits until all of it has
//! arrived.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dovecast_testkit::PATIENCE;
use dovecast_testkit::endpoint::{Hook, HookEndpoint, Reply};
use dovecast_testkit::process::poll_until;

use crate::{Scene, post};

/// Time between two notifications of an honest party.
const PAUSE: Duration = Duration::from_millis(50);
/// What a receiver answers.
const TAKEN: u16 = 204;

/// When notifications of an honest party have arrived at one receiver, by their numbers.
#[derive(Clone, Default)]
pub(crate) struct Arrivals(Arc<Mutex<BTreeMap<u64, Instant>>>);

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that one has arrived now. One that comes again had arrived before.
    pub(crate) fn note(&self, number: u64) {
        let now = Instant::now();
        self.lock().entry(number).or_insert(now);
    }

    /// A receiver that notes the number of each notification, where it has one.
    pub(crate) fn receiver(&self, number_of: fn(&str) -> Option<u64>) -> Result<HookEndpoint> {
        let arrivals = self.clone();
        receiver(move |body| {
            if let Some(number) = number_of(body) {
                arrivals.note(number);
            }
        })
    }
}

/// A receiver that takes everything, keeps nothing, and looks at the bodies.
pub(crate) fn receiver(look: impl Fn(&str) + Send + Sync + 'static) -> Result<HookEndpoint> {
    HookEndpoint::noting(move |hook: &Hook| {
        look(&hook.body);
        Reply {
            status: TAKEN,
            body: String::new(),
        }
    })
}

/// How an honest party sends.
pub(crate) trait Voice {
    /// Sends the notification with this number; an error if it is refused.
    fn send(&mut self, number: u64) -> Result<()>;

    /// Does what there is to do while it waits; an error if something is lost.
    fn serve(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The tenant, by the token of its account.
pub(crate) struct Tenant<'s> {
    pub(crate) scene: &'s Scene<'s>,
    pub(crate) token: &'s str,
}

impl Voice for Tenant<'_> {
    fn send(&mut self, number: u64) -> Result<()> {
        let answer = post(self.token, &number.to_string()).send(self.scene.address)?;
        ensure!(answer.status == 201, "{number}: {answer:?}");
        Ok(())
    }
}

/// An honest party.
pub(crate) struct Honest<'s, V> {
    scene: &'s Scene<'s>,
    voice: V,
    /// Arrivals at each receiver that gets all of it.
    arrivals: Vec<Arrivals>,
    /// Number of the first notification.
    first: u64,
    /// When notifications were sent, by their numbers.
    sent: BTreeMap<u64, Instant>,
}

impl<'s, V: Voice> Honest<'s, V> {
    pub(crate) fn new(scene: &'s Scene<'s>, voice: V, arrivals: Vec<Arrivals>, first: u64) -> Self {
        Self {
            scene,
            voice,
            arrivals,
            first,
            sent: BTreeMap::new(),
        }
    }

    /// Sends notifications for so long, each of which is accepted, and waits until all have
    /// arrived everywhere; gives how long they took to where they arrived last, the shortest first.
    pub(crate) fn send(&mut self, length: Duration) -> Result<Vec<Duration>> {
        let (first, until) = (self.next(), Instant::now() + length);
        while Instant::now() < until {
            let number = self.next();
            self.sent.insert(number, Instant::now());
            self.voice.send(number)?;
            thread::sleep(PAUSE);
        }
        let mut served = Ok(());
        let all_there = poll_until(PATIENCE, || {
            served = self.voice.serve();
            let is_there = self.missing().iter().all(|missing| *missing == 0);
            (served.is_err() || is_there).then_some(())
        });
        served?;
        ensure!(
            all_there.is_some() && self.next() > first,
            "of {} are missing, by receivers, {:?}: {}\n{}",
            self.sent.len(),
            self.missing(),
            self.scene.server.server_log(),
            self.scene.server.get("/metrics")?.1
        );
        let mut took = Vec::new();
        for (number, at) in self.sent.range(first..) {
            let arrived = self.arrivals.iter();
            let last = arrived.filter_map(|arrivals| arrivals.lock().get(number).copied());
            took.extend(last.max().map(|last| last.saturating_duration_since(*at)));
        }
        took.sort_unstable();
        Ok(took)
    }

    /// How many have not arrived at each receiver.
    fn missing(&self) -> Vec<usize> {
        let missing = |arrivals: &Arrivals| {
            let arrived = arrivals.lock();
            let missing = |number: &&u64| !arrived.contains_key(number);
            self.sent.keys().filter(missing).count()
        };
        self.arrivals.iter().map(missing).collect()
    }

    /// Number of the next notification.
    fn next(&self) -> u64 {
        self.sent
            .keys()
            .next_back()
            .map_or(self.first, |last| last + 1)
    }
}
