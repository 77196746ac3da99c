//! Why the store did not do what it was asked for.
//!
//! No text of these names a password: where the database is, is said by
//! [`DatabasePlace`](crate::DatabasePlace), which leaves it out.

use std::io;
use std::path::PathBuf;

use crate::connection::is_unavailable;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The place is none.
    #[error("{0}")]
    DatabasePlace(#[from] crate::BadDatabasePlace),
    /// The file of SQLite cannot be made, or a file of certificates cannot be read.
    #[error("cannot open `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database is not there, or it does not let us in.
    #[error("cannot use the database {place}")]
    Connect {
        /// Where it is, without user and password.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
    /// A later dovecast has been here.
    #[error(
        "the schema of the database is version {found}, this dovecast knows versions up to {known}: use the newer dovecast, or restore the database from before the upgrade"
    )]
    NewerSchema {
        /// Version of the schema.
        found: i64,
        /// The last one known here.
        known: i64,
    },
    /// The account was closed by the operator.
    #[error("the account is closed")]
    AccountClosed,
    /// The account has an endpoint of this name.
    #[error("an endpoint named `{0}` is there already")]
    NameTaken(String),
    /// The account has so many endpoints, and may have no more.
    #[error("the account has {0} endpoints, and may have no more")]
    TooManyEndpoints(u64),
    /// The account has so many tokens, and may have no more.
    #[error("the account has {0} tokens, and may have no more")]
    TooManyTokens(u64),
    /// A person has so many subscriptions, and may have no more.
    #[error("the person has {0} subscriptions, and may have no more")]
    TooManySubscriptions(u64),
    /// A filter names what does not exist.
    #[error("could not find {kind} with id `{id}`")]
    Unknown {
        /// What kind of thing.
        kind: MemberKind,
        /// Id of the thing.
        id: String,
    },
    /// `Authorization` is among the headers of an endpoint, and it has credentials as well.
    #[error("an endpoint cannot have both credentials and a header `Authorization`")]
    AuthorizationTwice,
    /// The user of a URL is what is shown instead of one that is secret.
    #[error(
        "the user `***` of the URL stands for one that is not shown: give the user and the password, or leave the URL out"
    )]
    HiddenUser,
    /// An application is another token's, or nobody's that a token may take.
    #[error("the application `{0}` does not belong to this token")]
    OthersApplication(String),
    /// A token has as many applications as one may have.
    #[error("the token has {0} applications, and may have no more")]
    TooManyApplications(usize),
    /// The applications of a token would have more event types and levels than they may.
    #[error(
        "the applications of the token would have more than {0} event types and levels together"
    )]
    TooManyRegistered(usize),
    /// An endpoint cannot have this fallback.
    #[error("the fallback {0}")]
    Fallback(&'static str),
    /// There is no such endpoint, or it is another account's.
    #[error("there is no such endpoint")]
    NoEndpoint,
    /// An endpoint has as many signing secrets that are good at the moment as it may have.
    #[error(
        "{most} signing secrets are good at the moment, which is as many as there may be: the oldest ends 24 hours after it was replaced"
    )]
    TooManySecrets {
        /// Most of them.
        most: usize,
    },
    /// What is said of an endpoint is for another driver than the one that it has.
    #[error("the driver of the endpoint is `{driver}`, and stays so")]
    OtherDriver {
        /// Driver of the endpoint.
        driver: String,
    },
    /// Something secret cannot be sealed or opened.
    #[error(transparent)]
    Secrets(#[from] crate::secrets::SecretsError),
    /// The operating system gives no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// The database takes a write, but not what has happened to deliveries.
    #[error("what has happened to deliveries cannot be written")]
    CannotRecord,
    /// Something else that the database says.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
}

impl StoreError {
    /// Whether the database could not be used, and may be usable again later: who asks again then
    /// may succeed.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Database(source) => is_unavailable(source),
            Self::CannotRecord => true,
            _ => false,
        }
    }
}

/// What a filter's sets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemberKind {
    /// An application.
    Application,
    /// An event type.
    EventType,
    /// A level.
    Level,
}

impl std::fmt::Display for MemberKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Application => "an application",
            Self::EventType => "an event type",
            Self::Level => "a level",
        })
    }
}

/// What the functions of this crate answer.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An error and its sources in one line, for a log.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
