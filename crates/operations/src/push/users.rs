//! Acts of the operator on listeners: whose mailboxes are heard and by which node, which clients
//! are registered, and why a person has a permanent listener or none.

use std::collections::{BTreeMap, HashMap, HashSet};

use dovecast_mail_push::Person;
use dovecast_mail_push::listener::{ListenerDecision, SourceKind};
use dovecast_store::{HeardOn, PushClient};

use super::MailPush;
use crate::caller::Operator;
use crate::{Refusal, Result};

/// A person whose mailbox is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushUser {
    /// Who.
    pub person: Person,
    /// Whether the listener lives without a session.
    pub is_permanent: bool,
    /// By which source.
    pub source: SourceKind,
    /// The node that has the lease, if one has.
    pub node: Option<String>,
    /// What keeps the mailbox from being heard, and since when, in milliseconds since 1970.
    pub trouble: Option<(String, i64)>,
}

/// Context and user of a person, in the order in which people expect numbers.
type SortKey = (NumberFirst, NumberFirst);

/// A text that is sorted as a number where it is one, before all others.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NumberFirst {
    is_text: bool,
    digits: usize,
    number: String,
    text: String,
}

impl NumberFirst {
    fn of(text: &str) -> Self {
        let is_text = text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if is_text {
            ""
        } else {
            text.trim_start_matches('0')
        };
        Self {
            is_text,
            digits: number.len(),
            number: number.to_owned(),
            text: text.to_owned(),
        }
    }
}

impl MailPush {
    /// Persons whose mailboxes are heard, on any node.
    pub async fn push_users(&self, _: &Operator) -> Result<Vec<PushUser>> {
        let heard = self.store.heard_on().await?.into_iter();
        let heard: HashMap<Person, HeardOn> = heard.map(|one| (one.person.clone(), one)).collect();
        let known = self.vault.known().await?;
        let mut clients: HashMap<Person, Vec<String>> = HashMap::new();
        for one in self.store.push_clients().await? {
            if one.has_new_mail {
                clients.entry(one.person).or_default().push(one.client);
            }
        }
        let sessions = self.store.persons_with_sessions().await?;
        let sessions: HashSet<Person> = sessions.into_iter().collect();
        let mut users = BTreeMap::new();
        for person in sessions.iter().chain(clients.keys()) {
            let subscribed = clients.get(person).map_or(&[][..], Vec::as_slice);
            let on = heard.get(person);
            let has_credentials = known.contains_key(person) || self.logs_in_elsewhere(on);
            let decision = self.rules().permanent(subscribed, has_credentials);
            let (is_permanent, source) = match decision.outcome {
                Ok(kind) => (true, kind),
                Err(_) => match self.rules().of_session(has_credentials) {
                    Some(kind) if sessions.contains(person) => (false, kind),
                    _ => continue,
                },
            };
            let fares = on.and_then(|on| on.fares.as_ref());
            let user = PushUser {
                is_permanent,
                source: fares.map_or(source, |fares| fares.source),
                node: on.map(|on| on.node.clone()),
                trouble: fares.and_then(|fares| fares.trouble.clone()),
                person: person.clone(),
            };
            users.insert(place(person), user);
        }
        Ok(users.into_values().collect())
    }

    /// How and where the mailbox of a person is heard; `None`: it is not.
    pub async fn push_user(
        &self,
        operator: &Operator,
        (context, user): (&str, &str),
    ) -> Result<Option<PushUser>> {
        let person = named(context, user)?;
        let users = self.push_users(operator).await?;
        Ok(users.into_iter().find(|one| one.person == person))
    }

    /// Clients that are registered for mail push, also such that may have no listener.
    pub async fn push_clients(&self, _: &Operator) -> Result<Vec<PushClient>> {
        let mut clients = self.store.push_clients().await?;
        clients.sort_by_cached_key(|one| (place(&one.person), one.client.clone()));
        Ok(clients)
    }

    /// Deletes the subscriptions of a client of a person, whichever clients are allowed; how many
    /// there were.
    pub async fn unregister(
        &self,
        Operator(by): &Operator,
        (context, user): (&str, &str),
        client: &str,
    ) -> Result<u64> {
        let person = named(context, user)?;
        let deleted = self.store.delete_client(context, user, client).await?;
        if deleted > 0 {
            tracing::info!(%person, client, deleted, %by, "a client was unregistered from mail push");
            self.forget_unneeded(&person).await?;
        }
        Ok(deleted)
    }

    /// Why a person has a permanent listener, or none.
    pub async fn explain_listener(
        &self,
        _: &Operator,
        (context, user): (&str, &str),
    ) -> Result<ListenerDecision> {
        let person = named(context, user)?;
        self.listener_decision(&person).await
    }
}

fn place(person: &Person) -> SortKey {
    (
        NumberFirst::of(&person.context),
        NumberFirst::of(&person.user),
    )
}

/// The person that a command names.
pub(super) fn named(context: &str, user: &str) -> Result<Person> {
    Person::of_ids(context, user).map_err(|error| Refusal::unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_as_numbers_and_stand_before_names() {
        let mut names = ["11", "joe", "9", "2", "0010", "a2", "10@x"].map(NumberFirst::of);
        names.sort();
        let sorted = names.map(|one| one.text);
        assert_eq!(sorted, ["2", "9", "0010", "11", "10@x", "a2", "joe"]);
    }
}
