//! Whether a person's mailbox is heard, and how: what the configuration and the store say, put to
//! the flow of decision.

use dovecast_mail_push::Person;
use dovecast_mail_push::listener::{
    AllowedClients, ListenerDecision, ListenerFacts, PasswordSource, SourceKind, SourceOffer,
    bound_to_session, decide,
};
use dovecast_store::HeardOn;

use super::MailPush;
use crate::Result;

/// What the configuration says of listeners.
#[derive(Clone, Debug)]
pub struct ListenerRules {
    /// Whether there are permanent listeners (`allow_permanent_push`).
    pub is_allowed: bool,
    /// `allowed_clients`
    pub clients: AllowedClients,
    /// Sources in their order.
    pub sources: Vec<SourceOffer>,
    /// `password_source`
    pub passwords: PasswordSource,
    /// Whether passwords outlive sessions (`[mail_push.credstorage] enabled`).
    pub keeps_credentials: bool,
}

impl ListenerRules {
    /// Whether a person with subscriptions for new mail of these clients has a permanent listener.
    pub fn permanent(&self, subscribed: &[String], has_credentials: bool) -> ListenerDecision {
        decide(&ListenerFacts {
            is_allowed: self.is_allowed,
            clients: &self.clients,
            subscribed,
            sources: &self.sources,
            passwords: self.passwords,
            keeps_credentials: self.keeps_credentials,
            has_credentials,
        })
    }

    /// The source of a listener that is bound to a session.
    pub fn of_session(&self, has_credentials: bool) -> Option<SourceKind> {
        bound_to_session(&self.sources, self.passwords, has_credentials)
    }
}

impl MailPush {
    /// What the configuration says of listeners.
    pub fn rules(&self) -> &ListenerRules {
        &self.parts.rules
    }

    /// Whether a mailbox is opened with a password: what another node has in its memory, nobody
    /// else sees but by the source that hears it there.
    pub(super) fn logs_in_elsewhere(&self, on: Option<&HeardOn>) -> bool {
        let Some(on) = on.filter(|_| self.vault.is_of_each_node()) else {
            return false;
        };
        // One that has just begun has not said by what.
        let is_of = |kind| on.fares.as_ref().is_none_or(|fares| fares.source == kind);
        let mut offers = self.rules().sources.iter();
        offers.any(|offer| offer.needs_credentials && is_of(offer.kind))
    }

    /// Decides whether a person has a permanent listener, and says each step: what
    /// `pushusers --explain` prints.
    pub async fn listener_decision(&self, person: &Person) -> Result<ListenerDecision> {
        let mut clients: Vec<String> = Vec::new();
        for record in self.store.subscriptions(person).await? {
            let subscription = record.subscription;
            let has_new_mail = subscription.wishes.topics.have_new_mail();
            if has_new_mail && !clients.contains(&subscription.client) {
                clients.push(subscription.client);
            }
        }
        clients.sort_unstable();
        let mut has_credentials = self.vault.has(person).await?;
        if !has_credentials && self.vault.is_of_each_node() {
            let heard = self.store.heard_on().await?;
            let on = heard.iter().find(|on| on.person == *person);
            has_credentials = self.logs_in_elsewhere(on);
        }
        Ok(self.rules().permanent(&clients, has_credentials))
    }
}
