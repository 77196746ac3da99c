//! What an endpoint would be sent, asked for: of a given notification, of a dead letter, and of one
//! that the log has.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::services::TOKEN;
use serde_json::{Value, json};

use crate::world::{World, a_mail};
use crate::{PATIENCE, SUBJECT};

#[test]
fn a_template_is_tried_before_it_is_saved_and_nothing_is_sent() -> Result<()> {
    let receiver = HookEndpoint::start()?;
    let world = World::start(&[])?;
    let id = world.make(json!({"name": "a", "url": receiver.url(), "content": "ids"}))?;
    let path = format!("/endpoints/{id}/render");
    let notification = json!({
        "application": "dovecot", "event_type": "MessageNew", "level": null, "message": a_mail(),
    });
    let ask = |endpoint: &Value| {
        let render = json!({"notification": notification, "endpoint": endpoint});
        world.ask("POST", &path, &json!({"render": render}))
    };
    for (endpoint, content_type, body) in [
        (
            json!({}),
            "application/json",
            r#""message":{"event":"MessageNew","mailbox":"INBOX","uid":7,"user":"ann@example.org"}"#,
        ),
        (
            json!({"template": "{{ title }}!", "content_type": "text/plain", "content": "all"}),
            "text/plain",
            "Bob: Lunch on Friday?!",
        ),
        (
            json!({"template": "{\"a\": {{ parameters.b }}}", "data": {"parameters": {"b": "c"}}}),
            "application/json",
            r#"{"a": "c"}"#,
        ),
    ] {
        let answer = ask(&endpoint)?;
        ensure!(answer.status == 200, "{endpoint}: {answer:?}");
        let shown: Value = serde_json::from_str(&answer.body)?;
        let shown = &shown["data"]["attributes"];
        ensure!(shown["content_type"] == content_type, "{endpoint}: {shown}");
        let text = shown["body"].as_str().unwrap_or_default();
        ensure!(text.contains(body), "{endpoint}: {shown}");
    }
    for (endpoint, detail) in [
        (json!({"template": "{{"}), "line 1, column"),
        (
            json!({"template": "{{ message.subject }}"}),
            "the template line 1, column 4: undefined value",
        ),
        (
            json!({"template": "{{ title }}!"}),
            "the template makes no JSON",
        ),
    ] {
        let answer = ask(&endpoint)?;
        ensure!(answer.status == 422, "{endpoint}: {answer:?}");
        ensure!(answer.body.contains(detail), "{endpoint}: {answer:?}");
    }
    let shown = world.shown(&format!("/endpoints/{id}"))?;
    ensure!(shown["data"]["attributes"]["template"].is_null(), "{shown}");
    ensure!(receiver.count() == 0);
    Ok(())
}

#[test]
fn a_dead_letter_is_rendered_with_a_template_that_is_mended() -> Result<()> {
    let refuses = HookEndpoint::start()?;
    refuses.answer(400);
    let world = World::start(&[])?;
    let id = world.make(json!({"name": "a", "url": refuses.url()}))?;
    let other = world.make(json!({"name": "b", "url": refuses.url(), "active": false}))?;
    world.mail()?;
    world.dead(&id)?;
    let letters = world.shown(&format!("/endpoints/{id}/dead_letters"))?;
    let letter = &letters["data"][0]["attributes"];
    let template = json!({"template": "{{ title }}!", "content_type": "text/plain"});
    let ask = |endpoint: &str, notification: &Value| {
        let render = json!({"render": {"notification": notification, "endpoint": template}});
        world.ask("POST", &format!("/endpoints/{endpoint}/render"), &render)
    };
    for name in ["notification", "webhook_id"] {
        let answer = ask(&id, &letter[name])?;
        ensure!(answer.status == 200, "{name}: {answer:?}");
        let answer: Value = serde_json::from_str(&answer.body)?;
        ensure!(
            answer["data"]["attributes"]["body"] == format!("Bob: {SUBJECT}!"),
            "{answer}"
        );
    }
    for (endpoint, notification, status, why) in [
        (&other, &letter["webhook_id"], 404, ""),
        (&id, &json!("msg_1"), 422, "`msg_1` is neither"),
        (&id, &json!(7), 400, "invalid type"),
    ] {
        let answer = ask(endpoint, notification)?;
        ensure!(
            answer.status == status && answer.body.contains(why),
            "{notification}: {answer:?}"
        );
    }
    Ok(())
}

#[test]
fn a_notification_that_was_delivered_is_rendered_as_long_as_the_log_has_it() -> Result<()> {
    let receiver = HookEndpoint::start()?;
    let world = World::start(&[])?;
    let id = world.make(json!({"name": "a", "url": receiver.url()}))?;
    let ids = json!({"name": "b", "url": receiver.url(), "content": "ids", "active": false});
    let ids = world.make(ids)?;
    world.notify("MailboxCreate", &json!({"mailbox": "other"}))?;
    world.mail()?;
    let hooks = receiver.wait_for(2, PATIENCE)?;
    let of_mail = hooks.iter().find(|hook| hook.body.contains(SUBJECT));
    let name = of_mail.and_then(|hook| hook.header("webhook-id"));
    let name = name.context("no mail has come")?.to_owned();
    let notification = name.split('_').nth(1).context("no id")?;
    let template = json!({"template": "{{ title }}!", "content_type": "text/plain"});
    let path = |endpoint: &str| format!("/endpoints/{endpoint}/render");
    let render = |notification: &str| json!({"render": {"notification": notification, "endpoint": template}});
    for (endpoint, asked, body) in [
        (&id, &*name, format!("Bob: {SUBJECT}!")),
        (&id, notification, format!("Bob: {SUBJECT}!")),
        // What it may not see is not rendered either.
        (
            &ids,
            notification,
            "New mail in INBOX of ann@example.org!".to_owned(),
        ),
    ] {
        let answer = world.ask("POST", &path(endpoint), &render(asked))?;
        ensure!(answer.status == 200, "{asked}: {answer:?}");
        let answer: Value = serde_json::from_str(&answer.body)?;
        let shown = &answer["data"]["attributes"]["body"];
        ensure!(*shown == body, "{asked}: {answer}");
    }
    // It is of this endpoint; and nothing was ever sent with another id.
    let unknown = "0190a0b1-c2d3-7e4f-8a5b-6c7d8e9f0a1b";
    for (endpoint, asked) in [(&ids, &*name), (&id, unknown)] {
        let answer = world.ask("POST", &path(endpoint), &render(asked))?;
        ensure!(answer.status == 404, "{asked}: {answer:?}");
    }
    // Another account has no such notification.
    let token = world.server.account_token("2")?;
    let fields = json!({"endpoint": {"name": "c", "url": receiver.url(), "filter": {}}});
    let made = world.ask_as(&token, ("POST", "/endpoints"), &fields)?;
    let made: Value = serde_json::from_str(&made.body)?;
    let own = made["data"]["id"].as_str().context("no id")?;
    let answer = world.ask_as(&token, ("POST", &path(own)), &render(notification))?;
    ensure!(answer.status == 404, "{answer:?}");
    ensure!(!answer.body.contains(SUBJECT), "{answer:?}");
    ensure!(receiver.count() == 2, "a rendering was sent");
    Ok(())
}

#[test]
fn parameters_are_shown_by_no_rendering_and_templates_are_for_who_may() -> Result<()> {
    let receiver = HookEndpoint::start()?;
    let world = World::start(&[])?;
    let parameters = json!({"parameters": {"token": TOKEN}});
    let id = world.make(json!({"name": "a", "url": receiver.url(), "data": parameters}))?;
    let render = json!({"render": {
        "notification": {"application": "a", "event_type": "e", "level": null},
        "endpoint": {"template": "{{ parameters.token }}", "content_type": "text/plain"},
    }});
    let answer = world.ask("POST", &format!("/endpoints/{id}/render"), &render)?;
    ensure!(
        answer.status == 200 && !answer.body.contains(TOKEN),
        "{answer:?}"
    );

    let world =
        World::with("[dispatch]\nallowed_networks = ['127.0.0.0/8']\naccount_templates = false\n")?;
    let fields = json!({"name": "a", "url": receiver.url(), "template": "{}"});
    let answer = world.refuse_or_make(fields)?;
    ensure!(
        answer.status == 422 && answer.body.contains("account_templates"),
        "{answer:?}"
    );
    Ok(())
}
