//! One look into mailboxes of which somebody else has said that something has happened: what came
//! since they were known is told, and nothing is waited for. The server needs no NOTIFY for it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use super::others::{self, Looked};
use super::{ImapIdle, OPENED_AGAIN_WITHIN, Round, Snapshot};
use crate::Person;
use crate::imap::{Client, ImapError, Login};

impl ImapIdle {
    /// Looks once into the mailbox that is listened to, and into those that are named, and tells
    /// what has happened since they were known. What was not known is known from then on.
    ///
    /// Gives those of the named mailboxes of which it could not be told what came: nothing was
    /// known of them, they are not there, or the server did not get so far.
    pub async fn look(
        &self,
        person: &Person,
        login: &Login,
        mut known: Option<Snapshot>,
        named: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, ImapError> {
        let is_known = |name: &String| {
            let known = known.as_ref();
            known.is_some_and(|known| self.is_selected(name) || known.others.contains_key(name))
        };
        let untold = named.iter().filter(|name| !is_known(name)).cloned();
        let mut untold: BTreeSet<String> = untold.collect();
        let way = (&self.looking, OPENED_AGAIN_WITHIN);
        let opened = Box::pin(self.open(person, login, &mut known, way)).await;
        let count = match &opened {
            Ok(_) => &self.stats.opened,
            Err(ImapError::Refused(_)) => &self.stats.refused,
            Err(_) => &self.stats.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let (mut client, _) = opened?;
        let others = named.iter().filter(|name| !self.is_selected(name));
        let others: Vec<&String> = others.collect();
        if !others.is_empty() {
            let mut round = Round::new(known.take().unwrap_or_default());
            let looked = look_into(&mut client, &mut round, &others, &mut untold).await;
            let finished = self.finish(round, person, &mut known, looked).await;
            if let Err(error) = finished {
                let error = crate::causes(&error);
                tracing::debug!(%person, error, "mailboxes that are named cannot be looked into");
                untold.extend(others.into_iter().cloned());
            }
        }
        client.logout().await;
        Ok(untold)
    }

    fn is_selected(&self, mailbox: &str) -> bool {
        mailbox.eq_ignore_ascii_case(&self.options.mailbox)
    }
}

/// Looks into other mailboxes than the one that is selected.
async fn look_into(
    client: &mut Client,
    round: &mut Round,
    mailboxes: &[&String],
    untold: &mut BTreeSet<String>,
) -> Result<(), ImapError> {
    for name in mailboxes {
        match others::look_into_named(client, round, name).await? {
            Looked::SinceKnown => {}
            Looked::FromTheFirst => {
                untold.remove(*name);
            }
            Looked::NotKnown => {
                untold.insert((*name).clone());
            }
        }
    }
    Ok(())
}
