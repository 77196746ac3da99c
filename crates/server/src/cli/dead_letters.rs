//! Arguments of `dovecast dead-letters`, which lists without a subcommand.

use clap::{Args, Subcommand};
use dovecast_operations::NotificationName;
use jiff::Timestamp;
use uuid::Uuid;

use super::{DeliveryArguments, values};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DeadLettersArguments {
    /// List those of this endpoint only
    #[arg(long, value_name = "ID", value_parser = values::endpoint)]
    pub(crate) endpoint: Option<Uuid>,
    #[command(flatten)]
    pub(crate) list: DeliveryArguments,
    #[command(subcommand)]
    pub(crate) act: Option<DeadLettersAct>,
}

/// What `drop` takes: one notification, or those since a time.
const DROP_USAGE: &str = "dovecast dead-letters drop <ENDPOINT> <NOTIFICATION>
       dovecast dead-letters drop <ENDPOINT> --since <TIME>";

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersAct {
    /// Drop dead letters of an endpoint: they are not delivered any more
    #[command(override_usage = DROP_USAGE)]
    Drop(DropArguments),
}

#[derive(Debug, Args)]
pub(crate) struct DropArguments {
    /// Id of the endpoint
    #[arg(value_parser = values::endpoint)]
    pub(crate) endpoint: Uuid,
    /// Id of the notification, or a `webhook-id`
    #[arg(required_unless_present = "since")]
    pub(crate) notification: Option<NotificationName>,
    /// Drop all dead letters of the endpoint since this time, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "notification", value_parser = values::time)]
    pub(crate) since: Option<Timestamp>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}
