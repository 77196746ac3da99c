//! What systemd is told (`Type=notify`). Without systemd nothing is.

use std::convert::Infallible;
use std::future;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

/// The sockets answer.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The server is being stopped.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the runtime goes on, twice as often as the unit's `WatchdogSec` asks for.
pub(super) async fn keep_alive() -> Infallible {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return future::pending().await;
    };
    let mut interval = tokio::time::interval(limit / 2);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd of the state of the server");
    }
}
