//! Signals that the process gets: which end it in order, and which end nothing.

use std::task::{Context, Poll};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks the process to end, and what would end it if nobody listened.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Signals that end nothing, with what is logged of them.
    ignored: Vec<(Signal, &'static str)>,
}

/// What the process would end by, without a reason that dovecast has.
const IGNORED: [(SignalKind, &str); 4] = [
    (
        SignalKind::hangup(),
        "SIGHUP changes nothing: the configuration is read at the start, so restart dovecast to have it read again",
    ),
    (SignalKind::user_defined1(), "SIGUSR1 changes nothing"),
    (SignalKind::user_defined2(), "SIGUSR2 changes nothing"),
    (SignalKind::alarm(), "SIGALRM changes nothing"),
];

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let ignored = IGNORED.map(|(kind, told)| Ok((listen(kind)?, told)));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            ignored: ignored.into_iter().collect::<anyhow::Result<_>>()?,
        })
    }

    /// The name of the next one that ends the process. SIGHUP ends nothing: systemd would take its
    /// death by it for one in order, and leave it down.
    pub(super) async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                told = std::future::poll_fn(|context| ignored(&mut self.ignored, context)) => {
                    tracing::warn!("{told}");
                }
            }
        }
    }
}

/// What is logged of the next signal that ends nothing.
fn ignored(
    signals: &mut [(Signal, &'static str)],
    context: &mut Context<'_>,
) -> Poll<&'static str> {
    for (signal, told) in signals {
        if signal.poll_recv(context).is_ready() {
            return Poll::Ready(told);
        }
    }
    Poll::Pending
}
