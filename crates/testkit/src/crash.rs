//! A server that is killed while it takes and delivers notifications as fast as it can, and started
//! again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::PATIENCE;
use crate::endpoint::{Hook, HookEndpoint};
use crate::load::{Load, LoadOptions, Sent};
use crate::process::poll_until;
use crate::server::Builder;

/// How it is done.
#[derive(Clone, Copy, Debug)]
pub struct CrashOptions {
    /// Requests under way at a time.
    pub connections: usize,
    /// Notifications of each request.
    pub batch: u64,
    /// The server is killed when it has accepted so many.
    pub accepted: u64,
    /// Bytes of each message, about.
    pub message_bytes: usize,
}

/// What became of it.
#[derive(Debug)]
pub struct Crash {
    /// Notifications that the server has accepted: they are the ones that count.
    pub accepted: usize,
    /// Per second, until it was killed.
    pub accepted_per_second: f64,
    /// Requests that were under way when it was killed.
    pub unanswered: usize,
    /// Webhooks that had come by then.
    pub delivered_before: usize,
    /// Accepted, and never arrived.
    pub lost: usize,
    /// Arrived again, with the `webhook-id` that they had the first time.
    pub duplicates: usize,
    /// Arrived again with another one: nobody can tell.
    pub unrecognisable: usize,
    /// From the start of the new process until it is ready.
    pub ready: Duration,
    /// From the start of the new process until everything that was accepted has arrived.
    pub all_delivered: Duration,
}

/// Kills it in the middle. The server delivers to loopback.
pub fn at_saturation(builder: Builder, options: CrashOptions) -> Result<Crash> {
    let builder = builder.config("[dispatch]\nallowed_networks = ['127.0.0.0/8']");
    let mut server = builder.start()?;
    let sink = HookEndpoint::start()?;
    let token = server.account_token("load")?;
    server.endpoint(&token, ("sink", &sink.url()), "true")?;
    let began = Instant::now();
    let load = Load::start(
        server.address()?,
        &token,
        &LoadOptions {
            connections: options.connections,
            most: None,
            batch: options.batch,
            message_bytes: options.message_bytes,
        },
    )?;
    let saturated = poll_until(PATIENCE, || {
        (load.accepted() >= options.accepted).then_some(())
    });
    saturated.with_context(|| format!("{} were accepted", load.accepted()))?;
    server.kill()?;
    let took = began.elapsed();
    let sent = load.wait()?;
    let delivered_before = sink.count();
    let restarted = Instant::now();
    server.start_again()?;
    let ready = restarted.elapsed();
    let last = wait_for_all(&sink, &sent);
    // What is under way ends, and comes twice if it has to.
    server.stop()?;
    let hooks = sink.hooks();
    let counted = Counted::of(&hooks);
    let is_lost = |id: &&String| !counted.notifications.contains(id.as_str());
    Ok(Crash {
        accepted: sent.accepted.len(),
        accepted_per_second: per_second(sent.accepted.len(), took),
        unanswered: sent.unanswered,
        delivered_before,
        lost: sent.accepted.iter().filter(is_lost).count(),
        duplicates: hooks.len() - counted.webhook_ids,
        unrecognisable: counted.webhook_ids - counted.numbers,
        ready,
        all_delivered: last.saturating_duration_since(restarted),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Waits until all have come, or long enough; when the last one came.
fn wait_for_all(sink: &HookEndpoint, sent: &Sent) -> Instant {
    let mut missing: HashSet<&str> = sent.accepted.iter().map(String::as_str).collect();
    let (mut seen, mut last) = (0, Instant::now());
    // What is still missing then is counted by who asks.
    let _ = poll_until(PATIENCE, || {
        for hook in sink.hooks_after(seen) {
            seen += 1;
            if missing.remove(notification(&hook)) {
                last = hook.arrived;
            }
        }
        missing.is_empty().then_some(())
    });
    last
}

/// The notification in a `webhook-id`: `msg_NOTIFICATION_ENDPOINT`.
fn notification(hook: &Hook) -> &str {
    let id = hook.header("webhook-id").unwrap_or_default();
    id.split('_').nth(1).unwrap_or_default()
}

/// Different things among webhooks.
struct Counted<'a> {
    notifications: HashSet<&'a str>,
    webhook_ids: usize,
    /// Different numbers of the load's messages.
    numbers: usize,
}

impl<'a> Counted<'a> {
    fn of(hooks: &'a [Hook]) -> Self {
        let (mut numbers, mut webhook_ids) = (HashSet::new(), HashSet::new());
        for hook in hooks {
            webhook_ids.insert(hook.header("webhook-id").unwrap_or_default());
            let number = hook.body.split("\"number\":").nth(1).unwrap_or_default();
            let number = number.split(',').next().unwrap_or_default();
            numbers.insert(number);
        }
        Self {
            notifications: hooks.iter().map(notification).collect(),
            webhook_ids: webhook_ids.len(),
            numbers: numbers.len(),
        }
    }
}
