//! Which name is looked up next: accounts in turn, and of each account names that were found
//! promptly before first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::NameLimits;

/// How long is remembered how a name's last lookup went.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What a lookup gives.
pub(super) type Answer = Result<Arc<[IpAddr]>, Arc<io::Error>>;

/// A lookup that is under way, and for whom.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) name: Arc<str>,
    account: Arc<str>,
    class: Class,
}

/// What comes of asking.
pub(super) enum Asked {
    /// The answer was kept from an earlier lookup.
    Known(Answer),
    /// There will be an answer; who waits no more says so with [`State::leave`].
    Wait {
        answer: watch::Receiver<Option<Answer>>,
        flight: u64,
    },
}

/// What is known of a name before it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Name whose last lookup has found it, promptly. All threads serve it, some nothing else.
    Prompt,
    /// Name of which nothing is known, or whose last lookup has failed promptly.
    New,
    /// Name whose last lookup took long.
    Slow,
}

/// All lookups, and what they have found.
#[derive(Default)]
pub(super) struct State {
    flights: HashMap<Arc<str>, Flight>,
    accounts: HashMap<Arc<str>, Account>,
    /// Accounts with names that wait; the first is the next one.
    turns: VecDeque<Arc<str>>,
    under_way: UnderWay,
    known: HashMap<Arc<str>, Known>,
    /// Names that are kept, oldest first.
    kept: BTreeMap<u64, Arc<str>>,
    last_number: u64,
}

/// Somebody waits for a name, or its lookup is under way.
struct Flight {
    number: u64,
    answer: watch::Sender<Option<Answer>>,
    waiting: usize,
    is_under_way: bool,
    /// Where it stands in the queues of accounts.
    queued: Vec<(Arc<str>, Ticket)>,
}

type Ticket = (Class, u64);

#[derive(Default)]
struct Account {
    under_way: UnderWay,
    queue: BTreeMap<Ticket, Arc<str>>,
}

/// Lookups under way.
#[derive(Clone, Copy, Default)]
struct UnderWay {
    all: usize,
    /// Lookups of names that were not [`Class::Prompt`] before.
    unproven: usize,
}

struct Known {
    answer: Answer,
    at: Instant,
    class: Class,
    number: u64,
}

impl UnderWay {
    /// Whether one more may be under way. A quarter is for names that were prompt before.
    fn has_room(self, class: Class, most: usize) -> bool {
        let unproven = (most - most / 4).max(1);
        self.all < most && (class == Class::Prompt || self.unproven < unproven)
    }

    fn begin(&mut self, class: Class) {
        self.all += 1;
        self.unproven += usize::from(class != Class::Prompt);
    }

    fn end(&mut self, class: Class) {
        self.all -= 1;
        self.unproven -= usize::from(class != Class::Prompt);
    }
}

impl State {
    /// Lookups under way, and names that wait.
    pub(super) fn counts(&self) -> (usize, usize) {
        let under_way = self.under_way.all;
        (under_way, self.flights.len() - under_way)
    }

    /// Whether somebody waits for a name and its lookup has not begun.
    pub(super) fn is_held_back(&self, name: &str) -> bool {
        let flight = self.flights.get(name);
        flight.is_some_and(|flight| !flight.is_under_way)
    }

    /// Asks for a name; [`State::next`] says what is to be looked up then.
    pub(super) fn ask(&mut self, account: &str, name: &str, limits: &NameLimits) -> Asked {
        let mut class = Class::New;
        if let Some(known) = self.known.get(name) {
            let age = known.at.elapsed();
            let kept_for = match &known.answer {
                Ok(_) => limits.found_for,
                Err(_) => limits.missing_for,
            };
            if age < kept_for {
                return Asked::Known(known.answer.clone());
            }
            if age < REMEMBERED {
                class = known.class;
            }
        }
        let number = self.number();
        let name: Arc<str> = Arc::from(name);
        let flight = self
            .flights
            .entry(Arc::clone(&name))
            .or_insert_with(|| Flight {
                number,
                answer: watch::Sender::new(None),
                waiting: 0,
                is_under_way: false,
                queued: Vec::new(),
            });
        flight.waiting += 1;
        // Another account does not wait for the turn of this one.
        if !flight.is_under_way && flight.queued.iter().all(|(of, _)| **of != *account) {
            let ticket = (class, number);
            let account: Arc<str> = Arc::from(account);
            flight.queued.push((Arc::clone(&account), ticket));
            let of = self.accounts.entry(Arc::clone(&account)).or_default();
            if of.queue.is_empty() {
                self.turns.push_back(account);
            }
            of.queue.insert(ticket, name);
        }
        Asked::Wait {
            answer: flight.answer.subscribe(),
            flight: flight.number,
        }
    }

    /// Somebody waits no more.
    pub(super) fn leave(&mut self, name: &str, number: u64) {
        let Some(flight) = self.flights.get_mut(name) else {
            return;
        };
        if flight.number != number {
            return;
        }
        flight.waiting -= 1;
        if flight.waiting == 0 && !flight.is_under_way {
            let queued = std::mem::take(&mut flight.queued);
            self.flights.remove(name);
            self.unqueue(queued);
        }
    }

    /// The next lookup, which is under way from now on; `None`: there is none, or no room.
    pub(super) fn next(&mut self, limits: &NameLimits) -> Option<Job> {
        for turn in 0..self.turns.len() {
            let account = Arc::clone(&self.turns[turn]);
            let Some(of) = self.accounts.get_mut(&account) else {
                continue;
            };
            let Some(((class, _), name)) = of.queue.first_key_value() else {
                continue;
            };
            let (class, name) = (*class, Arc::clone(name));
            let has_room = of.under_way.has_room(class, limits.lookups_of_account)
                && self.under_way.has_room(class, limits.lookups);
            if !has_room {
                continue;
            }
            of.under_way.begin(class);
            self.under_way.begin(class);
            // Its next name waits for the others.
            self.turns.remove(turn);
            self.turns.push_back(Arc::clone(&account));
            if let Some(flight) = self.flights.get_mut(&name) {
                flight.is_under_way = true;
                let queued = std::mem::take(&mut flight.queued);
                self.unqueue(queued);
            }
            return Some(Job {
                name,
                account,
                class,
            });
        }
        None
    }

    /// A lookup has ended: what it has found is kept, and whoever waits for it has it.
    pub(super) fn end(&mut self, job: &Job, answer: Answer, began: Instant, limits: &NameLimits) {
        let class = match &answer {
            _ if began.elapsed() > limits.slow => Class::Slow,
            Ok(_) => Class::Prompt,
            Err(_) => Class::New,
        };
        let number = self.number();
        let known = Known {
            answer: answer.clone(),
            at: Instant::now(),
            class,
            number,
        };
        if let Some(old) = self.known.insert(Arc::clone(&job.name), known) {
            self.kept.remove(&old.number);
        }
        self.kept.insert(number, Arc::clone(&job.name));
        while self.kept.len() > limits.kept
            && let Some((_, oldest)) = self.kept.pop_first()
        {
            self.known.remove(&oldest);
        }
        self.over(job, answer);
    }

    /// A lookup could not be made.
    pub(super) fn give_up(&mut self, job: &Job, error: Arc<io::Error>) {
        self.over(job, Err(error));
    }

    fn over(&mut self, job: &Job, answer: Answer) {
        if let Some(flight) = self.flights.remove(&job.name) {
            flight.answer.send_replace(Some(answer));
        }
        self.under_way.end(job.class);
        if let Some(of) = self.accounts.get_mut(&job.account) {
            of.under_way.end(job.class);
            if of.is_unused() {
                self.accounts.remove(&job.account);
            }
        }
    }

    fn unqueue(&mut self, queued: Vec<(Arc<str>, Ticket)>) {
        for (account, ticket) in queued {
            let Some(of) = self.accounts.get_mut(&account) else {
                continue;
            };
            of.queue.remove(&ticket);
            if of.queue.is_empty() {
                self.turns.retain(|other| *other != account);
            }
            if of.is_unused() {
                self.accounts.remove(&account);
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}

impl Account {
    fn is_unused(&self) -> bool {
        self.under_way.all == 0 && self.queue.is_empty()
    }
}
