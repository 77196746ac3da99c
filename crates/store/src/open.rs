//! Opening a store: the file or the server, its connections, and what every connection is told
//! first.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions, Connection as _};
use url::Url;
use uuid::Uuid;

use crate::clock::Clock;
use crate::connection::{Line, Pool, PoolOptions, Transaction, is_unavailable};
use crate::deliveries::{Failing, Held, Page, Shown, Sweep, TrimCounts, Unsure};
use crate::error::{Result, StoreError};
use crate::feed::ChangeFeed;
use crate::place::{BadDatabasePlace, DatabasePlace};
use crate::push::{Both, node_name};
use crate::registry::TokenOwners;
use crate::secrets::{self, KeySource, Keys};
use crate::{clean, listen, schema, waiting};

/// Nobody but the server reads it: secrets are in it.
const FILE_MODE: u32 = 0o600;
/// Durable when it is acknowledged; readers do not wait for writers; writers wait for each other;
/// what is deleted is overwritten.
const SQLITE_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
    PRAGMA busy_timeout = 10000; PRAGMA secure_delete = ON;";
/// A transaction of a node that is gone holds its locks no longer than this.
const IDLE_IN_TRANSACTION_MS: u128 = 5_000;
/// For how long the connections of a node that is gone are kept, in which nothing is under way.
const KEEPALIVE: &str = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; \
    SET tcp_user_timeout = 60000;";

/// Name of the file of keys that is made beside the file of SQLite.
const KEY_FILE: &str = "secrets.key";

/// A write to a row of our own, that nobody else waits for. SQLite would write no row that is the
/// same as before.
const PROBE: &str = "INSERT INTO probe (id, number) VALUES ($1, 1) \
    ON CONFLICT (id) DO UPDATE SET number = probe.number + 1";

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where it is.
    pub place: DatabasePlace,
    /// Connections at a time.
    pub max_connections: u32,
    /// How long to wait for one.
    pub connect_timeout: Duration,
    /// How long a PostgreSQL may take to answer one statement.
    pub statement_timeout: Duration,
    /// How long it may take to say that this process lives: short enough to say it again on another
    /// connection before it is taken for dead.
    pub beat_timeout: Duration,
    /// How many changes the feed remembers; who is further behind loads everything again.
    pub kept_changes: i64,
    /// Names the log that this node reads, if not all who use the store read the same. What is owed
    /// of a log only those who read it take up.
    pub log: String,
    /// What tells the time.
    pub clock: Clock,
    /// Where the keys are that secrets are sealed with.
    pub keys: KeySource,
}

impl StoreOptions {
    /// The usual ones. The keys are in `secrets.key` beside a file of SQLite; where those of a
    /// PostgreSQL are has to be said.
    pub fn new(place: DatabasePlace) -> Self {
        Self {
            keys: match &place {
                DatabasePlace::Sqlite(path) => KeySource::File(path.with_file_name(KEY_FILE)),
                DatabasePlace::Postgres(_) => KeySource::Nowhere,
            },
            place,
            max_connections: 8,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(10),
            beat_timeout: Duration::from_secs(3),
            kept_changes: 100_000,
            log: String::new(),
            clock: Clock::default(),
        }
    }
}

impl StoreOptions {
    /// Refuses a place of the database that no connection can be made of, such as a PostgreSQL with
    /// an unknown `sslmode`. Connects to nothing.
    pub fn check(&self) -> Result<()> {
        if let DatabasePlace::Postgres(url) = &self.place {
            let parsed: Result<sqlx::postgres::PgConnectOptions, _> = url.expose().parse();
            parsed.map_err(|source| StoreError::Connect {
                place: self.place.to_string(),
                source,
            })?;
        }
        Ok(())
    }
}

/// What dovecast knows besides its log. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) feed: Arc<ChangeFeed>,
    /// Names what this process claims, until it says that it lives no more; then another name does.
    pub(crate) node: Arc<Mutex<Uuid>>,
    /// Names this process among those that run listeners, as long as it has the store open.
    pub(crate) push_node: Arc<str>,
    /// See [`StoreOptions::log`].
    pub(crate) log: Arc<str>,
    pub(crate) unsure: Arc<Mutex<Unsure>>,
    /// Held while what may be claimed without our knowing is freed.
    pub(crate) releasing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) token_owners: Arc<TokenOwners>,
    pub(crate) clock: Clock,
    /// What the clock of a PostgreSQL has shown last.
    pub(crate) database_time: Arc<Mutex<Option<Shown>>>,
    /// What the clocks have shown when pushes were asked for last; held while what waits is moved.
    pub(crate) push_clock: Arc<tokio::sync::Mutex<Option<Both>>>,
    /// The page of endpoints that was last looked at for what is due.
    pub(crate) page: Arc<Mutex<Page>>,
    /// When it was last logged that a clock was set back, by the steady clock, and how many
    /// deliveries were made due since.
    pub(crate) set_back_told: Arc<Mutex<(Option<i64>, u64)>>,
    pub(crate) held: Arc<Mutex<Held>>,
    /// Held from reading what we hold of ranges until what was written of them is committed.
    pub(crate) writing_ranges: Arc<tokio::sync::Mutex<()>>,
    pub(crate) failing: Arc<Mutex<Failing>>,
    /// When the past was last forgotten, by the steady clock.
    pub(crate) forgot_ms: Arc<Mutex<Option<i64>>>,
    /// When the last attempt to write down what has happened to deliveries has failed, if it has,
    /// by the steady clock.
    pub(crate) failed_to_record_ms: Arc<Mutex<Option<i64>>>,
    pub(crate) trim_counts: Arc<TrimCounts>,
    /// Rows of mail push that could not be read.
    pub(crate) unreadable_push_rows: Arc<AtomicU64>,
    pub(crate) sweep: Arc<Mutex<Sweep>>,
    /// What secrets are sealed with and opened.
    pub(crate) keys: Arc<Keys>,
    /// Held while a key replaces another.
    pub(crate) rotating: Arc<tokio::sync::Mutex<()>>,
    /// Woken when this process has deleted endpoints.
    pub(crate) gone: Arc<tokio::sync::Notify>,
}

/// The connections.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) pool: Pool,
    pub(crate) is_postgres: bool,
    /// Whether other nodes may live on it: always on PostgreSQL, and on a file only those that
    /// [`Store::another_node`] has made.
    is_shared: Arc<AtomicBool>,
    /// See [`StoreOptions::beat_timeout`].
    pub(crate) beat_timeout: Duration,
}

impl Store {
    /// Opens it, makes it if it is a file that is not there, and brings its schema up to date.
    pub async fn open(options: &StoreOptions) -> Result<Self> {
        let database = Database::connect(options).await?;
        let keys = schema::migrate(&database, &options.keys).await?;
        let feed = ChangeFeed::load(&database, options.kept_changes).await?;
        let log = options.log.as_str().into();
        let clock = options.clock.clone();
        let store = Self::of_node(database, Arc::new(feed), log, clock, keys);
        clean::clean(&store.database, Arc::downgrade(&store.feed)).await;
        if let DatabasePlace::Postgres(url) = &options.place {
            listen::start(&store, url.clone(), options);
        }
        tokio::spawn(secrets::follow(Arc::downgrade(&store.keys)));
        Ok(store)
    }

    /// What a process begins with that uses this database.
    fn of_node(
        database: Database,
        feed: Arc<ChangeFeed>,
        log: Arc<str>,
        clock: Clock,
        keys: Arc<Keys>,
    ) -> Self {
        Self {
            database,
            feed,
            node: Arc::new(Mutex::new(Uuid::now_v7())),
            push_node: node_name().into(),
            log,
            unsure: Arc::default(),
            releasing: Arc::default(),
            token_owners: Arc::default(),
            clock,
            database_time: Arc::default(),
            push_clock: Arc::default(),
            page: Arc::default(),
            set_back_told: Arc::default(),
            held: Arc::default(),
            writing_ranges: Arc::default(),
            failing: Arc::default(),
            forgot_ms: Arc::default(),
            trim_counts: Arc::default(),
            unreadable_push_rows: Arc::default(),
            sweep: Arc::default(),
            failed_to_record_ms: Arc::default(),
            keys,
            rotating: Arc::default(),
            gone: Arc::default(),
        }
    }

    /// Another node on this database: with a name and claims of its own, over the same connections.
    /// Also on a file, which has one node otherwise: for tests of many nodes.
    #[must_use]
    pub fn another_node(&self) -> Self {
        self.database.is_shared.store(true, Ordering::Relaxed);
        Self::of_node(
            self.database.clone(),
            Arc::clone(&self.feed),
            Arc::clone(&self.log),
            self.clock.clone(),
            Arc::clone(&self.keys),
        )
    }

    /// Statements that this process has sent to the database, those that begin and end transactions
    /// included.
    pub fn statements(&self) -> u64 {
        self.database.pool.statements()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::raw_sql("SELECT 1")
            .execute(&self.database.pool)
            .await?;
        Ok(())
    }

    /// Whether the database answers and takes a write: one row is written, in a transaction of its
    /// own. A node without the key of now fails as well: it can neither seal nor open.
    ///
    /// A small write may find room on a disk that is full for larger ones; so while what has
    /// happened to deliveries cannot be written, this fails as well.
    pub async fn check_writable(&self) -> Result<()> {
        let mut tx = self.database.begin_writing().await?;
        sqlx::query("SELECT seq FROM feed")
            .fetch_one(&mut *tx)
            .await?;
        self.must_have_key(&mut tx).await?;
        sqlx::query(PROBE)
            .bind(self.dispatcher_id())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        if self.cannot_record() {
            return Err(StoreError::CannotRecord);
        }
        Ok(())
    }

    /// Ends all connections, after what they are doing.
    pub async fn close(&self) {
        self.database.pool.close().await;
    }
}

impl Database {
    async fn connect(options: &StoreOptions) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let (url, is_postgres) = match &options.place {
            DatabasePlace::Sqlite(path) => (sqlite_url(path)?, false),
            DatabasePlace::Postgres(url) => (url.expose().to_owned(), true),
        };
        let failed = |source| StoreError::Connect {
            place: options.place.to_string(),
            source,
        };
        let connect: AnyConnectOptions = url.parse().map_err(failed)?;
        let connect = connect.disable_statement_logging();
        let statement_timeout = options.statement_timeout;
        let pool = PoolOptions {
            max_connections: options.max_connections,
            connect: options.connect_timeout,
            limit: is_postgres.then_some(statement_timeout),
            takes_turns: !is_postgres,
            settings: if is_postgres {
                postgres_settings(statement_timeout)
            } else {
                SQLITE_SETTINGS.to_owned()
            },
        };
        if !is_postgres {
            // The pool would try again until its time is over, and not say why.
            must_be_a_database(&connect).await.map_err(failed)?;
        }
        if let DatabasePlace::Postgres(url) = &options.place {
            // What comes out of TLS names no file.
            for path in url.files() {
                File::open(&path).map_err(|source| StoreError::File { path, source })?;
            }
            let found = waiting::until_there(&connect, options.connect_timeout).await;
            found.map_err(failed)?;
        }
        let pool = Pool::new(connect, pool);
        pool.acquire().await.map_err(failed)?;
        Ok(Self {
            pool,
            is_postgres,
            is_shared: Arc::new(AtomicBool::new(is_postgres)),
            beat_timeout: options.beat_timeout,
        })
    }

    /// Whether other nodes may live on it.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    /// A transaction that writes. With SQLite it waits here for its turn, and not where waiting
    /// would be a deadlock.
    pub(crate) async fn begin_writing(&self) -> Result<Transaction> {
        self.begin_writing_in(Line::Usual).await
    }

    /// A transaction that writes, as [`Self::begin_writing`], and waits in this line.
    pub(crate) async fn begin_writing_in(&self, line: Line) -> Result<Transaction> {
        let begin = if self.is_postgres {
            "BEGIN"
        } else {
            "BEGIN IMMEDIATE"
        };
        Ok(self.pool.begin_in_turn(line, begin).await?)
    }

    /// A transaction that sees one moment.
    pub(crate) async fn begin_reading(&self) -> Result<Transaction> {
        let begin = if self.is_postgres {
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        } else {
            "BEGIN"
        };
        Ok(self.pool.begin(begin).await?)
    }
}

/// Reads the file of SQLite once. What may be otherwise in a moment is left to the pool.
async fn must_be_a_database(connect: &AnyConnectOptions) -> std::result::Result<(), sqlx::Error> {
    let opened = async {
        let mut connection = AnyConnection::connect_with(connect).await?;
        sqlx::raw_sql(SQLITE_SETTINGS)
            .execute(&mut connection)
            .await?;
        connection.close().await
    };
    match opened.await {
        Err(error) if !is_unavailable(&error) => Err(error),
        _ => Ok(()),
    }
}

/// No default of the server or of the user may weaken what a commit means, or let what is forgotten
/// hold the feed. Statements are planned each time: a plan that was made while a queue was empty
/// reads all of it, and would be kept until it is analysed next, a minute into an outage.
pub(crate) fn postgres_settings(statement_timeout: Duration) -> String {
    let timeout_ms = statement_timeout.as_millis();
    format!(
        "SET synchronous_commit = on; SET statement_timeout = {timeout_ms}; SET plan_cache_mode = force_custom_plan; \
         SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}; {KEEPALIVE}"
    )
}

/// Makes the file, so that it has its mode before there is anything in it; SQLite gives the same to
/// its other files.
fn sqlite_url(path: &Path) -> Result<String> {
    let made = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(FILE_MODE)
        .open(path);
    let failed = |source| StoreError::File {
        path: path.to_owned(),
        source,
    };
    made.map_err(failed)?;
    let absolute = std::path::absolute(path).map_err(failed)?;
    let url = Url::from_file_path(&absolute).map_err(|()| BadDatabasePlace)?;
    Ok(format!("sqlite://{}", url.path()))
}
