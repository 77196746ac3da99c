//! What rings one person of whom a datagram tells: the mails that a look into the mailbox finds, or
//! the mailbox alone. Nothing rings without a good lease.

use std::collections::BTreeSet;
use std::sync::Arc;

use dovecast_log::{LineLimit, now_ms};
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::plan::{Conditions, plan};
use dovecast_mail_push::{MailEvent, Person};
use dovecast_operations::push::Vault;
use dovecast_store::Store;

use super::super::keeping::{Reason, note};
use super::super::sink::Sink;
use super::super::sources::Sources;
use super::waiting::Job;
use crate::push::counters::Counters;
use crate::push::sender::News;

/// About a store that cannot be asked for a person who is rung.
static LINES: LineLimit = LineLimit::a_minute(1);

/// What rings one person.
pub(in crate::push::care) struct Ring {
    pub(in crate::push::care) store: Store,
    pub(in crate::push::care) vault: Vault,
    pub(in crate::push::care) news: News,
    pub(in crate::push::care) sources: Arc<Sources>,
    pub(in crate::push::care) sink: Arc<Sink>,
    pub(in crate::push::care) counters: Arc<Counters>,
}

/// Conditions of which nothing is known: there is no mail to ask.
struct NoMail;

impl Conditions for NoMail {
    fn pays(&mut self, _: u64) -> bool {
        true
    }

    fn holds(&mut self, _: &str) -> bool {
        false
    }
}

impl Ring {
    /// Whether there is something to look into a mailbox with.
    pub(super) fn can_look(&self, has_password: bool) -> bool {
        self.sources.idle.is_some() && (has_password || self.sources.master.is_some())
    }

    /// Looks into mailboxes of a person who is heard here, and tells the mailbox where that cannot
    /// be done.
    pub(super) async fn look_into(&self, job: &Job<'_>, password: Option<Arc<str>>) {
        let person = &job.person;
        if self.is_heard_here(person).await {
            let named = job.mailboxes.keys().cloned().collect();
            let mut untold = self.look(person, password, named).await;
            untold.retain(|name| job.is_told(name));
            self.tell_all(person, &untold).await;
        }
    }

    /// Tells a person who is heard here of mailboxes.
    pub(super) async fn tell_where_heard(&self, person: &Person, mailboxes: &BTreeSet<String>) {
        if self.is_heard_here(person).await {
            self.tell_all(person, mailboxes).await;
        }
    }

    /// Whether the person is heard here: whoever has taken the lease gets the datagram, too, as
    /// mail servers send it to all nodes.
    async fn is_heard_here(&self, person: &Person) -> bool {
        let is_heard = self.sink.is_heard_here(person).await;
        if !is_heard {
            tracing::debug!(%person, "a datagram rings nobody here: the lease is not this node's");
        }
        is_heard
    }

    async fn tell_all(&self, person: &Person, mailboxes: &BTreeSet<String>) {
        for mailbox in mailboxes {
            if let Err(error) = self.tell(person, mailbox).await
                && LINES.take()
            {
                let error = dovecast_mail_push::causes(&error);
                tracing::warn!(%person, error, "a datagram has rung nobody: the store cannot be asked");
            }
        }
    }

    /// Tells what is new in mailboxes; gives those that cannot be looked into, or of which not much
    /// was known before now.
    async fn look(
        &self,
        person: &Person,
        password: Option<Arc<str>>,
        mailboxes: BTreeSet<String>,
    ) -> BTreeSet<String> {
        let Some(idle) = &self.sources.idle else {
            return mailboxes;
        };
        let login = {
            let _turn = self.sink.turn().await;
            self.sources.login(&self.vault, person).await
        };
        let Ok(Some(login)) = login else {
            return mailboxes;
        };
        let known = self.sink.known(person).await;
        match idle.look(person, &login, known, &mailboxes).await {
            Ok(untold) => untold,
            Err(error) => {
                if error.is_refused_login() {
                    match password.filter(|_| self.sources.master.is_none()) {
                        // What cannot be stored is refused again with the next datagram.
                        Some(name) => {
                            self.sources.refused(&self.vault, person, &name).await;
                        }
                        None => note(
                            &self.counters,
                            person,
                            SourceKind::MailNotify,
                            Reason::Master,
                        ),
                    }
                } else {
                    let error = dovecast_mail_push::causes(&error);
                    tracing::debug!(%person, error, "a mailbox cannot be looked into: its devices are told the mailbox only");
                }
                mailboxes
            }
        }
    }

    /// Tells the person's devices that something has come, without saying what.
    async fn tell(&self, person: &Person, mailbox: &str) -> dovecast_store::Result<()> {
        let event = MailEvent::something_new(person.clone(), mailbox);
        let records = self
            .store
            .subscriptions_of(std::slice::from_ref(person))
            .await?;
        let subscriptions: Vec<_> = records.into_iter().map(|one| one.subscription).collect();
        let plan = plan(&event, &subscriptions, &mut NoMail, now_ms());
        self.store.write_pushes(&[(person.clone(), plan)]).await?;
        self.news.notify_one();
        Ok(())
    }
}
