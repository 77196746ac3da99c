//! Filters: which notifications of an account an endpoint wants.
//!
//! This is the meaning; [`Index`](crate::Index) finds the same without looking at each filter.

use std::fmt;
use std::sync::Arc;

use crate::condition::{Condition, Facts, Verdict};
use crate::{DOVECOT, EndpointId, Notification};

/// Account of filters that match notifications of all accounts: those of drivers of the
/// configuration. It has a control character, so no door takes it for the number of an account.
pub const EVERY_ACCOUNT: &str = "\u{1}every account";

/// A set that is left open or chosen. One that was chosen and has become empty, because what was in
/// it is gone, matches nothing: a filter only ever widens when a person widens it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<T> {
    /// Anything, and nothing at all.
    Any,
    /// These only.
    These(Vec<T>),
}

/// An event type, by its application.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType {
    /// External name.
    pub application: Box<str>,
    /// External id.
    pub name: Box<str>,
}

/// A level, by its event type.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Level {
    /// Whose level it is.
    pub event_type: EventType,
    /// External id.
    pub name: Box<str>,
}

/// The filter of one endpoint.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Whose it is.
    pub endpoint: EndpointId,
    /// Number of the account.
    pub account: Box<str>,
    /// How events of mail name the account, where that is not its number: a domain in lower case,
    /// of which the number has capitals.
    pub mail_account: Option<Box<str>>,
    /// Whether the filter matches anything at all.
    pub enabled: bool,
    /// External names.
    pub applications: Choice<Box<str>>,
    /// Event types.
    pub event_types: Choice<EventType>,
    /// Levels.
    pub levels: Choice<Level>,
    /// What must hold besides.
    pub condition: Option<Arc<Condition>>,
}

/// Why a notification does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The notification is another account's.
    Account,
    /// The filter is not enabled.
    Disabled,
    /// The application is not in the set.
    Application,
    /// The event type is not in the set.
    EventType,
    /// The level is not in the set.
    Level,
    /// The condition does not hold, or cannot be told.
    Condition,
    /// The condition was not run, because it would cost too much on the notification.
    Cost,
}

impl Filter {
    /// The first reason why a notification does not match; `None`: it does.
    ///
    /// The condition is run here, whatever it costs.
    pub fn mismatch(&self, notification: &Notification) -> Option<Mismatch> {
        self.mismatch_of_sets(notification).or_else(|| {
            let condition = self.condition.as_ref()?;
            Mismatch::of(condition.evaluate(&Facts::new(notification)))
        })
    }

    fn is_of_account(&self, notification: &Notification) -> bool {
        let named = &*notification.account;
        let by_mail = self.mail_account.as_deref();
        *self.account == *named
            || *self.account == *EVERY_ACCOUNT
            || (*notification.application == *DOVECOT && by_mail == Some(named))
    }

    /// The first reason besides the condition.
    pub fn mismatch_of_sets(&self, notification: &Notification) -> Option<Mismatch> {
        if !self.is_of_account(notification) {
            return Some(Mismatch::Account);
        }
        if !self.enabled {
            return Some(Mismatch::Disabled);
        }
        let is_type = |of: &EventType| {
            *of.application == *notification.application && *of.name == *notification.event_type
        };
        let is_level = |level: &Level| {
            is_type(&level.event_type) && Some(&*level.name) == notification.level.as_deref()
        };
        if !self
            .applications
            .allows(|name| **name == *notification.application)
        {
            return Some(Mismatch::Application);
        }
        if !self.event_types.allows(is_type) {
            return Some(Mismatch::EventType);
        }
        if !self.levels.allows(is_level) {
            return Some(Mismatch::Level);
        }
        None
    }
}

impl Mismatch {
    /// Mismatch of a condition's verdict.
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Holds => None,
            Verdict::Fails => Some(Self::Condition),
            Verdict::TooCostly => Some(Self::Cost),
        }
    }
}

impl<T> Choice<T> {
    fn allows(&self, is_it: impl FnMut(&T) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::These(list) => list.iter().any(is_it),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account => "the notification is another account's",
            Self::Disabled => "the filter is not enabled",
            Self::Application => "the application is not among those of the filter",
            Self::EventType => "the event type is not among those of the filter",
            Self::Level => "the level is not among those of the filter",
            Self::Condition => "the condition does not hold",
            Self::Cost => {
                "the condition is not run, it would cost too much on a notification of this size"
            }
        })
    }
}
