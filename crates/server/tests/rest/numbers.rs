//! Metrics that people look for: how long deliveries take, what endpoints answer, what is owed.

use anyhow::{Context, Result, ensure};
use dovecast_testkit::endpoint::HookEndpoint;
use serde_json::json;

use crate::deliveries::{ARRIVAL, fields, send};
use crate::setup::{World, bearer, cases, delivering};

cases![attempts_deliveries_and_what_is_owed_are_counted_by_few_labels];

fn attempts_deliveries_and_what_is_owed_are_counted_by_few_labels(world: &World) -> Result<()> {
    let (builder, _) = world.fresh()?;
    let server = delivering(builder).start()?;
    let admin = bearer(&server, &server.admin_token()?);
    let token = json!({"token": {"name": "t", "account_number": "7"}});
    let token = admin.post("/tokens", &token)?.with(201)?;
    let token = token.json["meta"]["token"].as_str().context("no token")?;
    let user = bearer(&server, token);
    let (good, bad) = (HookEndpoint::start()?, HookEndpoint::start()?);
    bad.answer(503);
    user.endpoint(&fields(&good, &json!({})))?;
    let mut failing = fields(&bad, &json!({}));
    failing["retry_delays"] = json!([86_400]);
    let failing = user.endpoint(&failing)?;
    send(&server, "7", &["--message", "first"])?;
    good.wait_for(1, ARRIVAL)?;
    let owed = format!("dovecast_dispatch_endpoint_owed_deliveries{{endpoint=\"{failing}\"}}");
    for (sample, expected) in [
        (
            "dovecast_dispatch_attempt_seconds_count{status=\"2xx\"}",
            1.0,
        ),
        (
            "dovecast_dispatch_attempt_seconds_count{status=\"5xx\"}",
            1.0,
        ),
        (
            "dovecast_dispatch_attempt_seconds_count{status=\"none\"}",
            0.0,
        ),
        (
            "dovecast_dispatch_attempt_seconds_bucket{status=\"2xx\",le=\"+Inf\"}",
            1.0,
        ),
        ("dovecast_dispatch_delivery_seconds_count", 1.0),
    ] {
        server.metric_is(sample, |value| value.to_bits() == f64::to_bits(expected))?;
    }
    // Counted every ten seconds.
    for sample in ["dovecast_dispatch_owed_deliveries", &owed] {
        server.metric_is(sample, |value| value.to_bits() == 1_f64.to_bits())?;
    }
    for sample in [
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        ensure!(server.metric(sample)? > 0.0, "{sample}");
    }
    server.metric("process_cpu_seconds_total")?;
    Ok(())
}
