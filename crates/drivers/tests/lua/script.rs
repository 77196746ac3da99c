//! A script with its driver, and what is seen of it.

use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use dovecast_drivers::lua::{Handled, LuaOptions, LuaTarget, Transaction};
use libtest_mimic::Failed;
use serde_json::{Value, json};
use tempfile::TempDir;

/// All lines of the log of this program.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// What every script of these tests begins with: `say` writes a line to the file.
const SAY: &str = "
local path
function say(...)
  local words = {}
  for i = 1, select('#', ...) do words[i] = tostring((select(i, ...))) end
  local file = assert(io.open(path, 'a'))
  file:write(table.concat(words, ' '), '\\n')
  file:close()
end
function say_into(user) path = user:plugin_getenv('out') end
";

/// A script and its driver.
pub(crate) struct Script {
    pub(crate) dir: TempDir,
    pub(crate) target: LuaTarget,
    name: String,
}

struct Collected;

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn collect_the_log() {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(|| Collected)
        .init();
}

pub(crate) fn run(test: impl Future<Output = Result<()>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime.map_err(anyhow::Error::from);
    done.and_then(|runtime| runtime.block_on(test))
        .map_err(|error| Failed::from(format!("{error:?}")))
}

impl Script {
    /// A script that begins with `say`; `name` is the driver's, and unique among the tests.
    pub(crate) fn new(name: &str, text: &str) -> Result<Self> {
        Self::with(name, text, |_| {})
    }

    pub(crate) fn with(
        name: &str,
        text: &str,
        change: impl FnOnce(&mut LuaOptions),
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mut options = LuaOptions::new(name, dir.path().join("push.lua"));
        let out = dir.path().join("out").display().to_string();
        options.plugin.insert("out".to_owned(), out);
        change(&mut options);
        let program = std::env::current_exe()?;
        let command = vec![program.into(), "lua-host".into()];
        let script = Self {
            dir,
            target: LuaTarget::new(options, command),
            name: name.to_owned(),
        };
        script.write(text)?;
        Ok(script)
    }

    /// Writes the script anew, as an editor does: another file takes its name. It was written a
    /// moment ago, so that it is loaded at once.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        let new = self.dir.path().join("push.lua.new");
        fs::write(&new, format!("{SAY}{text}"))?;
        let file = fs::File::options().append(true).open(&new)?;
        file.set_modified(SystemTime::now() - Duration::from_secs(2))?;
        fs::rename(new, self.dir.path().join("push.lua"))?;
        Ok(())
    }

    /// Writes the script as it is, in place. Its time is ahead of the clock: so nobody takes it for
    /// old, however busy the machine is.
    pub(crate) fn write_in_place(&self, text: &str) -> Result<()> {
        let path = self.dir.path().join("push.lua");
        fs::write(&path, text)?;
        let file = fs::File::options().append(true).open(&path)?;
        file.set_modified(SystemTime::now() + Duration::from_hours(1))?;
        Ok(())
    }

    /// Hands over a whole transaction of these events.
    pub(crate) async fn handle(&self, events: &[Value]) -> Handled {
        self.part(&transaction("t", events)).await
    }

    /// Hands over a transaction, or a part of one, with all the time it may want.
    pub(crate) async fn part(&self, part: &Transaction) -> Handled {
        let until = Instant::now() + Duration::from_mins(2);
        self.target.handle(part, until).await
    }

    /// Hands over a whole transaction, which has to be done.
    pub(crate) async fn done(&self, events: &[Value]) -> Result<()> {
        match self.handle(events).await {
            Handled::Done => Ok(()),
            failed => bail!("not done: {failed:?}\n{}", self.log()),
        }
    }

    /// Hands over a whole transaction, which has to fail; why it does.
    pub(crate) async fn fails(&self, events: &[Value]) -> Result<(String, Option<Duration>)> {
        match self.handle(events).await {
            Handled::Done | Handled::NotBegun => bail!("it did not fail"),
            Handled::Failed {
                reason,
                retry_after,
                ..
            } => Ok((reason, retry_after)),
        }
    }

    /// What the script has said since the last time.
    pub(crate) fn said(&self) -> Result<Vec<String>> {
        let path: PathBuf = self.dir.path().join("out");
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path)?;
        fs::remove_file(path)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Lines of the log that name this driver, with what follows them.
    pub(crate) fn log(&self) -> String {
        let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
        let log = String::from_utf8_lossy(&log).into_owned();
        let is_begin = |line: &str| line.starts_with("20") && line.contains("Z ");
        let marks = [
            format!("driver={} ", self.name),
            format!("driver=\"{}\"", self.name),
        ];
        let mut is_own = false;
        let mut own = String::new();
        for line in log.lines() {
            if is_begin(line) {
                is_own = marks.iter().any(|mark| line.contains(mark));
            }
            if is_own {
                own.push_str(line);
                own.push('\n');
            }
        }
        own
    }

    /// Waits for a line of the log: what a script prints comes by itself.
    pub(crate) async fn logs(&self, text: &str) -> Result<()> {
        let found = async {
            while !self.log().contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), found).await;
        waited.with_context(|| format!("no `{text}` in\n{}", self.log()))
    }
}

/// A whole transaction.
pub(crate) fn transaction(id: &str, events: &[Value]) -> Transaction {
    Transaction {
        id: id.to_owned(),
        user: "alice@example.com".to_owned(),
        events: events
            .iter()
            .map(|event| Bytes::from(event.to_string()))
            .collect(),
        is_first: true,
        is_last: true,
        success: true,
    }
}

/// An event as the plugin renders it with `detail=full`, with more fields or without.
pub(crate) fn event(kind: &str, mailbox: &str, more: Value) -> Value {
    let mut event = json!({
        "user": "alice@example.com",
        "userdb": {"uid": "5000", "gid": "5001", "home": "/home/alice", "tenant": "acme"},
        "mailbox": mailbox,
        "event": kind,
        "service": "lmtp",
        "session": "abc",
        "messages": 3,
        "unseen": 2,
        "recent": 1,
        "uidnext": 9,
        "modseq": 77,
        "metadata": {"/private/vendor/vendor.dovecot/http-notify": "user=11@3"},
    });
    if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
    event
}

/// A mail that was delivered.
pub(crate) fn mail(uid: u32) -> Value {
    event(
        "MessageNew",
        "INBOX",
        json!({
            "uidvalidity": 1_795_210_528_u32,
            "uid": uid,
            "date": "2026-11-20T12:34:56+01:00",
            "tz": 60,
            "from": "=?utf-8?q?Bob_=C3=84?= <bob@example.org>",
            "fromAddress": "bob@example.org",
            "fromDisplayName": "Bob Ä",
            "to": "alice@example.com",
            "toAddress": "alice@example.com",
            "toDisplayName": "",
            "subject": "=?utf-8?q?Gr=C3=BC=C3=9Fe?=",
            "subjectDecoded": "Grüße",
            "snippet": "Shall we meet at noon?",
            "messageID": "<1@example.org>",
            "flags": [],
            "keywords": ["$label1"],
        }),
    )
}
