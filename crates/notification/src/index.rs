//! Finds the endpoints of a notification, in a time that does not depend on how many filters do not
//! match.
//!
//! Each filter stands under the narrowest of what it names: its levels, else its event types, else
//! its applications, else under nothing but its account. A notification belongs to four such places
//! at most, and all it finds there match, but for conditions.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use hashbrown::hash_map::{Entry, EntryRef};
use hashbrown::{Equivalent, HashMap};

use crate::condition::{Condition, Facts};
use crate::filter::{Choice, EVERY_ACCOUNT, Filter};
use crate::{DOVECOT, EndpointId, Notification};

/// Everything of an account, whatever the notification's application is.
const ANY: u32 = 0;

/// All filters, and with each what is found by it.
#[derive(Debug)]
pub struct Index<T> {
    accounts: HashMap<Box<str>, Account>,
    /// By the names that events of mail have for accounts, where those are not their numbers.
    by_mail: HashMap<Box<str>, Account>,
    last_account: u32,
    /// Applications, event types and levels have numbers; the parent of an application is [`ANY`].
    classes: HashMap<ClassName, u32>,
    postings: HashMap<(u32, u32), Posting>,
    slots: Vec<Option<Slot<T>>>,
    free: Vec<u32>,
    filters: HashMap<EndpointId, Stored>,
}

#[derive(Debug)]
struct Account {
    number: u32,
    filters: u32,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ClassName {
    parent: u32,
    name: Box<str>,
}

/// A [`ClassName`] to be looked up.
#[derive(Clone, Copy)]
struct ClassRef<'a> {
    parent: u32,
    name: &'a str,
}

impl Hash for ClassRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parent.hash(state);
        self.name.hash(state);
    }
}

impl Equivalent<ClassName> for ClassRef<'_> {
    fn equivalent(&self, key: &ClassName) -> bool {
        self.parent == key.parent && self.name == &*key.name
    }
}

impl From<&ClassRef<'_>> for ClassName {
    fn from(class: &ClassRef<'_>) -> Self {
        Self {
            parent: class.parent,
            name: class.name.into(),
        }
    }
}

/// Slots of the filters that stand in one place; nearly always it is one.
#[derive(Debug)]
enum Posting {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Debug)]
struct Slot<T> {
    target: T,
    condition: Option<Arc<Condition>>,
}

#[derive(Debug)]
struct Stored {
    slot: u32,
    /// Numbers of the account, by which its filters stand in their places.
    accounts: [Option<u32>; 2],
    filter: Arc<Filter>,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self {
            accounts: HashMap::new(),
            by_mail: HashMap::new(),
            last_account: ANY,
            classes: HashMap::new(),
            postings: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            filters: HashMap::new(),
        }
    }
}

impl<T> Index<T> {
    /// Puts an endpoint's filter in, in place of the one it had; `target` is what is found by it.
    pub fn insert(&mut self, filter: Arc<Filter>, target: T) {
        self.remove(filter.endpoint);
        let last = &mut self.last_account;
        let own = enter(&mut self.accounts, last, &filter.account);
        let mail_account = filter.mail_account.as_deref();
        let by_mail = mail_account.map(|name| enter(&mut self.by_mail, last, name));
        let accounts = [Some(own), by_mail];
        let slot = self.take_slot(Slot {
            target,
            condition: filter.condition.clone(),
        });
        for class in self.classes(&filter) {
            for account in accounts.into_iter().flatten() {
                match self.postings.entry((account, class)) {
                    Entry::Vacant(entry) => {
                        entry.insert(Posting::One(slot));
                    }
                    Entry::Occupied(mut entry) => entry.get_mut().add(slot),
                }
            }
        }
        let stored = Stored {
            slot,
            accounts,
            filter,
        };
        self.filters.insert(stored.filter.endpoint, stored);
    }

    /// Takes an endpoint's filter out; `None`: it has none.
    pub fn remove(&mut self, endpoint: EndpointId) -> Option<Arc<Filter>> {
        let stored = self.filters.remove(&endpoint)?;
        for class in self.classes(&stored.filter) {
            for account in stored.accounts.into_iter().flatten() {
                if let Entry::Occupied(mut entry) = self.postings.entry((account, class))
                    && entry.get_mut().remove(stored.slot)
                {
                    entry.remove();
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(stored.slot as usize) {
            *slot = None;
            self.free.push(stored.slot);
        }
        leave(&mut self.accounts, &stored.filter.account);
        if let Some(name) = &stored.filter.mail_account {
            leave(&mut self.by_mail, name);
        }
        Some(stored.filter)
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.filters.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// An endpoint's filter.
    pub fn get(&self, endpoint: EndpointId) -> Option<&Arc<Filter>> {
        self.filters.get(&endpoint).map(|stored| &stored.filter)
    }

    /// What is found by the filters that a notification matches, each once, in no order. Conditions
    /// are run, whatever they cost.
    pub fn matches<'a>(&'a self, notification: &Notification, mut found: impl FnMut(&'a T)) {
        let facts = Facts::new(notification);
        self.candidates(notification, |target, condition| {
            if condition.is_none_or(|condition| condition.holds(&facts)) {
                found(target);
            }
        });
    }

    /// What is found by the filters that a notification matches but for their conditions, and
    /// those.
    pub fn candidates<'a>(
        &'a self,
        notification: &Notification,
        mut found: impl FnMut(&'a T, Option<&'a Arc<Condition>>),
    ) {
        let own = self.accounts.get(&*notification.account);
        let every = self.accounts.get(EVERY_ACCOUNT);
        let every = every.filter(|_| *notification.account != *EVERY_ACCOUNT);
        let is_of_mail = *notification.application == *DOVECOT && !self.by_mail.is_empty();
        let by_mail = is_of_mail
            .then(|| self.by_mail.get(&*notification.account))
            .flatten();
        if own.or(every).or(by_mail).is_none() {
            return;
        }
        let mut look = |class| {
            for account in [own, every, by_mail].into_iter().flatten() {
                let Some(posting) = self.postings.get(&(account.number, class)) else {
                    continue;
                };
                for slot in posting.slots() {
                    if let Some(Some(slot)) = self.slots.get(*slot as usize) {
                        found(&slot.target, slot.condition.as_ref());
                    }
                }
            }
        };
        look(ANY);
        let names = [
            Some(&*notification.application),
            Some(&*notification.event_type),
            notification.level.as_deref(),
        ];
        let mut parent = ANY;
        for name in names.into_iter().map_while(|name| name) {
            let Some(class) = self.classes.get(&ClassRef { parent, name }) else {
                return;
            };
            look(*class);
            parent = *class;
        }
    }

    fn take_slot(&mut self, slot: Slot<T>) -> u32 {
        if let Some(free) = self.free.pop() {
            self.slots[free as usize] = Some(slot);
            return free;
        }
        self.slots.push(Some(slot));
        // Four thousand million filters do not fit into memory.
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    /// The number of a class below `parent`.
    fn class(&mut self, parent: u32, name: &str) -> u32 {
        // They are never taken out: there are as many as things that were registered.
        let next = u32::try_from(self.classes.len() + 1).unwrap_or(u32::MAX);
        *self
            .classes
            .entry_ref(&ClassRef { parent, name })
            .or_insert(next)
    }

    /// Where a filter stands, each place once; nowhere if nothing can match it.
    fn classes(&mut self, filter: &Filter) -> Vec<u32> {
        if !filter.enabled {
            return Vec::new();
        }
        let is_chosen = |name: &str| match &filter.applications {
            Choice::Any => true,
            Choice::These(list) => list.iter().any(|application| **application == *name),
        };
        let mut classes = Vec::new();
        match (&filter.levels, &filter.event_types, &filter.applications) {
            (Choice::These(levels), event_types, _) => {
                for level in levels {
                    let of = &level.event_type;
                    let is_type_chosen = match event_types {
                        Choice::Any => true,
                        Choice::These(list) => list.contains(of),
                    };
                    if is_type_chosen && is_chosen(&of.application) {
                        let application = self.class(ANY, &of.application);
                        let event_type = self.class(application, &of.name);
                        classes.push(self.class(event_type, &level.name));
                    }
                }
            }
            (Choice::Any, Choice::These(event_types), _) => {
                for of in event_types.iter().filter(|of| is_chosen(&of.application)) {
                    let application = self.class(ANY, &of.application);
                    classes.push(self.class(application, &of.name));
                }
            }
            (Choice::Any, Choice::Any, Choice::These(applications)) => {
                for application in applications {
                    classes.push(self.class(ANY, application));
                }
            }
            (Choice::Any, Choice::Any, Choice::Any) => classes.push(ANY),
        }
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

/// The number of an account that has one filter more.
fn enter(accounts: &mut HashMap<Box<str>, Account>, last: &mut u32, name: &str) -> u32 {
    let account = accounts.entry_ref(name).or_insert_with(|| {
        *last += 1;
        Account {
            number: *last,
            filters: 0,
        }
    });
    account.filters += 1;
    account.number
}

/// An account has one filter less.
fn leave(accounts: &mut HashMap<Box<str>, Account>, name: &str) {
    if let EntryRef::Occupied(mut account) = accounts.entry_ref(name) {
        account.get_mut().filters -= 1;
        if account.get().filters == 0 {
            account.remove();
        }
    }
}

impl Posting {
    fn slots(&self) -> &[u32] {
        match self {
            Self::One(slot) => std::slice::from_ref(slot),
            Self::Many(slots) => slots,
        }
    }

    fn add(&mut self, slot: u32) {
        match self {
            Self::One(first) => *self = Self::Many(vec![*first, slot]),
            Self::Many(slots) => slots.push(slot),
        }
    }

    /// `true`: nothing is left.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(only) => *only == slot,
            Self::Many(slots) => {
                // Not kept in order: a place may hold a million.
                if let Some(at) = slots.iter().position(|other| *other == slot) {
                    slots.swap_remove(at);
                }
                slots.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests;
