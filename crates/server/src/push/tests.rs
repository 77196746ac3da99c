//! Mail push in one process: a store, a log, a mail server and a service of devices that do as they
//! are told.

mod caring;
mod devices;
mod documented;
mod kept;
mod leaving;
mod origins;
mod passwords;
mod requests;
mod services;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use dovecast_mail_push::push::Sending;
use dovecast_mail_push::{
    AddressFault, DeviceAddress, LogIn, LogInAnswer, LogInSecret, Push, PushAnswer, PushVerdict,
    Transport, TransportKind,
};
use dovecast_store::{Clock, DatabasePlace, Store, StoreOptions};
use http_body_util::BodyExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::streams::Streams;
use super::wiring::{Ports, acts};
use super::{PushApi, router};
use crate::config::Config;

/// A webhook that never answers.
const HANGING: &str = "https://hanging.example/";

/// A mail server that knows one password.
struct Passwords;

impl LogIn for Passwords {
    fn check<'a>(&'a self, login: &'a str, secret: &'a LogInSecret) -> Sending<'a, LogInAnswer> {
        Box::pin(async move {
            let is_right = match secret {
                LogInSecret::Password(text) | LogInSecret::OauthToken(text) => **text == "secret",
            };
            if login == "away" {
                LogInAnswer::Unavailable("the server is away".to_owned())
            } else if is_right {
                LogInAnswer::Accepted
            } else {
                LogInAnswer::Refused
            }
        })
    }
}

/// A service of devices: what it is sent goes to the test, which says what it answers.
pub(super) struct Devices {
    sent: mpsc::UnboundedSender<(String, Push)>,
    answers: Mutex<Vec<PushAnswer>>,
    /// What is sent is answered while nobody holds it.
    gate: tokio::sync::Mutex<()>,
}

impl Transport for Devices {
    fn check(&self, address: &DeviceAddress) -> Result<(), AddressFault> {
        if address.token() == "bad-token" {
            return Err(AddressFault {
                field: "token",
                detail: "is none".to_owned(),
            });
        }
        Ok(())
    }

    fn host(&self, address: &DeviceAddress) -> String {
        address.kind().name().to_owned()
    }

    fn send<'a>(&'a self, address: &'a DeviceAddress, push: &'a Push) -> Sending<'a, PushAnswer> {
        Box::pin(async move {
            let answer = self.answers.lock().expect("a lock").pop();
            let told = (address.token().to_owned(), push.clone());
            self.sent.send(told).expect("the test listens");
            drop(self.gate.lock().await);
            if address.token() == HANGING {
                std::future::pending::<()>().await;
            }
            answer.unwrap_or_else(|| said(PushVerdict::Accepted, 201))
        })
    }
}

pub(super) fn said(verdict: PushVerdict, status: u16) -> PushAnswer {
    PushAnswer {
        verdict,
        status: Some(status),
        reason: "said".to_owned(),
        may_have_come: false,
    }
}

/// A server as far as mail push goes.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) ports: Ports,
    pub(super) devices: Arc<Devices>,
    pub(super) sent: mpsc::UnboundedReceiver<(String, Push)>,
    pub(super) dir: TempDir,
}

/// Changes rows of a database behind the back of its store; how many those were. That is done
/// beside the runtime, in which the store ends what it has begun there.
pub(super) async fn change(file: PathBuf, sql: &str) -> usize {
    let sql = sql.to_owned();
    let change = move || {
        let database = rusqlite::Connection::open(file).expect("the file");
        database.execute(&sql, []).expect("a change")
    };
    tokio::task::spawn_blocking(change).await.expect("no panic")
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with_clock(Clock::default()).await
    }

    /// A server whose store has this clock.
    pub(super) async fn with_clock(clock: Clock) -> Self {
        let dir = TempDir::new().expect("a directory");
        let place = DatabasePlace::Sqlite(dir.path().join("state.db"));
        let mut options = StoreOptions::new(place);
        options.clock = clock;
        let store = Store::open(&options).await.expect("a store");
        let (sender, sent) = mpsc::unbounded_channel();
        let devices = Arc::new(Devices {
            sent: sender,
            answers: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        });
        let transport = || Arc::clone(&devices) as Arc<dyn Transport>;
        let ports = Ports {
            log_in: Some(Arc::new(Passwords)),
            transports: [TransportKind::Fcm, TransportKind::Webhook]
                .map(|kind| (kind, transport()))
                .into(),
            vapid: Some("public".to_owned()),
            care: None,
            passcrypt: None,
        };
        Self {
            store,
            ports,
            devices,
            sent,
            dir,
        }
    }

    pub(super) fn door(&self, config: &Config) -> Door {
        let acts = acts(config, &self.store, &self.ports).expect("acts");
        // No log is followed here: streams are tried with a server (tests/streams).
        let streams = Streams::new(config.mail_push.stream_limits(), Arc::default());
        Door {
            router: router(PushApi::new(acts, streams, config)),
            token: None,
        }
    }

    /// Answers of the service, the next one first.
    /// Changes rows behind the back of the store; how many those were.
    pub(super) async fn change(&self, sql: &str) -> usize {
        change(self.dir.path().join("state.db"), sql).await
    }

    pub(super) fn answer(&self, answers: impl IntoIterator<Item = PushAnswer>) {
        let mut all: Vec<_> = answers.into_iter().collect();
        all.reverse();
        *self.devices.answers.lock().expect("a lock") = all;
    }
}

/// What requests are sent to, as somebody.
#[derive(Clone)]
pub(super) struct Door {
    router: Router,
    pub(super) token: Option<String>,
}

impl Door {
    /// Status, headers that tests look at, and the body; null where there is none.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> (StatusCode, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.ask_text(method, path, body).await
    }

    /// Asks with a body that need not be JSON.
    pub(super) async fn ask_text(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Body::from(body)).expect("a request");
        let service = TowerToHyperService::new(self.router.clone());
        let answer = service.call(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.expect("a body").to_bytes();
        if parts.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(parts.headers.contains_key(header::RETRY_AFTER));
        }
        if parts.status == StatusCode::UNAUTHORIZED {
            assert_eq!(parts.headers[header::WWW_AUTHENTICATE], "Bearer");
        }
        let json = if bytes.is_empty() {
            Value::Null
        } else {
            assert_eq!(parts.headers[header::CONTENT_TYPE], "application/json");
            serde_json::from_slice(&bytes).expect("JSON")
        };
        (parts.status, json)
    }

    /// Logs in, and asks as that person from then on.
    pub(super) async fn log_in(&mut self, login: &str) {
        let body = serde_json::json!({ "login": login, "password": "secret" });
        let (status, begun) = self.ask("POST", "/api/push/v1/sessions", Some(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{begun}");
        self.token = begun["session"].as_str().map(ToOwned::to_owned);
    }
}
