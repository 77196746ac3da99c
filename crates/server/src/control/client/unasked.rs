//! Errors of a request that commands tell apart from others.

/// The server refuses the caller; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotLetIn(pub(super) String);

/// No server answers on the control socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot connect to `{socket}`, the control socket of a running `dovecast serve` ({what_to_do})"
)]
pub(crate) struct NoServer {
    pub(super) socket: String,
    pub(super) what_to_do: &'static str,
}
