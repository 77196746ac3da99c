//! What webhooks are sent instead of the form of hooks-backend: that of each service that has a
//! preset, that of a template, and as much of a mail as the endpoint may see.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::{HookEndpoint, Reply};
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use dovecast_testkit::services::{SERVICES, TOKEN};
use serde_json::{Value, json};

const PATIENCE: std::time::Duration = dovecast_testkit::PATIENCE;
/// Stands in the subject and the snippet of the mail.
const SUBJECT: &str = "Lunch on Friday?";

/// A server, and somebody with an account.
struct World {
    server: Server,
    token: String,
}

impl World {
    /// `at`: where services are, by their presets.
    fn start(at: &[(&str, &HookEndpoint)]) -> Result<Self> {
        let mut config = "[dispatch]\nallowed_networks = ['127.0.0.0/8']\n".to_owned();
        for (preset, stand_in) in at {
            let url = stand_in.url();
            let url = url.trim_end_matches("hook");
            writeln!(config, "[presets.{preset}]\nurls = ['{url}']")?;
        }
        let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
        let server = builder.config(&config).start()?;
        let token = server.account_token("1")?;
        Ok(Self { server, token })
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let request = Request::new(method, &format!("/api/hooks{path}"))
            .header("authorization", &format!("Bearer {}", self.token))
            .header("content-type", "application/json");
        self.server.ask(&request.body(body.to_string()))
    }

    /// Makes an endpoint that gets everything; gives its id.
    fn make(&self, fields: Value) -> Result<String> {
        let answer = self.refuse_or_make(fields)?;
        ensure!(answer.status == 201, "{answer:?}");
        let made: Value = serde_json::from_str(&answer.body)?;
        let id = made["data"]["id"].as_str().context("no id")?;
        Ok(id.to_owned())
    }

    fn refuse_or_make(&self, mut fields: Value) -> Result<Answer> {
        fields["filter"] = json!({});
        self.ask("POST", "/endpoints", &json!({"endpoint": fields}))
    }

    fn change(&self, id: &str, fields: &Value) -> Result<()> {
        let body = json!({"endpoint": fields});
        let answer = self.ask("PUT", &format!("/endpoints/{id}"), &body)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    fn shown(&self, path: &str) -> Result<Value> {
        let answer = self.ask("GET", path, &Value::Null)?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(serde_json::from_str(&answer.body)?)
    }

    fn mail(&self) -> Result<()> {
        let message = json!({
            "user": "ann@example.org", "mailbox": "INBOX", "event": "MessageNew", "uid": 7,
            "fromDisplayName": "Bob", "subjectDecoded": SUBJECT, "snippet": format!("{SUBJECT} At noon."),
        });
        let notification = json!({
            "application": "dovecot", "event_type": "MessageNew", "level": null, "message": message,
        });
        let answer = self.ask("POST", "/messages", &notification)?;
        ensure!(answer.status == 201, "{answer:?}");
        Ok(())
    }

    /// The reason of the only dead letter.
    fn dead(&self, id: &str) -> Result<String> {
        let path = format!("/endpoints/{id}/dead_letters");
        let found = poll_until(PATIENCE, || {
            let shown = self.shown(&path).ok()?;
            let reason = shown["data"][0]["attributes"]["reason"].as_str()?;
            Some(reason.to_owned())
        });
        found.with_context(|| format!("nothing is dead: {}", self.server.server_log()))
    }
}

/// What a service needs, whatever it is.
fn fields(preset: &str, url: &str) -> Value {
    let parameters = match preset {
        "gotify" | "splunk" => json!({"token": TOKEN}),
        "ntfy" => json!({"topic": "mail"}),
        "pagerduty" => json!({"routing_key": TOKEN}),
        "sms" | "twilio" => json!({"to": "+4915100000000", "from": "+15550000000"}),
        _ => json!({}),
    };
    let authorization = match preset {
        "servicenow" | "twilio" => json!({"type": "basic", "username": "u", "password": "p"}),
        _ => Value::Null,
    };
    json!({
        "name": preset, "url": url, "preset": preset,
        "data": {"parameters": parameters, "authorization": authorization},
    })
}

#[test]
fn each_service_gets_a_mail_in_its_form() -> Result<()> {
    let mut stand_ins = Vec::new();
    for service in &SERVICES {
        stand_ins.push((service.preset, HookEndpoint::answering(service.answer)?));
    }
    let at: Vec<_> = stand_ins.iter().map(|(preset, at)| (*preset, at)).collect();
    let world = World::start(&at)?;
    for (service, (preset, stand_in)) in SERVICES.iter().zip(&stand_ins) {
        let url = stand_in.url().replace("/hook", service.path);
        let id = world.make(fields(preset, &url))?;
        let shown = world.shown(&format!("/endpoints/{id}"))?;
        ensure!(shown["data"]["attributes"]["preset"] == *preset, "{shown}");
        ensure!(!shown.to_string().contains(TOKEN), "a secret is shown");
    }
    world.mail()?;
    for (preset, stand_in) in &stand_ins {
        let hooks = stand_in.wait_for(1, PATIENCE);
        let hooks = hooks.with_context(|| format!("{preset}: {}", world.server.server_log()))?;
        let body = hooks[0].body.replace('+', " ");
        ensure!(body.contains("Lunch on Friday"), "{preset}: {body}");
        ensure!(hooks.len() == 1, "{preset}: {hooks:?}");
    }
    Ok(())
}

#[test]
fn an_error_in_a_success_is_none() -> Result<()> {
    let says = |body: &'static str| {
        move |_: &_| Reply {
            status: 200,
            body: body.to_owned(),
        }
    };
    let slack = HookEndpoint::answering(says("no_service"))?;
    let splunk = HookEndpoint::answering(says(r#"{"text":"Incorrect index","code":7}"#))?;
    let world = World::start(&[("slack", &slack), ("splunk", &splunk)])?;
    let in_slack = world.make(fields("slack", &slack.url()))?;
    let in_splunk = world.make(fields("splunk", &splunk.url()))?;
    world.mail()?;
    let reason = world.dead(&in_slack)?;
    ensure!(
        reason == "the service answers 2xx, and `no_service`",
        "{reason}"
    );
    let reason = world.dead(&in_splunk)?;
    ensure!(reason == "Splunk answers 2xx, and the code 7", "{reason}");
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() -> Result<()> {
    let world = World::start(&[])?;
    for (fields, pointer, detail) in [
        (
            json!({"preset": "irc"}),
            "/preset",
            "`irc` is no preset (discord,",
        ),
        (
            json!({"preset": "slack"}),
            "/url",
            "Slack is not at this URL, but at `https://hooks.slack.com/services/`",
        ),
        (
            json!({"preset": "gotify"}),
            "/preset",
            "Gotify needs `token`",
        ),
        (
            json!({"preset": "gotify", "data": {"parameters": {"token": 7}}}),
            "/data/parameters",
            "is not an object of texts",
        ),
        (
            json!({"template": "{{ message."}),
            "/template",
            "line 1, column",
        ),
        (
            json!({"template": "a\n{{ title|upper_case }}"}),
            "/template",
            "line 2, column",
        ),
        (
            json!({"template": "{{ title }}", "content_type": "text/plain\n"}),
            "/content_type",
            "is no content type",
        ),
        (json!({"preset": 7}), "/preset", "is not a text"),
        (json!({"content": "some"}), "/content", "is neither ids"),
        (json!({"content": [7]}), "/content", "is neither ids"),
        (
            json!({"driver": "kafka", "preset": "slack"}),
            "/preset",
            "is not for the driver `kafka`",
        ),
    ] {
        let mut endpoint = json!({"name": "a", "url": "https://example.org/"});
        let all = endpoint.as_object_mut().context("an object")?;
        all.extend(fields.as_object().context("an object")?.clone());
        let answer = world.refuse_or_make(endpoint)?;
        ensure!(answer.status == 422, "{fields}: {answer:?}");
        let answer: Value = serde_json::from_str(&answer.body)?;
        let errors = answer["errors"].as_array().context("no errors")?;
        let found = errors.iter().any(|error| {
            let at = error["source"]["pointer"].as_str().unwrap_or_default();
            let told = error["detail"].as_str().unwrap_or_default();
            at.ends_with(pointer) && told.contains(detail)
        });
        ensure!(found, "{fields}: {answer}");
    }
    Ok(())
}

#[test]
fn a_template_that_was_mended_mends_what_is_owed() -> Result<()> {
    let receiver = HookEndpoint::start()?;
    let world = World::start(&[])?;
    let id = world.make(json!({
        "name": "a", "url": receiver.url(), "retry_delays": vec![1; 20], "content_type": "text/plain",
        "template": "{{ message.sender }}",
    }))?;
    world.mail()?;
    let path = format!("/endpoints/{id}/attempts");
    let said = poll_until(PATIENCE, || {
        let shown = world.shown(&path).ok()?;
        let said = shown["data"][0]["attributes"].clone();
        (!said.is_null()).then_some(said)
    });
    let said = said.context("no attempt")?.to_string();
    ensure!(
        said.contains("the template line 1, column 4: undefined value"),
        "{said}"
    );
    ensure!(!said.contains(SUBJECT), "{said}");
    world.change(
        &id,
        &json!({"template": "{{ message.fromDisplayName }}: {{ title }}"}),
    )?;
    let hooks = receiver.wait_for(1, PATIENCE)?;
    ensure!(hooks[0].body == format!("Bob: Bob: {SUBJECT}"), "{hooks:?}");
    ensure!(hooks[0].header("content-type") == Some("text/plain"));
    // Without one it is sent as ever again.
    world.change(&id, &json!({"template": null, "content_type": null}))?;
    world.mail()?;
    let hooks = receiver.wait_for(2, PATIENCE)?;
    let body: Value = serde_json::from_str(&hooks[1].body)?;
    ensure!(body["message"]["uid"] == 7, "{body}");
    Ok(())
}

#[test]
fn what_an_endpoint_may_not_see_is_nowhere() -> Result<()> {
    let receiver = HookEndpoint::start()?;
    let refuses = HookEndpoint::start()?;
    refuses.answer(400);
    let world = World::start(&[])?;
    let fields = |name: &str, url: String, content: Value| {
        let template = json!({"a": 1}).to_string();
        let mut fields = json!({"name": name, "url": url, "content": content});
        if name == "template" {
            fields["template"] = template.replace('1', "{{ [title, text] }}").into();
        }
        fields
    };
    world.make(fields("ids", receiver.url(), json!("ids")))?;
    world.make(fields(
        "template",
        receiver.url(),
        json!(["user", "mailbox"]),
    ))?;
    let dies = world.make(fields("dies", refuses.url(), json!("ids")))?;
    world.mail()?;
    let hooks = receiver.wait_for(2, PATIENCE)?;
    for hook in &hooks {
        ensure!(!hook.body.contains(SUBJECT), "{hook:?}");
        ensure!(hook.body.contains("INBOX"), "{hook:?}");
    }
    world.dead(&dies)?;
    for what in ["dead_letters", "attempts"] {
        let shown = world
            .shown(&format!("/endpoints/{dies}/{what}"))?
            .to_string();
        ensure!(!shown.contains(SUBJECT), "{shown}");
    }
    ensure!(!world.server.server_log().contains(SUBJECT));
    let shown = world.shown(&format!("/endpoints/{dies}"))?;
    ensure!(shown["data"]["attributes"]["content"] == "ids", "{shown}");
    Ok(())
}
