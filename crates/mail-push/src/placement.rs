//! Where a listener that holds a resource is run: on which of the nodes that live, so that they are
//! spread evenly, and a node that dies or joins moves its own share and nobody else's.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::Person;
use crate::listener::SourceKind;
use crate::push::Sending;

/// A listener that this node has leased. The fence grows with each lease of the person: who acts
/// with an older one acts for nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose mailbox is heard.
    pub person: Person,
    /// Number of the lease.
    pub fence: i64,
}

/// What a listener is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// How the mailbox is heard.
    pub source: SourceKind,
    /// Whether the listener needs no session.
    pub is_permanent: bool,
    /// Which credentials the person has now; others have another name.
    pub credentials: Option<Arc<str>>,
    /// Whether METADATA that was set for the person is to be taken away.
    pub is_leaving: bool,
}

/// What runs listeners on this node.
pub trait Care: Send + Sync + 'static {
    /// Begins to hear a mailbox. Before it changes anything outside it asks whether the lease is
    /// still good.
    fn begin(&self, lease: Lease, wish: Wish) -> Sending<'_, ()>;

    /// Ends it; returns when nothing is heard any more.
    fn end<'a>(&'a self, person: &'a Person, ending: Ending) -> Sending<'a, ()>;

    /// Ends all, as the process stops: what is being written is finished.
    fn stop(&self) -> Sending<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// How listeners fare of whom that is not noted yet, at most so many.
    fn unnoted(&self, _most: usize) -> Vec<(Lease, Fares)> {
        Vec::new()
    }

    /// These are noted.
    fn noted(&self, _: &[(Lease, Fares)]) {}
}

/// Why a listener ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Whoever hears the mailbox next goes on from what is known of it: what is being written is
    /// finished.
    Handed,
    /// Another source tells what happens in the mailbox from now on: what is known of the mailbox
    /// is forgotten.
    Over,
    /// The lease is lost: it ends at once.
    Lost,
}

/// How the listener of a person fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fares {
    /// By which source the mailbox is heard.
    pub source: SourceKind,
    /// What keeps the mailbox from being heard, and since when, in milliseconds since 1970.
    pub trouble: Option<(String, i64)>,
}

/// What is to change on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Persons whose listeners are to be leased here.
    pub take: Vec<Person>,
    /// Persons whose listeners belong elsewhere, or nowhere, and end here.
    pub give: Vec<Person>,
}

/// The node on which a person's listener belongs: the one with the greatest weight (rendezvous
/// hashing). `None`: no node lives.
pub fn node_of<'n>(person: &Person, nodes: &'n [String]) -> Option<&'n str> {
    let weighted = nodes.iter().map(|node| (weight(node, person), node));
    weighted.max().map(|(_, node)| node.as_str())
}

/// What is to change on a node that holds some leases, of all persons who have a listener.
pub fn moves(node: &str, nodes: &[String], wanted: &[Person], held: &[Person]) -> Moves {
    let is_here = |person: &Person| node_of(person, nodes) == Some(node);
    let wanted: HashMap<&Person, bool> = wanted
        .iter()
        .map(|person| (person, is_here(person)))
        .collect();
    let held_here: HashSet<&Person> = held.iter().collect();
    let mut moves = Moves {
        take: wanted
            .iter()
            .filter(|(person, is_here)| **is_here && !held_here.contains(*person))
            .map(|(person, _)| (*person).clone())
            .collect(),
        give: held
            .iter()
            .filter(|person| wanted.get(person).copied() != Some(true))
            .cloned()
            .collect(),
    };
    let order = |one: &Person, other: &Person| {
        (&one.context, &one.user).cmp(&(&other.context, &other.user))
    };
    moves.take.sort_by(order);
    moves.give.sort_by(order);
    moves
}

fn weight(node: &str, person: &Person) -> [u8; 8] {
    let mut hash = Sha256::new();
    for part in [node, &person.context, &person.user] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut weight = [0; 8];
    weight.copy_from_slice(&hash.finalize()[..8]);
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn persons(count: u32) -> Vec<Person> {
        let person = |number: u32| {
            let user = number.to_string();
            Person::new("1", &user, &format!("{user}@1")).expect("a person")
        };
        (0..count).map(person).collect()
    }

    fn nodes(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn listeners_are_spread_evenly_and_a_death_moves_the_share_of_the_dead_only() {
        let persons = persons(30_000);
        let three = nodes(&["a", "b", "c"]);
        let two = nodes(&["a", "c"]);
        let mut shares = HashMap::<&str, u32>::new();
        for person in &persons {
            let before = node_of(person, &three).expect("a node");
            let after = node_of(person, &two).expect("a node");
            assert!(before == "b" || before == after, "{person}");
            *shares.entry(before).or_default() += 1;
        }
        for (node, share) in shares {
            assert!((9_500..10_500).contains(&share), "{node} has {share}");
        }
    }

    #[test]
    fn a_node_takes_what_is_its_own_and_gives_what_is_not() {
        let all = persons(100);
        let (one, two) = (nodes(&["a"]), nodes(&["a", "b"]));
        let first = moves("a", &one, &all, &[]);
        assert_eq!((first.take.len(), first.give.len()), (100, 0));
        let second = moves("a", &two, &all, &first.take);
        let others = moves("b", &two, &all, &[]);
        assert!(second.take.is_empty() && !second.give.is_empty());
        assert_eq!(second.give, others.take);
        // Who has no subscription any more is heard by nobody.
        assert_eq!(moves("a", &one, &[], &all).give.len(), 100);
        assert_eq!(moves("a", &[], &all, &all).give.len(), 100);
    }
}
