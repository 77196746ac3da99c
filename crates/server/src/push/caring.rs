//! Listeners of this node: which mailboxes it has to hear, by leases of the store.
//!
//! Each few seconds the node says that it lives, sees which others do, gives up what belongs to
//! them, and takes what belongs to itself. A node that could not say so in time has no lease any
//! more: it ends everything, and begins again when the store is there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dovecast_log::LineLimit;
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::AllowedClients;
use dovecast_mail_push::placement::{Care, moves};
use dovecast_store::{NODE_LIFE_MS, Store};

/// How often a node says that it lives: three times within the life of a node.
const BEAT_INTERVAL: Duration = Duration::from_secs(3);

static LINES: LineLimit = LineLimit::a_minute(1);

/// What decides which mailboxes are heard, and hears them.
#[derive(Clone)]
pub(super) struct Caring {
    pub(super) store: Store,
    pub(super) care: Arc<dyn Care>,
    pub(super) clients: AllowedClients,
    /// Whether mailboxes are heard without a session (`allow_permanent_push`).
    pub(super) is_permanent: bool,
}

impl Caring {
    /// Cares for ever.
    pub(super) async fn run(&self) {
        let mut held = HashMap::new();
        let mut lived = Instant::now();
        loop {
            match self.round(&mut held).await {
                Ok(()) => lived = Instant::now(),
                Err(error) => {
                    if LINES.take() {
                        let error = format!("{:#}", anyhow::Error::from(error));
                        tracing::warn!(
                            error,
                            "it cannot be asked which mailboxes are to be heard; this is retried"
                        );
                    }
                    let life = u64::try_from(NODE_LIFE_MS).unwrap_or_default();
                    if lived.elapsed() >= Duration::from_millis(life) {
                        self.end_all(&mut held).await;
                    }
                }
            }
            tokio::time::sleep(BEAT_INTERVAL).await;
        }
    }

    /// One round: what is no longer ours ends before it is given back, so no two nodes hear one.
    async fn round(&self, held: &mut HashMap<Person, i64>) -> dovecast_store::Result<()> {
        let nodes = self.store.beat_push_node().await?;
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
        self.end(&lost, held).await;
        let wanted = self.wanted().await?;
        let ours: Vec<Person> = leased.into_iter().collect();
        let change = moves(&name, &nodes, &wanted, &ours);
        self.end(&change.give, held).await;
        self.store.give_leases(&change.give).await?;
        for lease in self.store.take_leases(&change.take).await? {
            held.insert(lease.person.clone(), lease.fence);
            self.care.begin(lease).await;
        }
        Ok(())
    }

    /// Persons with a session, and those of whom an allowed client has a subscription.
    async fn wanted(&self) -> dovecast_store::Result<Vec<Person>> {
        let mut persons: HashSet<Person> = self
            .store
            .persons_with_sessions()
            .await?
            .into_iter()
            .collect();
        if self.is_permanent {
            let clients = self.store.push_clients().await?;
            let allowed = clients
                .into_iter()
                .filter(|one| self.clients.allowing(&one.client).is_some());
            persons.extend(allowed.map(|one| one.person));
        }
        Ok(persons.into_iter().collect())
    }

    async fn end(&self, persons: &[Person], held: &mut HashMap<Person, i64>) {
        for person in persons {
            if held.remove(person).is_some() {
                self.care.end(person).await;
            }
        }
    }

    async fn end_all(&self, held: &mut HashMap<Person, i64>) {
        let persons: Vec<Person> = held.keys().cloned().collect();
        self.end(&persons, held).await;
    }
}
