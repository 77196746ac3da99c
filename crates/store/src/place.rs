//! Where the database is: a file beside the log, or a PostgreSQL by URL.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

/// Where the database is. It may hold a password, which [`fmt::Debug`] and [`fmt::Display`] leave
/// out.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabasePlace {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A database of PostgreSQL.
    Postgres(PostgresUrl),
}

/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?...`
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Url);

impl PostgresUrl {
    /// The whole of it, for who connects.
    pub(crate) fn expose(&self) -> &str {
        self.0.as_str()
    }

    /// The files that it names: of authorities, of a certificate, of a key.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        const NAMES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];
        self.0.query_pairs().filter_map(|(name, value)| {
            // It may be there itself instead of its name.
            let is_file = NAMES.contains(&&*name) && !value.starts_with("-----BEGIN");
            is_file.then(|| PathBuf::from(&*value))
        })
    }
}

/// Why a text names no database. It does not show the text: a password may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a place of a database, expected `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`"
)]
pub struct BadDatabasePlace;

impl FromStr for DatabasePlace {
    type Err = BadDatabasePlace;

    fn from_str(text: &str) -> Result<Self, BadDatabasePlace> {
        if let Some(file) = text.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            let is_file = !file.is_empty() && !file.contains(['?', '#', '\0']);
            return if is_file {
                Ok(Self::Sqlite(file.into()))
            } else {
                Err(BadDatabasePlace)
            };
        }
        let url = Url::parse(text).map_err(|_| BadDatabasePlace)?;
        let names_one = matches!(url.scheme(), "postgres" | "postgresql")
            && url.path().len() > 1
            && !url.cannot_be_a_base();
        if names_one {
            Ok(Self::Postgres(PostgresUrl(url)))
        } else {
            Err(BadDatabasePlace)
        }
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A socket's directory stands in the query, and so may a password.
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "postgres://{host}")?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Display for DatabasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl fmt::Debug for DatabasePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_shown_without_user_and_password() {
        for (text, shown) in [
            ("sqlite:state.db", "sqlite:state.db"),
            ("sqlite:///var/lib/state.db", "sqlite:/var/lib/state.db"),
            ("postgres://db/hooks", "postgres://db/hooks"),
            (
                "postgresql://me:s3cret@db:5433/hooks?password=s3cret",
                "postgres://db:5433/hooks",
            ),
        ] {
            let place: DatabasePlace = text.parse().expect(text);
            assert_eq!(place.to_string(), shown);
            assert!(!format!("{place:?}").contains("s3cret"), "{place:?}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_without_being_shown() {
        for text in [
            "",
            "sqlite:",
            "sqlite:a?mode=memory",
            "mysql://a/b",
            "postgres:b",
            "postgres://host",
            "me:s3cret@host",
        ] {
            let error = text.parse::<DatabasePlace>().expect_err(text);
            assert!(!error.to_string().contains("s3cret"));
        }
    }
}
