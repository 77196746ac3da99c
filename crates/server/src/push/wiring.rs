//! What mail push is made of, as the configuration says: who checks logins, what brings pushes to
//! devices, and the tasks from the log to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use dovecast_drivers::http::sockets::Sockets;
use dovecast_drivers::push::PushServices;
use dovecast_log::Log;
use dovecast_mail_push::placement::Care;
use dovecast_mail_push::{LogIn, TransportKind};
use dovecast_operations::push::{CredentialStorage, MailPush, MailPushParts, Transports, Vault};
use dovecast_store::{Passcrypt, Store};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::PushApi;
use super::care::{self, Listeners};
use super::caring::{Caring, ROUND_LIMIT};
use super::counters::{Count, Counters};
use super::engine::Engine;
use super::log_in::ImapLogIn;
use super::sender::Sender;
use super::streams::Streams;
use crate::config::{Absent, Config};
use crate::logs::Logs;
use crate::serve::Stopping;

/// Longest time for which the sender is waited for when the process stops: it may ask the store
/// still before it waits for services.
const SENDER_LIMIT: Duration = Duration::from_secs(8);
/// Longest time for which the store is waited for when it is told that this node hears nothing.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);

/// How long until a part that has panicked begins anew.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What checks logins and brings pushes to devices.
#[derive(Clone, Default)]
pub(crate) struct Ports {
    /// Checks logins of persons, if a mail server is configured for it.
    pub(crate) log_in: Option<Arc<dyn LogIn>>,
    /// What brings pushes to devices, by kind.
    pub(crate) transports: Transports,
    /// Public key of Web Push.
    pub(crate) vapid: Option<String>,
    /// Hears mailboxes that no event of the log tells of.
    pub(crate) care: Option<Arc<dyn Care>>,
    /// What passwords are sealed with; `None`: with a key that ends with the process.
    pub(crate) passcrypt: Option<Arc<Passcrypt>>,
}

impl Ports {
    /// What the configuration says. The key of Web Push is made if it is not there.
    pub(crate) fn configured(config: &Config, sockets: &Sockets) -> Result<Self> {
        let services = PushServices::configured(&config.push_options(sockets)?);
        let services = services.context("mail push cannot be used ([mail_push])")?;
        let transport = |kind| Some((kind, services.transport(kind)?));
        let passphrase = config.mail_push.credstorage.passphrase(Absent::Refused)?;
        Ok(Self {
            log_in: ImapLogIn::configured(&config.mail_push.auth)?,
            transports: TransportKind::ALL
                .into_iter()
                .filter_map(transport)
                .collect(),
            vapid: Some(services.vapid_public_key().to_owned()),
            care: None,
            passcrypt: passphrase.map(|text| Arc::new(Passcrypt::of(&text))),
        })
    }
}

/// Running tasks of mail push; they end when this is dropped.
pub(crate) struct Pushing {
    counters: Arc<Counters>,
    api: PushApi,
    streams: Streams,
    care: Arc<dyn Care>,
    store: Store,
    /// The sender, and what tells it to end.
    sending: (JoinSet<()>, Stopping),
    tasks: JoinSet<()>,
}

/// The acts of mail push.
pub(crate) fn acts(config: &Config, store: &Store, ports: &Ports) -> Result<MailPush> {
    let section = &config.mail_push;
    let storage = match (section.credstorage.enabled, section.credstorage.rdb) {
        (false, _) => CredentialStorage::None,
        (true, false) => CredentialStorage::Memory,
        (true, true) => CredentialStorage::Store,
    };
    let passcrypt = match &ports.passcrypt {
        Some(passcrypt) => Arc::clone(passcrypt),
        None => Arc::new(Passcrypt::random()?),
    };
    let needs = MailPushParts {
        log_in: ports.log_in.clone(),
        transports: ports.transports.clone(),
        vapid: ports.vapid.clone(),
        lowers_logins: section.auth.lower_case_logins,
        account: config.dispatch.event_account.clone(),
        rules: care::rules(config),
        pushes_per_minute: section.pushes_per_minute.get(),
        limits: section.limits(),
    };
    let vault = Vault::new(store.clone(), storage, passcrypt);
    Ok(MailPush::new(store.clone(), vault, needs))
}

impl Pushing {
    /// Mail push with the services that the configuration names, if there is a store.
    pub(crate) fn start_where_stored(
        config: &Config,
        logs: &Logs,
        store: Option<&Store>,
        sockets: &Sockets,
    ) -> Result<Option<Self>> {
        let Some(store) = store else {
            return Ok(None);
        };
        let ports = Ports::configured(config, sockets)?;
        Ok(Some(Self::start(config, logs, store, &ports)?))
    }

    /// Follows the events and sends pushes.
    pub(crate) fn start(
        config: &Config,
        logs: &Logs,
        store: &Store,
        ports: &Ports,
    ) -> Result<Self> {
        let acts = acts(config, store, ports)?;
        let vault = acts.vault().clone();
        let rules = acts.rules().clone();
        let counters = Arc::<Counters>::default();
        let streams = Streams::new(config.mail_push.stream_limits(), Arc::clone(&counters));
        let api = PushApi::new(acts.clone(), streams.clone(), config);
        let news = Arc::<Notify>::default();
        let per_minute = config.mail_push.pushes_per_minute.get();
        let sender = Sender {
            store: store.clone(),
            transports: Arc::new(ports.transports.clone()),
            counters: Arc::clone(&counters),
            news: Arc::clone(&news),
            per_minute: u32::try_from(per_minute).unwrap_or(u32::MAX),
            held: Arc::default(),
            stopping: Stopping::default(),
        };
        let mut sending = (JoinSet::new(), sender.stopping.clone());
        let account = config.dispatch.event_account.clone();
        let care: Arc<dyn Care> = match &ports.care {
            Some(care) => Arc::clone(care),
            None => Arc::new(Listeners::start(
                config,
                logs,
                (store, &vault),
                (&news, &counters),
            )?),
        };
        let engine = Engine::new(store.clone(), account, Arc::clone(&counters), news);
        let mut tasks = JoinSet::new();
        sending
            .0
            .spawn(kept_up("sender", Arc::clone(&counters), move || {
                let sender = sender.clone();
                async move { sender.run().await }
            }));
        let caring = Caring {
            store: store.clone(),
            care: Arc::clone(&care),
            rules,
            vault,
            counters: Arc::clone(&counters),
            round_limit: ROUND_LIMIT,
        };
        tasks.spawn(kept_up("listeners", Arc::clone(&counters), move || {
            let caring = caring.clone();
            async move { caring.run().await }
        }));
        let checked = streams.clone();
        tasks.spawn(kept_up("streams", Arc::clone(&counters), move || {
            let (streams, acts) = (checked.clone(), acts.clone());
            async move { streams.check_tokens(&acts).await }
        }));
        let group = format!("{}-push", config.dispatch.group);
        let topics = config.dispatch.event_topics.clone();
        let mut pushing = Self {
            counters,
            api,
            streams,
            care,
            store: store.clone(),
            sending,
            tasks,
        };
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &logs.kafka {
            pushing.follow(engine, kafka.clone(), group, topics);
            return Ok(pushing);
        }
        pushing.follow(engine, logs.own.clone(), group, topics);
        Ok(pushing)
    }

    /// Follows a log, for the streams and for the devices.
    fn follow<L: Log + Clone>(
        &mut self,
        engine: Engine,
        log: L,
        group: String,
        topics: Vec<String>,
    ) {
        let streaming = streaming(self.streams.clone(), &engine, log.clone(), &topics);
        self.tasks.spawn(streaming);
        self.tasks.spawn(following(engine, log, group, topics));
    }

    /// Ends streams and tasks, as the process stops. What listeners are writing they finish, and
    /// what services were asked is waited for; other nodes hear the mailboxes at once.
    pub(crate) async fn stop(mut self) {
        self.streams.stop();
        self.tasks.shutdown().await;
        let (mut sender, stopping) = self.sending;
        stopping.begin();
        let sent = async { while sender.join_next().await.is_some() {} };
        let sent = tokio::time::timeout(SENDER_LIMIT, sent);
        let left = async {
            self.care.stop().await;
            tokio::time::timeout(LEAVE_LIMIT, self.store.leave_push_node()).await
        };
        let (_, left) = tokio::join!(sent, left);
        // Else they wait until this node is dead.
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!("it could not be said that this node hears no mailbox any more");
        }
    }

    /// The requests of persons, and what answers them; none where mail push does not run.
    pub(crate) fn router_of(pushing: Option<&Self>) -> Router {
        let router = pushing.map(|pushing| super::router(pushing.api.clone()));
        router.unwrap_or_default()
    }

    /// What persons and the operator may do.
    pub(crate) fn acts(&self) -> MailPush {
        self.api.acts().clone()
    }

    /// What it counts.
    pub(crate) fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

async fn following<L: Log + Clone>(engine: Engine, log: L, group: String, topics: Vec<String>) {
    if topics.is_empty() {
        return;
    }
    let counters = Arc::clone(&engine.counters);
    let follow = move || {
        let (engine, log) = (engine.clone(), log.clone());
        let (group, topics) = (group.clone(), topics.clone());
        async move { engine.follow(&log, &group, &topics).await }
    };
    kept_up("engine", counters, follow).await;
}

/// Follows the log for the streams of this node.
fn streaming<L: Log + Clone>(
    streams: Streams,
    engine: &Engine,
    log: L,
    topics: &[String],
) -> impl Future<Output = ()> + Send + use<L> {
    let (account, counters) = (engine.account.clone(), Arc::clone(&engine.counters));
    let topics = topics.to_vec();
    let follow = move || {
        let (streams, log) = (streams.clone(), log.clone());
        let (topics, account) = (topics.clone(), account.clone());
        async move { streams.follow(&log, &topics, &account).await }
    };
    kept_up("streams", counters, follow)
}

/// Runs a part until it ends by itself; one that panics is begun anew.
async fn kept_up<F>(name: &'static str, counters: Arc<Counters>, begin: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let mut life = JoinSet::new();
        life.spawn(begin());
        match life.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                counters.add(Count::Panicked, 1);
                tracing::error!(
                    part = name,
                    "a part of mail push has panicked, and begins anew"
                );
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            _ => return,
        }
    }
}
