//! The relay's clients of a process that changes its user id, as LMTP does from mail to mail: one
//! for each.
//!
//! A connection has the user id of the moment when it was made, and so has a spill file. What a
//! process sends as one user it never hands over as another, nor leaves in another's file: such a
//! client waits until the process is that user again. Root, which it is between them, makes files
//! for each, and connects for none. Events of one user are in order: a process has one user id for
//! all of them.
//!
//! All clients together hold so much memory and so many descriptors, whatever number of users there
//! is: a process without descriptors delivers no mail.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Client, News, Options};
use crate::wire::WireRecord;

/// Clients without anything to do that are kept, connections and all: a process that serves many
/// users goes round among them.
const MAX_IDLE: usize = 4;

/// Most connections and spill files that all clients have open, beside those of the one in use;
/// more are closed, those that were used longest ago. Few of the 1024 that a process has as a rule.
const MAX_DESCRIPTORS: usize = 16;

/// One client for each user id that this process has had.
pub struct UserClients {
    options: Options,
    user: fn() -> u32,
    clients: BTreeMap<u32, Client>,
    /// What waits in memory, of all clients.
    bytes: usize,
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
            bytes: 0,
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
        self.use_current(|client| client.push(record));
    }

    /// The transaction ends; see [`Client::flush`].
    pub fn flush(&mut self) {
        self.use_current(Client::flush);
        self.forget_idle();
        self.let_go();
    }

    /// Has the current client do something within what others leave of the memory.
    fn use_current(&mut self, act: impl FnOnce(&mut Client)) {
        let all = self.bytes;
        let client = self.current();
        let before = client.queue.bytes();
        client.others_bytes = all.saturating_sub(before);
        act(client);
        self.bytes = client.others_bytes + client.queue.bytes();
    }

    fn count_bytes(&mut self) {
        let clients = self.clients.values();
        self.bytes = clients.map(|client| client.queue.bytes()).sum();
    }

    /// What waits in memory of all users, in bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.bytes
    }

    /// Does what there is to do, and says when to call again; `None`: not before the next record.
    pub fn serve(&mut self) -> Option<Duration> {
        let mut next = None;
        let mut open = 0;
        for client in self.clients.values_mut() {
            let when = client.serve();
            next = when.into_iter().chain(next).min();
            // Not behind the loop: each may have opened a spill file.
            if open + client.descriptors() > MAX_DESCRIPTORS && !client.is_itself() {
                client.let_go();
            }
            open += client.descriptors();
        }
        self.count_bytes();
        next
    }

    /// The process ends: all that waits is handed over until `deadline`, or spilled.
    pub fn finish(&mut self, deadline: Instant) {
        for client in self.clients.values_mut() {
            client.finish(deadline);
        }
        self.count_bytes();
    }

    /// What has happened since the last call.
    pub fn take_news(&mut self) -> Vec<News> {
        let mut news = std::mem::take(&mut self.news);
        for client in self.clients.values_mut() {
            news.append(&mut client.take_news());
        }
        news
    }

    /// Closes descriptors that are too many.
    fn let_go(&mut self) {
        let mut open: Vec<(Instant, u32, usize)> = self
            .clients
            .iter()
            .map(|(user, client)| (client.used, *user, client.descriptors()))
            .filter(|(_, _, descriptors)| *descriptors > 0)
            .collect();
        let mut count: usize = open.iter().map(|(_, _, descriptors)| descriptors).sum();
        if count <= MAX_DESCRIPTORS {
            return;
        }
        open.sort_unstable();
        // The last one is in use.
        open.pop();
        for (_, user, descriptors) in open {
            if count <= MAX_DESCRIPTORS {
                return;
            }
            if let Some(client) = self.clients.get_mut(&user) {
                client.let_go();
                count -= descriptors - client.descriptors();
            }
        }
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
