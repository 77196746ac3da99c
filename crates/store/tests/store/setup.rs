//! What every case begins with: a database of its own, and some things in it.

use std::pin::Pin;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use dovecast_dispatch::ledger::{Happened, Owed, RangeId};
use dovecast_notification::{EndpointId, Notification, NotificationId};
use dovecast_store::{
    Account, Application, Clock, CreatedEndpoint, DatabasePlace, FilterFields, FilterSets,
    FlowEdit, KeySource, NewEndpoint, NewEventType, NewLevel, Receiver, Registration, RetryPolicy,
    Store, StoreOptions,
};
use dovecast_testkit::postgres::Postgres;
use tempfile::TempDir;
use uuid::Uuid;

use crate::cuts::until;

pub(crate) type Outcome = Pin<Box<dyn Future<Output = Result<()>>>>;
pub(crate) type Case = (&'static str, fn(Test) -> Outcome);

/// Cases by the names of their functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::setup::Case] = &[
            $((stringify!($name), |test| Box::pin($name(test)))),*
        ];
    };
}
pub(crate) use cases;

#[derive(Clone)]
pub(crate) enum Kind {
    Sqlite,
    Postgres(Arc<Postgres>),
}

/// A database that nobody else uses.
pub(crate) struct Test {
    pub(crate) kind: Kind,
    pub(crate) url: String,
    pub(crate) dir: TempDir,
    /// Clock of the store: it stands at 0, and 0 is now in what these tests write.
    pub(crate) clock: Clock,
}

impl Test {
    pub(crate) fn new(kind: Kind) -> Result<Self> {
        let dir = TempDir::new()?;
        let url = match &kind {
            Kind::Sqlite => format!("sqlite:{}/state.db", dir.path().display()),
            Kind::Postgres(postgres) => postgres.database()?,
        };
        Ok(Self {
            kind,
            url,
            dir,
            clock: Clock::standing(0),
        })
    }

    pub(crate) fn options(&self) -> Result<StoreOptions> {
        let place: DatabasePlace = self.url.parse()?;
        let mut options = StoreOptions::new(place);
        options.max_connections = 4;
        // What is written anew is waited for as long as a busy machine takes.
        options.connect_timeout = dovecast_testkit::PATIENCE;
        options.beat_timeout = dovecast_testkit::PATIENCE;
        options.keys = self.keys();
        options.clock = self.clock.clone();
        Ok(options)
    }

    /// A file that all stores of the test share, as nodes do.
    pub(crate) fn keys(&self) -> KeySource {
        KeySource::File(self.dir.path().join("secrets.key"))
    }

    pub(crate) async fn open(&self) -> Result<Store> {
        Ok(Store::open(&self.options()?).await?)
    }

    /// A store with an account and an application.
    pub(crate) async fn filled(&self) -> Result<(Store, Account, Application)> {
        let store = self.open().await?;
        let account = store.account_seen("6089719").await?;
        let registered = store
            .register(&mail(&[("new", &["low", "high"]), ("gone", &[])]), false)
            .await?;
        Ok((store, account, registered.application))
    }

    /// Writes past the store.
    pub(crate) fn execute(&self, statement: &str) -> Result<()> {
        match &self.kind {
            Kind::Sqlite => {
                let path = self.dir.path().join("state.db");
                rusqlite::Connection::open(path)?.execute_batch(statement)?;
            }
            Kind::Postgres(postgres) => {
                postgres.query(&self.url, statement)?;
            }
        }
        Ok(())
    }

    /// How many rows there are of a table, or of some of it.
    pub(crate) fn count(&self, rows: &str) -> Result<i64> {
        let count = format!("SELECT COUNT(*) FROM {rows}");
        match &self.kind {
            Kind::Sqlite => {
                let path = self.dir.path().join("state.db");
                let connection = rusqlite::Connection::open(path)?;
                Ok(connection.query_row(&count, [], |row| row.get(0))?)
            }
            Kind::Postgres(postgres) => Ok(postgres.query(&self.url, &count)?.trim().parse()?),
        }
    }

    /// All text there is in a table.
    pub(crate) fn dump(&self, table: &str) -> Result<String> {
        match &self.kind {
            Kind::Sqlite => {
                let path = self.dir.path().join("state.db");
                let connection = rusqlite::Connection::open(path)?;
                let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
                let columns = statement.column_count();
                let mut rows = statement.query([])?;
                let mut text = String::new();
                while let Some(row) = rows.next()? {
                    for column in 0..columns {
                        text.push_str(row.get_ref(column)?.as_str().unwrap_or_default());
                        text.push('|');
                    }
                    text.push('\n');
                }
                Ok(text)
            }
            Kind::Postgres(postgres) => {
                postgres.query(&self.url, &format!("SELECT * FROM {table}"))
            }
        }
    }
}

/// A registration of the application `mail`.
pub(crate) fn mail(event_types: &[(&str, &[&str])]) -> Registration {
    Registration {
        name: "mail".to_owned(),
        title: "Mail".to_owned(),
        event_types: event_types
            .iter()
            .map(|(name, levels)| NewEventType {
                external_id: (*name).to_owned(),
                title: format!("Type {name}"),
                levels: levels
                    .iter()
                    .map(|level| NewLevel {
                        external_id: (*level).to_owned(),
                        title: format!("Level {level}"),
                    })
                    .collect(),
            })
            .collect(),
    }
}

pub(crate) fn endpoint(name: &str) -> NewEndpoint {
    NewEndpoint {
        name: name.to_owned(),
        receiver: Receiver::Webhook(format!("https://example.org/{name}")),
        active: true,
        server_ca_certificate: None,
        headers: None,
        credentials: None,
        retry_policy: RetryPolicy::Default,
        timeout_seconds: None,
        body: None,
        flow: FlowEdit::default(),
        filter: None,
    }
}

pub(crate) async fn create(
    store: &Store,
    account: &Account,
    name: &str,
    sets: Option<FilterSets>,
) -> Result<CreatedEndpoint> {
    let mut new = endpoint(name);
    new.filter = sets.map(|sets| FilterFields {
        sets: Some(sets),
        ..FilterFields::default()
    });
    Ok(store.create_endpoint(account.id, &new, u64::MAX).await?)
}

/// One kind of thing that has happened, of each.
pub(crate) fn each<T>(
    what: impl Fn(T) -> Happened,
    all: impl IntoIterator<Item = T>,
) -> Vec<Happened> {
    all.into_iter().map(what).collect()
}

/// Ranges that have grown, each up to there.
pub(crate) fn grown(all: impl IntoIterator<Item = (RangeId, u64)>) -> Vec<Happened> {
    each(|(id, to)| Happened::Grown(id, to), all)
}

/// Sessions of a database of PostgreSQL that sleep, as tests have them do.
pub(crate) const SLEEPING: &str =
    "pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";

/// A transaction of PostgreSQL that stays open until it is ended.
pub(crate) struct OpenTransaction(thread::JoinHandle<()>);

impl OpenTransaction {
    /// Begins one with these statements, of which the first is `BEGIN`.
    pub(crate) async fn begin(test: &Test, statements: &'static str) -> Result<Self> {
        let Kind::Postgres(postgres) = &test.kind else {
            bail!("a file has no sessions");
        };
        let (postgres, url) = (Arc::clone(postgres), test.url.clone());
        let transaction = thread::spawn(move || {
            // An error, when it is ended.
            drop(postgres.query(&url, &format!("{statements}; SELECT pg_sleep(3600)")));
        });
        until(|| Ok((test.count(SLEEPING)? == 1).then_some(()))).await?;
        Ok(Self(transaction))
    }

    pub(crate) fn end(self, test: &Test) -> Result<()> {
        test.execute(&format!("SELECT pg_terminate_backend(pid) FROM {SLEEPING}"))?;
        ensure!(self.0.join().is_ok(), "the transaction has panicked");
        Ok(())
    }
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(dovecast_testkit::PATIENCE, what)
        .await
        .context("not in time")
}

/// The notification of this number.
pub(crate) fn notification(number: u128) -> Notification {
    Notification {
        id: NotificationId(Uuid::from_u128(number)),
        application: "a".into(),
        event_type: "e".into(),
        level: None,
        account: "1".into(),
        timestamp: Bytes::from_static(b"1"),
        message: Bytes::from(number.to_string()),
        key: None,
        headers: Vec::new(),
    }
}

/// A delivery of the first notification to an endpoint that has failed once.
pub(crate) fn owed(endpoint: EndpointId, due_ms: i64) -> Owed {
    Owed {
        note: String::new(),
        endpoint,
        notification: NotificationId(Uuid::from_u128(1)),
        content: Bytes::from_static(b"{}"),
        failures: 1,
        due_ms,
        reason: String::new(),
        place: None,
    }
}
