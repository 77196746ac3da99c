//! What webhooks are sent instead of the form of hooks-backend: that of each service that has a
//! preset, that of a template, and as much of a mail as the endpoint may see.

mod mails;
mod rendering;
mod world;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::{HookEndpoint, Reply};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::services::{SERVICES, TOKEN, example};
use serde_json::{Value, json};
use world::World;

const PATIENCE: std::time::Duration = dovecast_testkit::PATIENCE;
/// Stands in the subject and the snippet of the mail.
const SUBJECT: &str = "Lunch on Friday?";

#[test]
fn each_service_gets_a_mail_in_its_form_by_the_example_of_its_page() -> Result<()> {
    let mut stand_ins = Vec::new();
    for service in &SERVICES {
        stand_ins.push((service.preset, HookEndpoint::answering(service.answer)?));
    }
    let at: Vec<_> = stand_ins.iter().map(|(preset, at)| (*preset, at)).collect();
    let world = World::start(&at)?;
    for (service, (preset, stand_in)) in SERVICES.iter().zip(&stand_ins) {
        let url = stand_in.url().replace("/hook", service.path);
        let id = world.make(example(preset, &url)?)?;
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
    let in_slack = world.make(example("slack", &slack.url())?)?;
    let in_splunk = world.make(example("splunk", &splunk.url())?)?;
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
        (json!({"content": "some"}), "/content", "is none of `ids`"),
        (json!({"content": [7]}), "/content", "is none of `ids`"),
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

/// Templates whose steps are few, and which take all memory or all time there is.
const HARMFUL: [&str; 4] = [
    // Twice as long each time.
    "{% set a = title %}{% for i in range(60) %}{% set a = a ~ a %}{% set ns = namespace(a=a) %}{% endfor %}{% set b = namespace(t=title ~ 'x') %}{% for i in range(60) %}{% set b.t = b.t ~ b.t %}{% endfor %}{{ b.t|length }}",
    // What is written is kept, and not sent.
    "{% set x %}{% for i in range(9000) %}{{ ('%100000d')|format(i) }}{% endfor %}{% endset %}{{ x|length }}",
    // A list of the same lists, which is small, and its text, which is not.
    "{% set b = namespace(t=['xxxxxxxxxxxxxxxx']) %}{% for i in range(30) %}{% set b.t = [b.t, b.t, b.t, b.t] %}{% endfor %}{{ (b.t ~ '')|length }}",
    "{% set b = namespace(t='x') %}{% for i in range(60) %}{% set b.t = b.t ~ b.t %}{% endfor %}{{ b.t|length }}",
];

#[test]
fn a_template_that_means_harm_costs_its_own_attempts() -> Result<()> {
    let receiver = HookEndpoint::start()?;
    let world = World::start(&[])?;
    let bytes_before = world.memory()?;
    let id =
        world.make(json!({"name": "a", "url": receiver.url(), "content_type": "text/plain"}))?;
    for template in HARMFUL {
        let answer = world.ask(
            "PUT",
            &format!("/endpoints/{id}"),
            &json!({"endpoint": {"template": template}}),
        )?;
        // It is found out when it is saved, or else by the first notification.
        ensure!(
            [200, 422].contains(&answer.status),
            "{template}: {answer:?}"
        );
        let render = json!({"render": {"notification": {
            "application": "a", "event_type": "e", "level": null, "message": 1,
        }, "endpoint": {"template": template}}});
        let answer = world.ask("POST", &format!("/endpoints/{id}/render"), &render)?;
        ensure!(answer.status == 422, "{template}: {answer:?}");
        let is_named = ["MiB of memory", "takes longer", "more than", "steps"]
            .iter()
            .any(|why| answer.body.contains(why));
        ensure!(is_named, "{template}: {answer:?}");
    }
    // Others go on, and the server is none the larger.
    let template = json!({"template": "{{ title }}", "content_type": "text/plain"});
    let good = json!({"name": "b", "url": receiver.url()});
    let good = world.make(good)?;
    world.change(&good, &template)?;
    world.change(&id, &json!({"template": null, "active": false}))?;
    world.mail()?;
    let hooks = receiver.wait_for(1, PATIENCE)?;
    ensure!(hooks[0].body == format!("Bob: {SUBJECT}"), "{hooks:?}");
    let grown = world.memory()?.saturating_sub(bytes_before);
    ensure!(grown < 64 * 1024 * 1024, "{grown} bytes more");
    let deaths = world.metric("dovecast_dispatch_template_deaths_total")?;
    ensure!(deaths >= 1.0, "{deaths} processes have died");
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
