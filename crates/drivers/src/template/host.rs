//! Processes that render templates of accounts: minijinja bounds the steps of a template, and not
//! what one step makes in memory, nor how long it takes.
//!
//! A process has a bound for its memory from the system, and dies of more; it is killed when it
//! takes too long. Its template fails then, and the next one gets another process. There are as
//! many as the machine has cores, and one account has one of them at a time.
//!
//! How processes are started and asked is `dovecast-host-process`'s. A frame of a request is JSON;
//! of an answer, a byte that says which, and the body or an error in JSON.

mod child;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use dovecast_host_process::{Process, StandardError};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use child::serve;

use super::{Form, MAX_OUTPUT_BYTES, TemplateError};
use crate::by_account::ByAccount;

/// Most memory of a process besides its program, in bytes: a message of 1 MiB as values, what is
/// made of it, and room.
pub const MAX_MEMORY_BYTES: u64 = 128 * 1024 * 1024;
/// Longest time of one template, and of starting its process: a machine may be busy.
pub const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Longest answer: the body, or a form of which each byte is escaped, and what says which it is.
const MAX_ANSWER_BYTES: usize = 4 * MAX_OUTPUT_BYTES;

/// Answer: the body.
const BODY: u8 = 0;
/// Answer: an error.
const ERROR: u8 = 1;

/// What a process is asked.
#[derive(Serialize)]
struct Asked<'a, V> {
    source: &'a str,
    form: Form,
    /// `None`: the template is checked only.
    variables: Option<&'a V>,
}

/// What a process is asked, as it reads it.
#[derive(Deserialize)]
struct Request {
    source: String,
    form: Form,
    variables: Option<Value>,
}

/// Renders templates of accounts; clones are the same.
#[derive(Clone)]
pub struct TemplateHost(Arc<Inner>);

struct Inner {
    /// The program that calls [`serve`], and its arguments.
    command: Vec<OsString>,
    places: Semaphore,
    idle: Mutex<Vec<Process>>,
    accounts: ByAccount<Semaphore>,
    died: AtomicU64,
}

impl TemplateHost {
    /// Processes of this command, which are started when they are needed.
    pub fn new(command: Vec<OsString>) -> Self {
        let places = available_parallelism().map_or(2, |cores| cores.get().max(2));
        Self(Arc::new(Inner {
            command,
            places: Semaphore::new(places),
            idle: Mutex::default(),
            accounts: ByAccount::default(),
            died: AtomicU64::new(0),
        }))
    }

    /// How many processes have died of a template, or were killed.
    pub fn died(&self) -> u64 {
        self.0.died.load(Ordering::Relaxed)
    }

    /// Checks a template.
    pub(super) async fn check(
        &self,
        account: &Arc<str>,
        source: &str,
        form: Form,
    ) -> Result<(), TemplateError> {
        let asked = asked(source, form, None::<&Value>)?;
        self.ask(account, &asked).await.map(drop)
    }

    /// Makes the body.
    pub(super) async fn render(
        &self,
        account: &Arc<str>,
        (source, form): (&str, Form),
        variables: &(impl Serialize + Sync),
    ) -> Result<Bytes, TemplateError> {
        let asked = asked(source, form, Some(variables))?;
        self.ask(account, &asked).await
    }

    async fn ask(&self, account: &Arc<str>, asked: &[u8]) -> Result<Bytes, TemplateError> {
        let own = self.0.accounts.get(account, || Semaphore::new(1));
        // Whoever has a place of all waits for none of an account.
        let _own = place(&own).await;
        let _place = place(&self.0.places).await;
        let idle = self.0.idle().pop();
        let was_idle = idle.is_some();
        let answered = match idle {
            Some(idle) => self.exchange(idle, asked).await,
            None => self.start_and_ask(asked).await,
        };
        let answered = match answered {
            // It may have been dead before.
            Err(TemplateError::TooMuch) if was_idle => self.start_and_ask(asked).await,
            answered => answered,
        };
        if matches!(
            answered,
            Err(TemplateError::TooMuch | TemplateError::TooSlow)
        ) {
            self.0.died.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                account.number = ?account,
                reason = ?answered.as_ref().err(),
                "the process that renders templates was ended by the template of an account"
            );
        }
        answered
    }

    async fn start_and_ask(&self, asked: &[u8]) -> Result<Bytes, TemplateError> {
        let starting = tokio::time::timeout(
            TIME_LIMIT,
            Process::start(&self.0.command, StandardError::Nobody),
        );
        let started = match starting.await {
            Ok(started) => started.map_err(|error| error.to_string()),
            Err(_) => Err("it takes too long".to_owned()),
        };
        let started = started.map_err(TemplateError::NoProcess)?;
        self.exchange(started, asked).await
    }

    /// Has a process render; it is kept if it has answered. Without an answer it is killed, also
    /// where nobody waits for it any more.
    async fn exchange(&self, mut process: Process, asked: &[u8]) -> Result<Bytes, TemplateError> {
        match tokio::time::timeout(TIME_LIMIT, exchange(&mut process, asked)).await {
            Ok(Ok(answer)) => {
                self.0.idle().push(process);
                read(answer)
            }
            Ok(Err(_)) => Err(TemplateError::TooMuch),
            Err(_) => Err(TemplateError::TooSlow),
        }
    }
}

impl Inner {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place, when there is one.
async fn place(of: &Semaphore) -> SemaphorePermit<'_> {
    match of.acquire().await {
        Ok(place) => place,
        // It is never closed.
        Err(_) => std::future::pending().await,
    }
}

fn asked<V: Serialize>(
    source: &str,
    form: Form,
    variables: Option<&V>,
) -> Result<Vec<u8>, TemplateError> {
    let asked = Asked {
        source,
        form,
        variables,
    };
    serde_json::to_vec(&asked).map_err(|error| TemplateError::Somewhere(error.to_string()))
}

fn read(answer: Vec<u8>) -> Result<Bytes, TemplateError> {
    let mut answer = Bytes::from(answer);
    let garbled = || TemplateError::Somewhere("its process says what makes no sense".to_owned());
    if answer.is_empty() {
        return Err(garbled());
    }
    match answer.split_to(1)[0] {
        BODY => Ok(answer),
        ERROR => Err(serde_json::from_slice(&answer).unwrap_or_else(|_| garbled())),
        _ => Err(garbled()),
    }
}

/// Sends a request and waits for its answer. One that is dropped before leaves a process that
/// nobody may ask again.
async fn exchange(process: &mut Process, request: &[u8]) -> io::Result<Vec<u8>> {
    process.send(request).await?;
    process.receive(MAX_ANSWER_BYTES).await
}

impl fmt::Debug for TemplateHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateHost").finish_non_exhaustive()
    }
}
