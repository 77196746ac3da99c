//! The relay's clients of a process that changes its user id, as LMTP does from mail to mail: one
//! for each.
//!
//! A connection has the user id of the moment when it was made, and so has a spill file. What a
//! process sends as one user it never hands over as another, nor leaves in another's file: such a
//! client waits until the process is that user again, or root, who may read everything anyway.
//! Events of one user are in order: a process has one user id for all of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Client, News, Options};
use crate::wire::WireRecord;

/// Clients without anything to do that are kept, connections and all: a process that serves many
/// users goes round among them.
const MAX_IDLE: usize = 4;

/// One client for each user id that this process has had.
pub struct UserClients {
    options: Options,
    user: fn() -> u32,
    clients: BTreeMap<u32, Client>,
    news: Vec<News>,
}

impl UserClients {
    /// Clients as [`Client::new`] makes them.
    pub fn new(options: Options) -> Self {
        Self::of_users(options, || rustix::process::geteuid().as_raw())
    }

    /// Clients of whom `user` says which one is in effect.
    pub fn of_users(options: Options, user: fn() -> u32) -> Self {
        Self {
            options,
            user,
            clients: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    fn current(&mut self) -> &mut Client {
        let (user, options) = ((self.user)(), &self.options);
        let client = self.clients.entry(user).or_insert_with(|| {
            let mut client = Client::new(options.clone());
            client.bind(user, self.user);
            client
        });
        client.used = Instant::now();
        client
    }

    /// Takes a record over, of the user that is in effect; see [`Client::push`].
    pub fn push(&mut self, record: &WireRecord<'_>) {
        self.current().push(record);
    }

    /// The transaction ends; see [`Client::flush`].
    pub fn flush(&mut self) {
        self.current().flush();
        self.forget_idle();
    }

    /// Does what there is to do, and says when to call again; `None`: not before the next record.
    pub fn serve(&mut self) -> Option<Duration> {
        self.clients.values_mut().filter_map(Client::serve).min()
    }

    /// The process ends: all that waits is handed over until `deadline`, or spilled.
    pub fn finish(&mut self, deadline: Instant) {
        for client in self.clients.values_mut() {
            client.finish(deadline);
        }
    }

    /// What has happened since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        let mut news = std::mem::take(&mut self.news);
        for client in self.clients.values_mut() {
            news.append(&mut client.take_news());
        }
        news
    }

    /// Forgets clients that have nothing to do, those that were used longest ago.
    fn forget_idle(&mut self) {
        let mut idle: Vec<(Instant, u32)> = self
            .clients
            .iter()
            .filter(|(_, client)| !client.is_needed())
            .map(|(user, client)| (client.used, *user))
            .collect();
        idle.sort_unstable();
        let many = idle.len().saturating_sub(MAX_IDLE);
        for (_, user) in idle.into_iter().take(many) {
            if let Some(mut client) = self.clients.remove(&user) {
                self.news.append(&mut client.take_news());
            }
        }
    }
}
