//! Arguments of the commands that list and change what is registered: `apps`, `endpoints`,
//! `filters`, `tokens`. Without a subcommand each of them lists.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;
use uuid::Uuid;

use super::{Begin, JsonArguments, values};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct AppsArguments {
    #[command(flatten)]
    pub(crate) list: JsonArguments,
    #[command(subcommand)]
    pub(crate) act: Option<AppsAct>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AppsAct {
    /// List the applications with their event types and levels
    List(JsonArguments),
    /// Register an application, or change its registration
    #[command(visible_aliases = ["add", "change"])]
    Register(RegisterArguments),
    /// Remove an application with its event types and levels
    Remove(NamedArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RegisterArguments {
    /// File with the registration as the REST API takes it, in YAML or JSON; `-` for standard input
    pub(crate) file: PathBuf,
    #[arg(long, help = "Print what would change, and change nothing")]
    pub(crate) dry_run: bool,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

/// What is removed.
#[derive(Debug, Args)]
pub(crate) struct NamedArguments {
    /// Name or id
    pub(crate) name: String,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EndpointsArguments {
    #[command(flatten)]
    pub(crate) list: EndpointListArguments,
    #[command(subcommand)]
    pub(crate) act: Option<EndpointsAct>,
}

#[derive(Debug, Args)]
pub(crate) struct EndpointListArguments {
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
    /// Print the endpoints of this account only
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account_id: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EndpointsAct {
    /// List endpoints with their state
    List(EndpointListArguments),
    /// Show the attributes of an endpoint
    Show(EndpointArguments),
    /// Create an endpoint, and print the secret that its webhooks are signed with
    Add(AddEndpointArguments),
    /// Change attributes of an endpoint
    Change(ChangeEndpointArguments),
    /// Delete an endpoint and its filter
    Remove(EndpointArguments),
    /// Send a test notification to an endpoint: one attempt, now
    Test(EndpointArguments),
    /// Print what an endpoint would be sent of a notification, and send nothing
    Render(RenderArguments),
    /// Give an endpoint a new signing secret, and print it; the old one is valid for 24 hours more
    RotateSecret(EndpointArguments),
}

#[derive(Debug, Args)]
pub(crate) struct EndpointArguments {
    /// Id of the endpoint
    #[arg(value_parser = values::endpoint)]
    pub(crate) endpoint: Uuid,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddEndpointArguments {
    /// Number of the account; it is created if it does not exist
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account_id: String,
    #[command(flatten)]
    pub(crate) attributes: AttributeArguments,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeEndpointArguments {
    /// Id of the endpoint
    #[arg(value_parser = values::endpoint)]
    pub(crate) endpoint: Uuid,
    #[command(flatten)]
    pub(crate) attributes: AttributeArguments,
}

#[derive(Debug, Args)]
pub(crate) struct RenderArguments {
    /// Id of the endpoint
    #[arg(value_parser = values::endpoint)]
    pub(crate) endpoint: Uuid,
    /// The notification: its id, a `webhook-id`, its JSON as in `hooks.outbox`, or the JSON of an
    /// event
    pub(crate) notification: String,
    /// Where to begin to search the log for an id, as for `tail`; by default at the time in the id
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Option<Begin>,
    /// Tried, and not saved
    #[command(flatten)]
    pub(crate) attributes: AttributeArguments,
}

/// Attributes of an endpoint, as the REST API takes them.
#[derive(Debug, Args)]
pub(crate) struct AttributeArguments {
    /// Name, unique in the account
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Where webhooks are sent: `http://` or `https://`
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Another attribute, such as `paused=true`, `rate_limit=5` or `timeout_seconds=null`: a value
    /// is JSON, or else text; `@FILE` has the JSON of a file, `@-` that of standard input; may be
    /// repeated
    #[arg(long = "set", value_name = "ATTRIBUTE=VALUE", value_parser = attribute)]
    pub(crate) set: Vec<(String, Value)>,
    /// File with the attribute `data` as JSON (headers, credentials, certificates); `-` for
    /// standard input. Do not put secrets on the command line: other users can see them
    #[arg(long, value_name = "FILE")]
    pub(crate) data: Option<PathBuf>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct FiltersArguments {
    #[command(flatten)]
    pub(crate) list: FilterListArguments,
    #[command(subcommand)]
    pub(crate) act: Option<FiltersAct>,
}

#[derive(Debug, Args)]
pub(crate) struct FilterListArguments {
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
    /// Print the filter of this endpoint only
    #[arg(long, value_name = "ID", value_parser = values::endpoint)]
    pub(crate) endpoint: Option<Uuid>,
    /// Print the filters of this account only
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account_id: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FiltersAct {
    /// List the filters of endpoints, in words
    List(FilterListArguments),
    /// Give an endpoint a filter, or change it
    #[command(visible_aliases = ["add", "change"])]
    Set(SetFilterArguments),
    /// Remove the filter of an endpoint, which receives nothing then
    Remove(EndpointArguments),
}

/// A filter. What is not given stays as it is; a new filter matches everything of the account.
#[derive(Debug, Args)]
pub(crate) struct SetFilterArguments {
    /// Id of the endpoint
    #[arg(value_parser = values::endpoint)]
    pub(crate) endpoint: Uuid,
    /// Application to match; may be repeated. If one of `--app`, `--event-type` and `--level` is
    /// given, all three sets are replaced, and a set without members matches anything
    #[arg(long = "app", value_name = "NAME")]
    pub(crate) apps: Vec<String>,
    /// Event type to match; may be repeated
    #[arg(long = "event-type", value_name = "APP/TYPE")]
    pub(crate) event_types: Vec<String>,
    /// Level to match; may be repeated
    #[arg(long = "level", value_name = "APP/TYPE/LEVEL")]
    pub(crate) levels: Vec<String>,
    #[arg(
        long,
        conflicts_with_all = ["apps", "event_types", "levels"],
        help = "Match any application, event type and level"
    )]
    pub(crate) anything: bool,
    /// CEL expression that must hold, too; empty for none
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) condition: Option<String>,
    /// Whether the filter matches anything at all
    #[arg(long, value_name = "BOOL")]
    pub(crate) enabled: Option<bool>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TokensArguments {
    #[command(flatten)]
    pub(crate) list: JsonArguments,
    #[command(subcommand)]
    pub(crate) act: Option<TokensAct>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokensAct {
    /// List the API tokens, without the tokens themselves
    List(JsonArguments),
    /// Create an API token, and print it: it is not shown again
    Add(AddTokenArguments),
    /// Change the name, the applications or the end of an API token
    Change(ChangeTokenArguments),
    /// Delete an API token, which is refused from now on
    Remove(TokenArguments),
}

#[derive(Debug, Args)]
pub(crate) struct AddTokenArguments {
    /// Name for people
    pub(crate) name: String,
    /// What the token allows: `admin`, `registration`, `send`, `person` or `account`
    #[arg(long, default_value = "account")]
    pub(crate) scope: String,
    /// Number of the account, with the scope `account`
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account_id: Option<String>,
    /// Context of the person, with the scope `person`
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// User of the person in the context, with the scope `person`
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Login of the person at the mail server, with the scope `person`, where it is not
    /// `user@context`
    #[arg(long)]
    pub(crate) login: Option<String>,
    /// Application that the token registers (scope `registration`) or sends for (scope `send`); may
    /// be repeated
    #[arg(long = "application", value_name = "NAME")]
    pub(crate) applications: Vec<String>,
    /// Time from which the token is refused, RFC 3339; by default it does not expire
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) expires: Option<jiff::Timestamp>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

/// What is not given stays as it is.
#[derive(Debug, Args)]
pub(crate) struct ChangeTokenArguments {
    /// Id of the token
    #[arg(value_parser = values::token)]
    pub(crate) token: Uuid,
    /// Name for people
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Application that the token registers or sends for, in place of those that it has; may be
    /// repeated
    #[arg(long = "application", value_name = "NAME")]
    pub(crate) applications: Vec<String>,
    #[arg(
        long,
        conflicts_with = "applications",
        help = "Take all applications from the token"
    )]
    pub(crate) no_applications: bool,
    /// Time from which the token is refused, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub(crate) expires: Option<jiff::Timestamp>,
    #[arg(long, conflicts_with = "expires", help = "Let the token not expire")]
    pub(crate) no_expiry: bool,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// Id of the token
    #[arg(value_parser = values::token)]
    pub(crate) token: Uuid,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

fn attribute(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            let json = serde_json::from_str(value);
            Ok((name.to_owned(), json.unwrap_or_else(|_| value.into())))
        }
        _ => Err(format!("`{text}` is not `ATTRIBUTE=VALUE`")),
    }
}
