//! Lanes of pushes: how many attempts are under way, in all, at one host and for one person, so
//! that a service that hangs takes no place of others.
//!
//! Pure: an attempt has its [`LanePermit`] as long as it is under way, and gives it back by drop.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Person;

/// Most attempts that are under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneBounds {
    /// In all.
    pub in_all: usize,
    /// At one host: all devices of [`crate::DeviceAddress::lane`].
    pub of_host: usize,
    /// For one person.
    pub of_person: usize,
}

/// Attempts that are under way. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Lanes {
    bounds: LaneBounds,
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    in_all: usize,
    hosts: HashMap<Arc<str>, usize>,
    persons: HashMap<Person, usize>,
}

/// The place of one attempt; dropped, it is free.
#[derive(Debug)]
pub struct LanePermit {
    lanes: Lanes,
    host: Arc<str>,
    person: Person,
}

/// A person for whom attempts are under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonLane {
    /// The person.
    pub person: Person,
    /// How many are under way.
    pub under_way: usize,
    /// Whether the person has no place left.
    pub is_full: bool,
}

impl Lanes {
    /// None is under way.
    pub fn new(bounds: LaneBounds) -> Self {
        Self {
            bounds,
            under_way: Arc::default(),
        }
    }

    /// A place for an attempt; `None`: all, those of the host or those of the person are taken.
    pub fn take(&self, host: &str, person: &Person) -> Option<LanePermit> {
        let mut under_way = self.lock();
        let of_host = under_way.hosts.get(host).copied().unwrap_or_default();
        let of_person = under_way.persons.get(person).copied().unwrap_or_default();
        if under_way.in_all >= self.bounds.in_all
            || of_host >= self.bounds.of_host
            || of_person >= self.bounds.of_person
        {
            return None;
        }
        let host: Arc<str> = host.into();
        under_way.in_all += 1;
        under_way.hosts.insert(Arc::clone(&host), of_host + 1);
        under_way.persons.insert(person.clone(), of_person + 1);
        drop(under_way);
        Some(LanePermit {
            lanes: self.clone(),
            host,
            person: person.clone(),
        })
    }

    /// Attempts for a person that are under way.
    pub fn of_person(&self, person: &Person) -> usize {
        let under_way = self.lock();
        under_way.persons.get(person).copied().unwrap_or_default()
    }

    /// Places that are free in all.
    pub fn free(&self) -> usize {
        self.bounds.in_all.saturating_sub(self.lock().in_all)
    }

    /// Hosts that have no place left: at most as many as the bounds allow to be full.
    pub fn full_hosts(&self) -> Vec<String> {
        let under_way = self.lock();
        let full = under_way
            .hosts
            .iter()
            .filter(|(_, count)| **count >= self.bounds.of_host);
        full.map(|(host, _)| host.to_string()).collect()
    }

    /// Persons for whom attempts are under way.
    pub fn persons(&self) -> Vec<PersonLane> {
        let under_way = self.lock();
        let persons = under_way.persons.iter();
        let persons = persons.map(|(person, &count)| PersonLane {
            person: person.clone(),
            under_way: count,
            is_full: count >= self.bounds.of_person,
        });
        persons.collect()
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LanePermit {
    fn drop(&mut self) {
        let mut under_way = self.lanes.lock();
        under_way.in_all = under_way.in_all.saturating_sub(1);
        if let Some(count) = under_way.hosts.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                under_way.hosts.remove(&self.host);
            }
        }
        if let Some(count) = under_way.persons.get_mut(&self.person) {
            *count -= 1;
            if *count == 0 {
                under_way.persons.remove(&self.person);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(user: &str) -> Person {
        Person::new("3", user, user).expect("a person")
    }

    #[test]
    fn no_host_and_no_person_takes_the_places_of_others() {
        let bounds = LaneBounds {
            in_all: 5,
            of_host: 2,
            of_person: 3,
        };
        let lanes = Lanes::new(bounds);
        let [joe, ann] = ["11", "12"].map(person);
        let mut held = vec![lanes.take("a", &joe), lanes.take("a", &joe)];
        assert!(held.iter().all(Option::is_some));
        assert!(lanes.take("a", &ann).is_none());
        assert_eq!(lanes.full_hosts(), ["a"]);
        held.push(lanes.take("b", &joe));
        assert!(lanes.take("c", &joe).is_none());
        let full = lanes.persons().into_iter().filter(|lane| lane.is_full);
        let full: Vec<Person> = full.map(|lane| lane.person).collect();
        assert_eq!(full, [joe]);
        held.extend([lanes.take("b", &ann), lanes.take("c", &ann)]);
        assert!(held.iter().all(Option::is_some));
        assert_eq!(lanes.free(), 0);
        assert!(lanes.take("d", &person("13")).is_none());
        held.clear();
        assert_eq!(lanes.free(), 5);
        let under_way = lanes.lock();
        assert!(under_way.hosts.is_empty() && under_way.persons.is_empty());
    }
}
