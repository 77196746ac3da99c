//! Listeners of this node: which mailboxes it has to hear, by what, and by leases of the store.
//!
//! Each few seconds, and when a node comes or goes, a round sees which nodes live, decides who has
//! a listener, gives up what belongs to others, and takes what belongs to itself. That the node
//! lives is said by [`life`], beside the rounds. A node that could not say so in time has no lease
//! any more: it ends everything, and begins again when the store is there.

mod life;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::{PasswordSource, SourceKind};
use dovecast_mail_push::placement::{Care, Ending, Lease, Moves, Wish, moves};
use dovecast_operations::push::{CredentialStorage, KnownPassword, ListenerRules, Vault};
use dovecast_store::Store;
use tokio::task::JoinSet;

use super::counters::{Count, Counters};
use life::Life;
pub(super) use life::ROUND_LIMIT;

/// Pause between two rounds: so long it takes until a change is seen.
const ROUND_INTERVAL: Duration = Duration::from_secs(3);
/// Longest time that one listener takes to begin or to end; others are not kept from theirs.
const LISTENER_LIMIT: Duration = Duration::from_secs(5);
/// Listeners that end at the same time.
const ENDED_AT_ONCE: usize = 64;
/// Listeners of which is noted in a round how they fare.
const NOTED_A_ROUND: usize = 1_000;
/// How often what belongs to persons without sessions and subscriptions is looked for.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

static LINES: LineLimit = LineLimit::a_minute(1);
static HUNG_LINES: LineLimit = LineLimit::a_minute(1);

/// What decides which mailboxes are heard, and hears them.
#[derive(Clone)]
pub(super) struct Caring {
    pub(super) store: Store,
    pub(super) care: Arc<dyn Care>,
    pub(super) rules: ListenerRules,
    pub(super) vault: Vault,
    pub(super) counters: Arc<Counters>,
    /// Longest time that a round takes.
    pub(super) round_limit: Duration,
}

/// What a node knows between two rounds.
#[derive(Default)]
struct State {
    held: Held,
    /// When what is not needed any more was looked for last.
    swept: Option<Instant>,
    /// Rows that could not be read, as far as they are counted.
    unreadable: u64,
}

/// A listener that a person is to have.
struct Wanted {
    wish: Wish,
    /// Whether the password is in this process only, so that no other node could run it.
    is_bound: bool,
    /// Whether the mailbox is heard; else METADATA is taken away, and nothing more.
    is_heard: bool,
}

/// Listeners that this node runs, with their leases.
type Held = HashMap<Person, (Lease, Wish)>;

/// What is known of one person.
#[derive(Default)]
struct Facts {
    has_session: bool,
    /// Clients with subscriptions for new mail.
    clients: Vec<String>,
    /// Whether a METADATA entry may be set.
    has_metadata: bool,
}

impl Caring {
    /// Cares for ever.
    pub(super) async fn run(&self) {
        let mut state = State::default();
        loop {
            let life = Life::begin(&self.store, &self.counters);
            while life.nodes().await.is_some() {
                tokio::select! {
                    biased;
                    () = life.is_over() => {}
                    () = self.rounds(&life, &mut state) => {}
                }
                let _working = life.working();
                self.end_all(&mut state.held).await;
            }
            self.counters.add(Count::Panicked, 1);
            tracing::error!("what says that this node lives has panicked, and begins anew");
            self.end_all(&mut state.held).await;
            tokio::time::sleep(ROUND_INTERVAL).await;
        }
    }

    /// Rounds for ever; returns when one hangs.
    async fn rounds(&self, life: &Life, state: &mut State) {
        while let Some(nodes) = life.nodes().await {
            let working = life.working();
            let round = tokio::time::timeout(self.round_limit, self.round(&nodes, state));
            match round.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    if LINES.take() {
                        let error = format!("{:#}", anyhow::Error::from(error));
                        tracing::warn!(
                            error,
                            "the store cannot be asked which mailboxes are to be heard; this is retried"
                        );
                    }
                }
                Err(_) => {
                    self.counters.add(Count::Hung, 1);
                    tracing::error!(
                        "a round of the listeners hangs: all listeners of this node end, and begin anew"
                    );
                    life.give_up().await;
                    return;
                }
            }
            drop(working);
            self.count_unreadable(state);
            // What a dead node heard is taken at once.
            let others = life.has_others_than(&nodes);
            _ = tokio::time::timeout(ROUND_INTERVAL, others).await;
        }
    }

    fn count_unreadable(&self, state: &mut State) {
        let unreadable = self.store.unreadable_push_rows();
        let more = unreadable.saturating_sub(state.unreadable);
        self.counters.add(Count::UnreadableRow, more);
        state.unreadable = unreadable;
    }

    /// One round: what is no longer ours ends before it is given back, so no two nodes hear one.
    async fn round(&self, nodes: &[String], state: &mut State) -> dovecast_store::Result<()> {
        let held = &mut state.held;
        let name = self.store.push_node();
        let leased = self.store.leased().await?;
        let leased = leased.into_iter().filter(|(_, node)| *node == name);
        let leased: HashSet<Person> = leased.map(|(person, _)| person).collect();
        // Leases that were lost while this node did not live.
        let lost: Vec<Person> = held
            .keys()
            .filter(|one| !leased.contains(*one))
            .cloned()
            .collect();
        self.end(&lost, held, Ending::Lost).await;
        let wanted = self.wanted().await?;
        // What is leased and was not begun, as where the store was away in between, is leased anew.
        let (ours, left): (Vec<Person>, Vec<Person>) =
            leased.into_iter().partition(|one| held.contains_key(one));
        self.store.give_leases(&left).await?;
        let change = changes(&name, nodes, &wanted, &ours);
        // What is known of a mailbox stays: whose password is refused is told what came meanwhile
        // after the next login, and of whom has left it is swept.
        self.end(&change.give, held, Ending::Handed).await;
        self.store.give_leases(&change.give).await?;
        self.begin_others(&wanted, held).await;
        for lease in self.store.take_leases(&change.take).await? {
            if let Some(one) = wanted.get(&lease.person) {
                let known = (lease.clone(), one.wish.clone());
                held.insert(lease.person.clone(), known);
                self.begin(lease, one.wish.clone()).await;
            }
        }
        let unnoted = self.care.unnoted(NOTED_A_ROUND);
        self.store.note_listeners(&unnoted).await?;
        self.care.noted(&unnoted);
        if state.swept.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL) {
            let given_up = self.store.give_up_metadata().await?;
            if given_up > 0 {
                self.counters.add(Count::GivenUp, given_up);
                tracing::error!(
                    given_up,
                    "METADATA entries `http-notify` could not be taken away within a week, and stay"
                );
            }
            self.store.forget_unheard().await?;
            self.store.forget_leases().await?;
            state.swept = Some(Instant::now());
        }
        Ok(())
    }

    /// Begins listeners anew that are to be others than they are.
    async fn begin_others(&self, wanted: &HashMap<Person, Wanted>, held: &mut Held) {
        for (person, (lease, wish)) in held {
            let Some(one) = wanted.get(person).filter(|one| one.wish != *wish) else {
                continue;
            };
            let is_other_source = one.wish.source != wish.source;
            let is_the_same = !is_other_source
                && one.wish.credentials == wish.credentials
                && (!one.wish.is_leaving || wish.is_leaving);
            *wish = one.wish.clone();
            if is_the_same {
                // Permanent or not, and done with leaving or not, it is heard as before.
                continue;
            }
            // By IDLE and by datagrams the same is known of the mailbox, and goes on.
            let keeps_what_is_known = matches!(
                one.wish.source,
                SourceKind::ImapIdle | SourceKind::MailNotify
            );
            let ending = if is_other_source && one.is_heard && !keeps_what_is_known {
                Ending::Over
            } else {
                Ending::Handed
            };
            let end = self.care.end(person, ending);
            bounded(&self.counters, person, end).await;
            self.begin(lease.clone(), wish.clone()).await;
        }
    }

    /// Persons who have a listener: permanent, or bound to a session.
    async fn wanted(&self) -> dovecast_store::Result<HashMap<Person, Wanted>> {
        let asked = Instant::now();
        let mut facts: HashMap<Person, Facts> = HashMap::new();
        for person in self.store.persons_with_sessions().await? {
            facts.entry(person).or_default().has_session = true;
        }
        for one in self.store.new_mail_clients().await? {
            let facts = facts.entry(one.person).or_default();
            facts.clients.push(one.client);
        }
        for person in self.store.persons_with_metadata().await? {
            facts.entry(person).or_default().has_metadata = true;
        }
        let known = self.vault.known().await?;
        let keeps = self.vault.storage() == CredentialStorage::Memory;
        self.vault.forget_others(asked, |person| {
            facts.get(person).is_some_and(|facts| {
                facts.has_session || facts.has_metadata || keeps && !facts.clients.is_empty()
            })
        });
        let wanted = facts.into_iter().filter_map(|(person, facts)| {
            let wanted = self.decided(&facts, known.get(&person))?;
            Some((person, wanted))
        });
        Ok(wanted.collect())
    }

    fn decided(&self, facts: &Facts, password: Option<&KnownPassword>) -> Option<Wanted> {
        let decision = self.rules.permanent(&facts.clients, password.is_some());
        let of_session = || {
            let of_session = self.rules.of_session(password.is_some());
            of_session.filter(|_| facts.has_session)
        };
        let can_leave = facts.has_metadata && self.can_leave(password.is_some());
        let (source, is_permanent, is_heard) = match decision.outcome {
            Ok(source) => (source, true, true),
            Err(_) => match of_session() {
                Some(source) => (source, false, true),
                // There is something to take away, and nothing to hear.
                None if can_leave => (SourceKind::Events, false, false),
                None => return None,
            },
        };
        let is_leaving = can_leave && source != SourceKind::Dovecot;
        let offers = self.rules.sources.iter();
        let needs_login = offers
            .filter(|offer| offer.kind == source)
            .any(|offer| offer.needs_credentials);
        Some(Wanted {
            is_bound: (needs_login || is_leaving) && password.is_some_and(|one| one.is_here_only),
            is_heard,
            wish: Wish {
                source,
                is_permanent,
                is_leaving,
                credentials: password
                    .filter(|_| needs_login || is_leaving || source == SourceKind::MailNotify)
                    .map(|one| Arc::clone(&one.name)),
            },
        })
    }

    /// Whether METADATA can be taken away with what there is to log in with.
    fn can_leave(&self, has_password: bool) -> bool {
        let mut offers = self.rules.sources.iter();
        let dovecot = offers.find(|offer| offer.kind == SourceKind::Dovecot);
        has_password
            || self.rules.passwords == PasswordSource::Global
            || !dovecot.is_some_and(|offer| offer.needs_credentials)
    }

    async fn begin(&self, lease: Lease, wish: Wish) {
        let person = lease.person.clone();
        bounded(&self.counters, &person, self.care.begin(lease, wish)).await;
    }

    /// Ends listeners, many at a time; each is held until it has ended, so that whoever is cut
    /// short ends them once more.
    async fn end(&self, persons: &[Person], held: &mut Held, ending: Ending) {
        let ends: Vec<&Person> = persons
            .iter()
            .filter(|one| held.contains_key(*one))
            .collect();
        let mut under_way = JoinSet::new();
        for person in &ends {
            while under_way.len() >= ENDED_AT_ONCE {
                // One that has panicked has ended, too.
                let _ = under_way.join_next().await;
            }
            let (care, counters) = (Arc::clone(&self.care), Arc::clone(&self.counters));
            let person = (*person).clone();
            under_way.spawn(async move {
                bounded(&counters, &person, care.end(&person, ending)).await;
            });
        }
        while under_way.join_next().await.is_some() {}
        for person in ends {
            held.remove(person);
        }
    }

    /// Ends all listeners, as this node has no lease any more.
    async fn end_all(&self, held: &mut Held) {
        let persons: Vec<Person> = held.keys().cloned().collect();
        self.end(&persons, held, Ending::Lost).await;
    }
}

/// Begins or ends one listener; what takes too long is left alone: it does nothing without a good
/// lease.
async fn bounded(counters: &Counters, person: &Person, done: impl Future<Output = ()>) {
    if tokio::time::timeout(LISTENER_LIMIT, done).await.is_err() {
        counters.add(Count::Hung, 1);
        if HUNG_LINES.take() {
            tracing::error!(%person, "a listener hangs: it has neither begun nor ended in time");
        }
    }
}

/// What is to change here. Listeners whose passwords are in this process alone belong here; all
/// others are spread.
fn changes(
    name: &str,
    nodes: &[String],
    wanted: &HashMap<Person, Wanted>,
    ours: &[Person],
) -> Moves {
    let is_bound = |person: &&Person| wanted.get(*person).is_some_and(|one| one.is_bound);
    let (bound, spread): (Vec<&Person>, Vec<&Person>) = wanted.keys().partition(is_bound);
    let (ours_bound, ours_spread): (Vec<&Person>, Vec<&Person>) = ours.iter().partition(is_bound);
    let cloned = |persons: Vec<&Person>| persons.into_iter().cloned().collect::<Vec<Person>>();
    let mut all = moves(name, nodes, &cloned(spread), &cloned(ours_spread));
    let here = [name.to_owned()];
    let more = moves(name, &here, &cloned(bound), &cloned(ours_bound));
    all.take.extend(more.take);
    all.give.extend(more.give);
    all
}
