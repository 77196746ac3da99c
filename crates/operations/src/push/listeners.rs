//! Whether a person's mailbox is heard, and how: what the configuration and the store say, put to
//! the flow of decision.

use dovecast_mail_push::Person;
use dovecast_mail_push::listener::{
    AllowedClients, ListenerDecision, ListenerFacts, PasswordSource, SourceKind, SourceOffer,
    bound_to_session, decide,
};

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
            // What another node has in its memory, nobody else sees but by what it hears.
            let heard = self.store.heard_on().await?;
            has_credentials = heard.iter().any(|(of, _)| of == person);
        }
        Ok(self.rules().permanent(&clients, has_credentials))
    }
}
