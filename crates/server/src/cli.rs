//! The command line.

mod accounts;
mod begin;
mod bench;
mod config;
mod dead_letters;
mod deliveries;
mod doctor;
mod exit_codes;
mod import_dovecot;
mod import_ox;
mod plan;
mod push;
mod pushusers;
mod registry;
mod secrets;
mod send;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dovecast_event::EventSet;
use dovecast_operations::NotificationName;
use jiff::Timestamp;

pub(crate) use accounts::{AccountArguments, AccountsAct, AccountsArguments};
pub(crate) use begin::Begin;
pub(crate) use bench::{BenchArguments, DispatchArguments, Subject};
pub(crate) use config::ConfigArguments;
pub(crate) use dead_letters::{DeadLettersAct, DeadLettersArguments, DropArguments};
pub(crate) use deliveries::{AttemptsArguments, DeliveryArguments};
pub(crate) use doctor::DoctorArguments;
pub(crate) use exit_codes::{code_of_wrong_line, exit_codes};
pub(crate) use import_dovecot::ImportDovecotArguments;
pub(crate) use import_ox::ImportOxArguments;
pub(crate) use plan::PlanArguments;
pub(crate) use push::{PushAct, PushArguments, PushDevicesArguments};
pub(crate) use pushusers::PushUsersArguments;
pub(crate) use registry::*;
pub(crate) use secrets::{SecretsArguments, SecretsSubject};
pub(crate) use send::{NotificationArguments, SendArguments};

/// Carries mail-store events out of Dovecot, and notifications to webhooks.
#[derive(Debug, Parser)]
#[command(
    name = "dovecast",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 the command line is wrong. Of `doctor`: 0 nothing is wrong, 1 warnings, 2 problems, 3 nothing could be checked, or the command line is wrong. Of `pushusers`: 1 also where the command line is wrong, 3 `--strict` and no such registration, 255 user and password are refused."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: ServerPlace,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The server that a command is about.
#[derive(Debug, Args)]
pub(crate) struct ServerPlace {
    /// Configuration file; without it all settings have their defaults
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory, instead of `data_dir` of the configuration
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// What `redeliver` takes: one notification, those since a time, or all.
const REDELIVER_USAGE: &str = "dovecast redeliver <ENDPOINT> <NOTIFICATION> [--from <PLACE>]
       dovecast redeliver <ENDPOINT> --since <TIME>
       dovecast redeliver <ENDPOINT> --all";

/// Name of the command that lists who is pushed to; it ends with 1 where its line is wrong.
pub(crate) const PUSHUSERS: &str = "pushusers";
/// Name of the command that renders templates of accounts.
pub(crate) const TEMPLATE_HOST: &str = "template-host";
/// Name of the command that runs a script of the driver `lua`.
pub(crate) const LUA_HOST: &str = "lua-host";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve,
    /// Print the default configuration, or check a configuration file
    Config(ConfigArguments),
    /// Follow a topic
    Tail(TailArguments),
    /// List the topics of the log, or remove one
    Topics(TopicsArguments),
    /// List the consumer groups and their positions
    Groups(ListArguments),
    /// Append a record, an event or a notification
    Send(SendArguments),
    /// List endpoints, create, change, test or remove one
    Endpoints(EndpointsArguments),
    /// List the latest attempts at an endpoint
    Attempts(AttemptsArguments),
    /// List the latest dead letters, with the reason, or drop some
    DeadLetters(DeadLettersArguments),
    /// Deliver again a dead letter, or a notification that is still in the log
    #[command(override_usage = REDELIVER_USAGE)]
    Redeliver(RedeliverArguments),
    /// List the applications with their event types and levels, register or remove one
    Apps(AppsArguments),
    /// List the filters of endpoints, in words, change or remove one
    Filters(FiltersArguments),
    /// List the API tokens, create, change or delete one
    Tokens(TokensArguments),
    /// List the accounts, show, close or reopen one
    Accounts(AccountsArguments),
    /// Show which endpoints of its account receive a notification, and why others do not
    Explain(ExplainArguments),
    /// List or replace the keys that secrets of endpoints are sealed with
    Secrets(SecretsArguments),
    /// List whose mailboxes are heard for mail push, and registered clients; unregister one
    #[command(name = PUSHUSERS, override_usage = pushusers::USAGE)]
    PushUsers(PushUsersArguments),
    /// Test devices of a person, list them, or say why one did not ring
    Push(PushArguments),
    /// Print what an installation of a given size takes
    Plan(PlanArguments),
    /// Measure a running server
    Bench(BenchArguments),
    /// Check the Dovecot and the server of this host, and say what is wrong with them
    Doctor(DoctorArguments),
    /// Print drivers of Dovecot's plugin push_notification as a part of dovecast.toml
    ImportDovecot(ImportDovecotArguments),
    /// Print Open-Xchange's properties of mail push as a part of dovecast.toml
    ImportOx(ImportOxArguments),
    /// Write a manual page for each command into a directory
    #[command(hide = true)]
    Manual(ManualArguments),
    /// Render templates of accounts for a server, which starts this itself
    #[command(hide = true, name = TEMPLATE_HOST)]
    TemplateHost,
    /// Run a Lua script of push notifications for a server, which starts this itself
    #[cfg(feature = "lua")]
    #[command(hide = true, name = LUA_HOST)]
    LuaHost,
}

#[derive(Debug, Args)]
pub(crate) struct ManualArguments {
    /// Directory of the pages; made if it is not there
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
    #[arg(long, help = "With Kafka: list the spool of this host")]
    pub(crate) spool: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TopicsArguments {
    #[command(flatten)]
    pub(crate) list: ListArguments,
    #[arg(
        long,
        value_name = "TOPIC",
        conflicts_with_all = ["json", "spool"],
        help = "Remove a topic of the embedded log or spool, with all its records"
    )]
    pub(crate) remove: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArguments {
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RedeliverArguments {
    /// Id of the endpoint
    #[arg(value_parser = values::endpoint)]
    pub(crate) endpoint: uuid::Uuid,
    /// Id of the notification, or a `webhook-id`
    #[arg(required_unless_present_any = ["since", "all"])]
    pub(crate) notification: Option<NotificationName>,
    /// Deliver again all dead letters of the endpoint since this time, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "notification", value_parser = values::time)]
    pub(crate) since: Option<Timestamp>,
    #[arg(
        long,
        conflicts_with_all = ["notification", "since"],
        help = "Deliver again all dead letters of the endpoint, and try at once what it owes for later"
    )]
    pub(crate) all: bool,
    /// Where to begin to search the log for what is not a dead letter, as for `tail`; by default at
    /// the time in the id
    #[arg(long, value_name = "PLACE", conflicts_with_all = ["since", "all"])]
    pub(crate) from: Option<Begin>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
    /// Where to begin to search the log for an id, as for `tail`; by default at the time in the id
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Option<Begin>,
    #[command(flatten)]
    pub(crate) notification: ExplainedArguments,
}

/// The notification that is explained.
#[derive(Debug, Args)]
#[command(next_help_heading = "A notification")]
pub(crate) struct ExplainedArguments {
    /// The notification: its JSON as in `hooks.outbox`, the JSON of an event, its id, or a
    /// `webhook-id`
    #[arg(required_unless_present = "account_id")]
    pub(crate) value: Option<String>,
    #[command(flatten)]
    pub(crate) fields: NotificationArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TailArguments {
    /// Topic to follow; it need not exist yet
    #[arg(long, default_value = "dovecot", value_parser = topic)]
    pub(crate) topic: String,
    /// Where to begin: `beginning`, `end`, `last:N` (N records before the end of each partition),
    /// or an RFC 3339 time
    #[arg(long, default_value = "end", value_name = "PLACE")]
    pub(crate) from: Begin,
    /// End after this many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[arg(long, help = "End where the topic ends now, instead of waiting")]
    pub(crate) until_end: bool,
    /// Show events of this user only
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Show events of these kinds only, separated by commas
    #[arg(long, value_name = "KINDS", value_parser = EventSet::parse)]
    pub(crate) kind: Option<EventSet>,
    /// Show events of this mailbox only
    #[arg(long)]
    pub(crate) mailbox: Option<String>,
    /// Output: `pretty`, a line for people; `json`, all of a record; `raw`, the value as it is
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Pretty,
    Json,
    Raw,
}

/// The name of a topic, as the log has it.
fn topic(text: &str) -> Result<String, String> {
    crate::config::check_topic(text)?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// Command lines that make no sense, and a part of what is said of each.
    const SENSELESS: &[(&str, &str)] = &[
        (
            "tail --from yesterday",
            "`yesterday` is none of `beginning`, `end`, `last:N` and an RFC 3339 time",
        ),
        ("tail --from last:", "`last:` is none of"),
        ("tail --count 0", "0 is not in 1.."),
        ("dead-letters --limit 0", "0 is not in 1.."),
        (
            "attempts x",
            "`x` is no id of an endpoint (a UUID): `dovecast endpoints` lists them",
        ),
        ("dead-letters --endpoint x", "`x` is no id of an endpoint"),
        ("tokens remove x", "`x` is no id of a token (a UUID)"),
        (
            "tokens add a --scope admin --expires yesterday",
            "`yesterday` is no time, expected one of RFC 3339",
        ),
        (
            "redeliver 00000000-0000-0000-0000-000000000007 --since yesterday",
            "`yesterday` is no time",
        ),
        (
            "attempts 00000000-0000-0000-0000-000000000007 --limit 0",
            "0 is not in 1..",
        ),
        (
            "tail --kind MessageGone",
            "unknown event `MessageGone` (known: ",
        ),
        ("tail --format xml", "[possible values: pretty, json, raw]"),
        ("send --header a", "`a` is not `NAME=VALUE`"),
        ("send --header =a", "`=a` is not `NAME=VALUE`"),
        ("send --application a", "--event-type <EVENT_TYPE>"),
        ("send --level info", "--account-id <ACCOUNT_ID>"),
        ("send -u 7 -a b", "--event-type <EVENT_TYPE>"),
        ("send -u 7 --count 0", "0 is not in 1..=1000000"),
        (
            "send --event --application a --event-type b --account-id 1",
            "cannot be used with",
        ),
        (
            "send --application a --event-type b --account-id 1 --message-json {",
            "not JSON",
        ),
        (
            "send --application a --event-type b --account-id 1 --timestamp today",
            "today",
        ),
        ("send -u 7 --topic a/b", "`a/b` is not a topic"),
        ("send -u ", "this is not a name"),
        ("send -u 7 -a  -e b", "this is not a name"),
        ("tail --topic a/b", "`a/b` is not a topic"),
        ("redeliver", "redeliver <ENDPOINT> --since <TIME>"),
        ("redeliver", "redeliver <ENDPOINT> --all"),
        (
            "dead-letters drop 00000000-0000-0000-0000-000000000007",
            "drop <ENDPOINT> --since <TIME>",
        ),
        (
            "redeliver 00000000-0000-0000-0000-000000000007 --all --since 2026-01-01T00:00:00Z",
            "cannot be used with",
        ),
        ("bench", "dispatch"),
        ("plan --mailboxes 1", "--events-per-second <E>"),
        (
            "plan --mailboxes 0 --events-per-second 1",
            "0 is not in 1..=100000000000",
        ),
        (
            "plan --mailboxes 1 --events-per-second 18446744073709551616",
            "number too large to fit in target type",
        ),
        ("plan --mailboxes many --events-per-second 1", "'many'"),
        ("bench dispatch --counts 0", "0 is not in 1..=1000000"),
        ("bench dispatch --listen here", "here"),
        ("redeliver 7", "7"),
        (
            "redeliver 00000000-0000-0000-0000-000000000007",
            "<NOTIFICATION>",
        ),
        (
            "redeliver 00000000-0000-0000-0000-000000000007 msg_7",
            "`msg_7` is neither the id of a notification nor a `webhook-id`",
        ),
        (
            "redeliver 00000000-0000-0000-0000-000000000007 --since today",
            "today",
        ),
        (
            "endpoints change 00000000-0000-0000-0000-000000000007 --set paused",
            "`paused` is not `ATTRIBUTE=VALUE`",
        ),
        ("endpoints add --name a", "--account-id <NUMBER>"),
        (
            "filters set 00000000-0000-0000-0000-000000000007 --anything --app a",
            "cannot be used with",
        ),
        (
            "dead-letters drop 00000000-0000-0000-0000-000000000007",
            "<NOTIFICATION>",
        ),
        ("tokens remove 7", "7"),
        (
            "--config /nowhere config",
            "a file is checked with `dovecast config --check FILE`",
        ),
        ("follow", "unrecognized subcommand 'follow'"),
    ];

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        for (line, expected) in SENSELESS {
            let words = ["dovecast"].into_iter().chain(line.split(' '));
            let parsed = Arguments::try_parse_from(words);
            let error = parsed.and_then(Arguments::checked).expect_err(line);
            let error = error.to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
