//! What an account changes of its endpoints, and what arrives from then on.

use anyhow::{Context, Result, ensure};
use dovecast_drivers::signature::{Secret, sign};
use dovecast_testkit::endpoint::HookEndpoint;
use dovecast_testkit::process::poll_until;
use serde_json::json;

use crate::deliveries::{ARRIVAL, account, fields, messages, send};
use crate::setup::{World, cases, text};

cases![
    a_filter_decides_and_a_change_of_it_counts_at_once,
    secrets_that_were_replaced_sign_beside_the_new_one,
];

fn a_filter_decides_and_a_change_of_it_counts_at_once(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let (other, _) = account(world)?;
    let app = world.app()?;
    let (sink, others) = (HookEndpoint::start()?, HookEndpoint::start()?);
    other.endpoint(&fields(&others, &json!({})))?;
    let id = user.endpoint(&fields(&sink, &json!({"level_ids": [app.high]})))?;
    let graded = |level: &str, message: &str| {
        let more = [
            "--application",
            &app.name,
            "--event-type",
            "graded",
            "--level",
            level,
            "--message",
            message,
        ];
        send(&world.server, &number, &more)
    };
    graded("low", "1")?;
    graded("high", "2")?;
    ensure!(messages(&sink.wait_for(1, ARRIVAL)?)? == ["2"]);
    let path = format!("/endpoints/{id}");
    let change = json!({"endpoint": {"filter": {"level_ids": [app.low]}}});
    user.put(&path, &change)?.with(200)?;
    // Within a second, on this node and on others.
    let arrives = |expected: &str| {
        let arrived =
            || messages(&sink.hooks()).is_ok_and(|came| came.iter().any(|it| it == expected));
        poll_until(ARRIVAL, || arrived().then_some(())).with_context(|| format!("no {expected}"))
    };
    poll_until(ARRIVAL, || {
        graded("low", "3").ok()?;
        (sink.hooks().len() > 1).then_some(())
    })
    .context("the changed filter is not used")?;
    graded("high", "4")?;
    graded("low", "5")?;
    arrives("5")?;
    user.delete(&path)?.with(204)?;
    // One that is made afterwards: when it receives, the other is gone.
    let left = HookEndpoint::start()?;
    user.endpoint(&fields(&left, &json!({})))?;
    graded("low", "6")?;
    left.wait_for(1, ARRIVAL)?;
    graded("low", "7")?;
    left.wait_for(2, ARRIVAL)?;
    let came = messages(&sink.hooks())?;
    ensure!(!came.iter().any(|it| it == "4" || it == "7"), "{came:?}");
    ensure!(others.hooks().is_empty());
    Ok(())
}

fn secrets_that_were_replaced_sign_beside_the_new_one(world: &World) -> Result<()> {
    let (user, number) = account(world)?;
    let sink = HookEndpoint::start()?;
    let (id, first) = user.signed_endpoint(&fields(&sink, &json!({})))?;
    let mut secrets = vec![Secret::parse(&first)?];
    // The second one ends none of those before it.
    for _ in 0..2 {
        let rotated = user.post(&format!("/endpoints/{id}/secret"), &json!({}))?;
        let new = text(&rotated.with(200)?.json["meta"]["signing_secret"])?;
        secrets.insert(0, Secret::parse(&new)?);
        // What is sent before the dispatcher knows of the change has fewer signatures.
        let hook = poll_until(ARRIVAL, || {
            send(&world.server, &number, &[]).ok()?;
            let last = sink.hooks().pop()?;
            let signatures = last.header("webhook-signature")?.split(' ').count();
            (signatures == secrets.len()).then_some(last)
        });
        let hook = hook.with_context(|| format!("no delivery has {} signatures", secrets.len()))?;
        let header = |name| hook.header(name).with_context(|| format!("no {name}"));
        let expected = sign(
            &secrets,
            header("webhook-id")?,
            header("webhook-timestamp")?,
            hook.body.as_bytes(),
        );
        ensure!(header("webhook-signature")? == expected, "{hook:?}");
    }
    Ok(())
}
