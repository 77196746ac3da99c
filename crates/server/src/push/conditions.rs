//! Conditions of subscriptions, compiled once and remembered, and bounded in what they cost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use dovecast_mail_push::plan::Conditions;
use dovecast_notification::Notification;
use dovecast_notification::condition::{Condition, Facts};

use super::counters::{Count, Counters};

/// Most conditions that are remembered; when there would be more, all are forgotten.
const MAX_REMEMBERED: usize = 10_000;
/// Steps that all patterns and conditions of one event may take: some milliseconds. What exceeds
/// them does not hold, so that no person's filters hold up the devices of others.
const STEPS_OF_EVENT: u64 = 1024 * 1024;

/// Conditions by their texts; `None`: the text is no condition.
#[derive(Default)]
pub(super) struct Compiled(Mutex<HashMap<Box<str>, Option<Arc<Condition>>>>);

impl Compiled {
    fn get(&self, text: &str) -> Option<Arc<Condition>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(condition) = known.get(text) {
            return condition.clone();
        }
        drop(known);
        // To compile takes a thread of its own: no lock is held meanwhile.
        let condition = Condition::new(text).ok().map(Arc::new);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(text.into(), condition.clone());
        condition
    }
}

/// The conditions of one event.
pub(super) struct OfEvent<'a> {
    compiled: &'a Compiled,
    notification: &'a Notification,
    facts: Facts<'a>,
    steps_left: u64,
    counters: &'a Counters,
}

impl<'a> OfEvent<'a> {
    pub(super) fn new(
        compiled: &'a Compiled,
        notification: &'a Notification,
        counters: &'a Counters,
    ) -> Self {
        Self {
            compiled,
            notification,
            facts: Facts::new(notification),
            steps_left: STEPS_OF_EVENT.saturating_sub(Facts::cost(notification)),
            counters,
        }
    }
}

impl Conditions for OfEvent<'_> {
    fn pays(&mut self, steps: u64) -> bool {
        if steps > self.steps_left {
            self.counters.add(Count::Costly, 1);
            return false;
        }
        self.steps_left -= steps;
        true
    }

    fn holds(&mut self, text: &str) -> bool {
        let Some(condition) = self.compiled.get(text) else {
            return false;
        };
        self.pays(condition.cost_unread(self.notification)) && condition.holds(&self.facts)
    }
}
