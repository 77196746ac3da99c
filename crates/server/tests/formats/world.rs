//! A server, somebody who makes endpoints of it, and a mail.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::process::{ProcessStats, poll_until};
use dovecast_testkit::server::Server;
use dovecast_testkit::services::section;
use serde_json::{Value, json};

use crate::{PATIENCE, SUBJECT};

/// A server, and somebody with an account.
pub(crate) struct World {
    pub(crate) server: Server,
    token: String,
}

impl World {
    /// `at`: where services are, by their presets.
    pub(crate) fn start(at: &[(&str, &HookEndpoint)]) -> Result<Self> {
        let mut config = "[dispatch]\nallowed_networks = ['127.0.0.0/8']\n".to_owned();
        for (preset, stand_in) in at {
            config.push_str(&section(preset, stand_in));
        }
        Self::with(&config)
    }

    pub(crate) fn with(config: &str) -> Result<Self> {
        let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
        let server = builder.config(config).start()?;
        let token = server.account_token("1")?;
        Ok(Self { server, token })
    }

    /// Memory of the server's process, in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        Ok(ProcessStats::of(self.server.pid())?.rss_kb * 1024)
    }

    /// A metric without labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let (_, metrics) = self.server.get("/metrics")?;
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")));
        let (_, value) = line
            .context("no metric")?
            .split_once(' ')
            .context("no value")?;
        Ok(value.parse()?)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        self.ask_as(&self.token, (method, path), body)
    }

    /// Asks with the token of whatever account.
    pub(crate) fn ask_as(
        &self,
        token: &str,
        (method, path): (&str, &str),
        body: &Value,
    ) -> Result<Answer> {
        let request = Request::new(method, &format!("/api/hooks{path}"))
            .header("authorization", &format!("Bearer {token}"))
            .header("content-type", "application/json");
        self.server.ask(&request.body(body.to_string()))
    }

    /// Makes an endpoint that gets everything; gives its id.
    pub(crate) fn make(&self, fields: Value) -> Result<String> {
        let answer = self.refuse_or_make(fields)?;
        ensure!(answer.status == 201, "{answer:?}");
        let made: Value = serde_json::from_str(&answer.body)?;
        let id = made["data"]["id"].as_str().context("no id")?;
        Ok(id.to_owned())
    }

    pub(crate) fn refuse_or_make(&self, mut fields: Value) -> Result<Answer> {
        if fields.get("filter").is_none() {
            fields["filter"] = json!({});
        }
        self.ask("POST", "/endpoints", &json!({"endpoint": fields}))
    }

    pub(crate) fn change(&self, id: &str, fields: &Value) -> Result<()> {
        let body = json!({"endpoint": fields});
        let answer = self.ask("PUT", &format!("/endpoints/{id}"), &body)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    pub(crate) fn shown(&self, path: &str) -> Result<Value> {
        let answer = self.ask("GET", path, &Value::Null)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(serde_json::from_str(&answer.body)?)
    }

    pub(crate) fn mail(&self) -> Result<()> {
        self.notify("MessageNew", &a_mail())
    }

    pub(crate) fn notify(&self, event_type: &str, message: &Value) -> Result<()> {
        let notification = json!({
            "application": "dovecot", "event_type": event_type, "level": null, "message": message,
        });
        let answer = self.ask("POST", "/messages", &notification)?;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(())
    }

    /// The reason of the only dead letter.
    pub(crate) fn dead(&self, id: &str) -> Result<String> {
        let path = format!("/endpoints/{id}/dead_letters");
        let found = poll_until(PATIENCE, || {
            let shown = self.shown(&path).ok()?;
            let reason = shown["data"][0]["attributes"]["reason"].as_str()?;
            Some(reason.to_owned())
        });
        found.with_context(|| format!("nothing is dead: {}", self.server.server_log()))
    }
}

pub(crate) fn a_mail() -> Value {
    json!({
        "user": "ann@example.org", "mailbox": "INBOX", "event": "MessageNew", "uid": 7,
        "fromAddress": "bob@example.org", "fromDisplayName": "Bob", "subjectDecoded": SUBJECT, "snippet": format!("{SUBJECT} At noon."),
    })
}
