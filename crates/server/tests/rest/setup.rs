//! Servers that all cases share, accounts and applications that none shares.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::postgres::Postgres;
use dovecast_testkit::server::{Builder, Server};
use serde_json::{Value, json};

pub(crate) const PREFIX: &str = "/api/hooks";
pub(crate) const MEDIA_TYPE: &str = "application/vnd.api+json";

pub(crate) type Case = (&'static str, fn(&World) -> Result<()>);

/// Cases by the names of their functions.
macro_rules! cases {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::setup::Case] =
            &[$($(#[$attribute])* (stringify!($name), $name)),*];
    };
}
pub(crate) use cases;

/// Running servers on one kind of database.
pub(crate) struct World {
    /// Server that trusts a proxy on its own host.
    pub(crate) server: Server,
    /// Server that trusts no proxy, on the database of the other one where that is possible.
    pub(crate) strict: Server,
    admin: String,
    strict_admin: String,
    postgres: Option<Arc<Postgres>>,
}

/// A new `dovecast serve`.
pub(crate) fn builder() -> Builder {
    Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"))
}

/// Server that delivers to endpoints on this host.
pub(crate) fn delivering(builder: Builder) -> Builder {
    builder.config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
}

/// `[store]`.
pub(crate) fn on(builder: Builder, url: &str) -> Builder {
    builder
        .config(&format!("[store]\nurl = '{url}'"))
        .shared_keys()
}

impl World {
    pub(crate) fn start(postgres: Option<Arc<Postgres>>) -> Result<Self> {
        let trusting = || delivering(builder().http("trusted_proxies = ['127.0.0.1/32']"));
        // On one database each may make what is owed.
        let strict = || delivering(builder());
        let (server, strict) = match &postgres {
            None => (trusting().start()?, strict().start()?),
            Some(postgres) => {
                let url = postgres.database()?;
                let server = on(trusting(), &url).start()?;
                (server, on(strict(), &url).start()?)
            }
        };
        let admin = server.admin_token()?;
        // The second node on a PostgreSQL finds the token of the first.
        let strict_admin = match &postgres {
            None => strict.admin_token()?,
            Some(_) => admin.clone(),
        };
        Ok(Self {
            server,
            strict,
            admin,
            strict_admin,
            postgres,
        })
    }

    /// A server of a case's own, and its database.
    pub(crate) fn fresh(&self) -> Result<(Builder, Database)> {
        match &self.postgres {
            None => Ok((builder(), Database::Sqlite)),
            Some(postgres) => {
                let url = postgres.database()?;
                let builder = on(builder(), &url);
                Ok((builder, Database::Postgres(Arc::clone(postgres), url)))
            }
        }
    }

    /// Whether the servers are on a PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    /// An account that nobody else has.
    pub(crate) fn account(&self) -> User<'_> {
        named(&self.server, &identity(&unique("account")))
    }

    /// Whoever runs the server.
    pub(crate) fn admin(&self) -> User<'_> {
        bearer(&self.server, &self.admin)
    }

    /// Administrator of the server that trusts no proxy.
    pub(crate) fn strict_admin(&self) -> User<'_> {
        bearer(&self.strict, &self.strict_admin)
    }

    /// Nobody.
    pub(crate) fn nobody(&self) -> User<'_> {
        User {
            server: &self.server,
            headers: Vec::new(),
        }
    }

    /// Registers an application that nobody else has.
    pub(crate) fn app(&self) -> Result<App> {
        let name = unique("app");
        let answer = self
            .admin()
            .post("/apps/register", &registration(&name))?
            .with(200)?;
        App::of(&answer)
    }
}

/// Where a server has its state.
pub(crate) enum Database {
    Sqlite,
    Postgres(Arc<Postgres>, String),
}

impl Database {
    /// Changes it behind the server's back.
    pub(crate) fn execute(&self, server: &Server, statement: &str) -> Result<()> {
        match self {
            Self::Sqlite => {
                let file = server.data_dir().join("state.db");
                rusqlite::Connection::open(file)?.execute_batch(statement)?;
            }
            Self::Postgres(postgres, url) => {
                postgres.query(url, statement)?;
            }
        }
        Ok(())
    }

    /// What a statement counts.
    pub(crate) fn count(&self, server: &Server, statement: &str) -> Result<i64> {
        match self {
            Self::Sqlite => {
                let file = server.data_dir().join("state.db");
                let connection = rusqlite::Connection::open(file)?;
                Ok(connection.query_row(statement, [], |row| row.get(0))?)
            }
            Self::Postgres(postgres, url) => {
                let shown = postgres.query(url, statement)?;
                let count = shown.trim().parse();
                count.with_context(|| format!("no number: {shown}"))
            }
        }
    }
}

pub(crate) fn bearer<'a>(server: &'a Server, token: &str) -> User<'a> {
    User {
        server,
        headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
    }
}

/// Whom a proxy names.
pub(crate) fn named<'a>(server: &'a Server, identity: &str) -> User<'a> {
    User {
        server,
        headers: vec![("X-RH-IDENTITY".to_owned(), identity.to_owned())],
    }
}

/// A name that nobody else has in this process.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The header of a proxy.
pub(crate) fn identity(number: &str) -> String {
    let identity = json!({"identity": {
        "account_number": number, "type": "User",
        "user": {"username": "joe", "email": "joe@example.org", "first_name": "Joe", "last_name": "User",
            "is_active": true, "is_org_admin": true, "is_internal": false, "locale": "en_US"},
        "internal": {"org_id": "3340851"}}});
    STANDARD.encode(identity.to_string())
}

/// Two event types; the second one has two levels.
pub(crate) fn registration(name: &str) -> Value {
    json!({
        "application": {"name": name, "title": format!("Title of {name}")},
        "event_types": [
            {"id": "plain", "title": "Plain", "levels": []},
            {"id": "graded", "title": "Graded", "levels": [
                {"id": "low", "title": "Low"}, {"id": "high", "title": "High"}]}]})
}

/// Ids of a registered application.
pub(crate) struct App {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) plain: String,
    pub(crate) graded: String,
    pub(crate) low: String,
    pub(crate) high: String,
}

impl App {
    pub(crate) fn of(answer: &Said) -> Result<Self> {
        let included = |name: &str| -> Result<String> {
            let list = answer.json["included"].as_array().context("no list")?;
            let found = list.iter().find(|one| one["attributes"]["name"] == name);
            text(&found.context("not included")?["id"])
        };
        Ok(Self {
            name: text(&answer.json["data"]["attributes"]["name"])?,
            id: text(&answer.json["data"]["id"])?,
            plain: included("plain")?,
            graded: included("graded")?,
            low: included("low")?,
            high: included("high")?,
        })
    }
}

pub(crate) fn text(value: &Value) -> Result<String> {
    let text = value
        .as_str()
        .with_context(|| format!("no text: {value}"))?;
    Ok(text.to_owned())
}

/// Who asks.
pub(crate) struct User<'a> {
    server: &'a Server,
    headers: Vec<(String, String)>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) answer: Answer,
    pub(crate) json: Value,
}

impl User<'_> {
    /// Someone who says more.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Said> {
        let mut request = Request::new(method, &format!("{PREFIX}{path}"));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let has_type = |(name, _): &(String, String)| name == "Content-Type";
        if let Some(body) = body {
            request = request.body(body);
            if !self.headers.iter().any(has_type) {
                request = request.header("Content-Type", MEDIA_TYPE);
            }
        }
        let answer = self.server.ask(&request)?;
        let json = serde_json::from_str(&answer.body).unwrap_or_default();
        Ok(Said { answer, json })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Said> {
        self.ask("GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Said> {
        self.ask("POST", path, Some(&body.to_string()))
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Said> {
        self.ask("PUT", path, Some(&body.to_string()))
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Said> {
        self.ask("DELETE", path, None)
    }

    /// Makes an endpoint; its id.
    pub(crate) fn endpoint(&self, fields: &Value) -> Result<String> {
        text(&self.made(fields)?["data"]["id"])
    }

    /// Makes a webhook; its id, and its signing secret.
    pub(crate) fn signed_endpoint(&self, fields: &Value) -> Result<(String, String)> {
        let made = self.made(fields)?;
        let secret = text(&made["meta"]["signing_secret"])?;
        Ok((text(&made["data"]["id"])?, secret))
    }

    fn made(&self, fields: &Value) -> Result<Value> {
        let body = json!({"endpoint": fields});
        Ok(self.post("/endpoints", &body)?.with(201)?.json)
    }

    /// Names of a list.
    pub(crate) fn names(&self, query: &str) -> Result<Vec<String>> {
        let said = self.get(&format!("/endpoints?{query}"))?.with(200)?;
        let list = said.json["data"].as_array().context("no list")?;
        list.iter()
            .map(|one| text(&one["attributes"]["name"]))
            .collect()
    }
}

impl Said {
    /// The answer, if it has this status and is JSON:API where it has a body.
    pub(crate) fn with(self, status: u16) -> Result<Self> {
        ensure!(self.answer.status == status, "not {status}: {self:?}");
        if self.answer.body.is_empty() {
            ensure!(status == 204, "no body: {self:?}");
        } else {
            let media_type = self.answer.header("content-type");
            ensure!(media_type == Some(MEDIA_TYPE), "{self:?}");
        }
        Ok(self)
    }

    /// Fails unless it is an error of this status with this detail and place.
    pub(crate) fn refused(self, status: u16, detail: &str, place: &str) -> Result<()> {
        let said = self.with(status)?;
        let errors = said.json["errors"].as_array().context("no errors")?;
        let found = errors.iter().any(|error| {
            let source = &error["source"];
            let source = source["pointer"].as_str().or(source["parameter"].as_str());
            let shown = error["detail"].as_str().unwrap_or_default();
            error["status"].as_str() == Some(&*status.to_string())
                && error["title"].is_string()
                && shown.contains(detail)
                && source.unwrap_or_default() == place
        });
        ensure!(found, "no `{detail}` at `{place}`: {said:?}");
        Ok(())
    }

    /// Fails unless it is 404 in the shape of what does not exist.
    pub(crate) fn not_found(self, detail: &str) -> Result<()> {
        ensure!(
            self.json["errors"][0]["title"] == "Record not found",
            "{self:?}"
        );
        self.refused(404, detail, "")
    }

    /// Fails unless it is 401 with this text.
    pub(crate) fn unauthenticated(self, reason: &str) -> Result<()> {
        let expected = json!({"error": format!("Authentication error: {reason}")});
        ensure!(
            self.answer.status == 401 && self.json == expected,
            "{self:?}"
        );
        Ok(())
    }
}
