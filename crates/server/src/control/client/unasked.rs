//! Why nobody was asked, where commands tell it apart from other errors.

/// The server does not let in who asks; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotLetIn(pub(super) String);

/// Nobody answers on the control socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot connect to `{socket}`, the control socket of a running `dovecast serve` ({what_to_do})"
)]
pub(crate) struct NoServer {
    pub(super) socket: String,
    pub(super) what_to_do: &'static str,
}
