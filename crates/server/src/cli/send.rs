//! Arguments of `dovecast send`, and of a notification wherever one is said.

use clap::Args;

use super::{topic, values};

#[derive(Debug, Args)]
pub(crate) struct SendArguments {
    /// Value of the record; without it standard input is read to its end
    pub(crate) value: Option<String>,
    /// Topic; by default `dovecot` for an event, and `hooks.outbox` for a notification
    #[arg(long, value_parser = topic)]
    pub(crate) topic: Option<String>,
    /// Key; by default the user of an event, and the account of a notification
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Header of the record; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    #[arg(
        long,
        conflicts_with = "account_id",
        help = "Check that the value is an event in the plugin's JSON, and add the headers of one"
    )]
    pub(crate) event: bool,
    /// How many to append (1 to 1000000), each with an id of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    #[command(flatten)]
    pub(crate) notification: NotificationArguments,
}

/// Fields of a notification, as `rake notifications:send` of hooks-backend names them. An
/// account alone makes one.
#[derive(Debug, Args)]
#[command(next_help_heading = "A notification")]
pub(crate) struct NotificationArguments {
    /// Number of the account
    #[arg(short = 'u', long, conflicts_with = "value", value_parser = name)]
    pub(crate) account_id: Option<String>,
    /// Application; by default one for tests: `TestApp`, with the event type `TestEvent` and the
    /// level `Info`
    #[arg(short = 'a', long, requires_all = ["event_type", "account_id"], value_parser = name)]
    pub(crate) application: Option<String>,
    /// Event type
    #[arg(short = 'e', long, requires = "account_id", value_parser = name)]
    pub(crate) event_type: Option<String>,
    /// Level; with an application it is null by default
    #[arg(short = 'l', long, requires = "account_id")]
    pub(crate) level: Option<String>,
    /// Time, RFC 3339; now by default
    #[arg(long, requires = "account_id", value_parser = values::time)]
    pub(crate) timestamp: Option<jiff::Timestamp>,
    /// Message, as text; `Hello world!` by default
    #[arg(short = 'm', long, requires = "account_id")]
    pub(crate) message: Option<String>,
    /// Message, as any JSON
    #[arg(long, value_name = "JSON", requires = "account_id", conflicts_with = "message", value_parser = json)]
    pub(crate) message_json: Option<Box<serde_json::value::RawValue>>,
}

/// What notifications name: no account, application or event type is called nothing.
fn name(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().any(char::is_control) {
        return Err("this is not a name: it is blank, or has control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not `NAME=VALUE`")),
    }
}

fn json(text: &str) -> Result<Box<serde_json::value::RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}
