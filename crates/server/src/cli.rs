//! The command line.

mod bench;
mod doctor;
mod secrets;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dovecast_event::EventSet;
use dovecast_log::StartAt;
use jiff::Timestamp;

pub(crate) use bench::{BenchArguments, DispatchArguments, Subject};
pub(crate) use doctor::DoctorArguments;
pub(crate) use secrets::{SecretsArguments, SecretsSubject};

/// Carries mail-store events out of Dovecot.
#[derive(Debug, Parser)]
#[command(
    name = "dovecast",
    version,
    after_help = "Exit codes: 0 done, 1 it failed, 2 the command line makes no sense; `doctor`: 0 nothing is wrong, 1 warnings, 2 problems, 3 it could not look."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The configuration; without it every value is the default
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Goes before `data_dir` of the configuration
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server
    Serve,
    /// Print the default configuration, or check one
    Config(ConfigArguments),
    /// Follow a topic
    Tail(TailArguments),
    /// List the topics of the log
    Topics(ListArguments),
    /// List the consumer groups and how far they are
    Groups(ListArguments),
    /// Append a record, an event or a notification
    Send(SendArguments),
    /// List all endpoints and how they are
    Endpoints(DeliveryArguments),
    /// List the latest attempts at an endpoint
    Attempts(AttemptsArguments),
    /// List the latest dead letters, with the reason
    DeadLetters(DeliveryArguments),
    /// Deliver again what is a dead letter, or still stands in the log
    Redeliver(RedeliverArguments),
    /// List the applications with their event types and levels
    Apps(JsonArguments),
    /// List what endpoints want, in words
    Filters(FiltersArguments),
    /// Say which endpoints of its account get a notification, and why others do not
    Explain(ExplainArguments),
    /// List or replace the keys that secrets of endpoints are sealed with
    Secrets(SecretsArguments),
    /// Measure a running server
    Bench(BenchArguments),
    /// Say what is wrong with the Dovecot of this host
    Doctor(DoctorArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// Read this file and say what is wrong with it
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// With Kafka as the log: of this host's spool, which the running server ships to it
    #[arg(long)]
    pub(crate) spool: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeliveryArguments {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// So many at most (endpoints: all)
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub(crate) most: usize,
}

#[derive(Debug, Args)]
pub(crate) struct AttemptsArguments {
    /// Its id
    pub(crate) endpoint: uuid::Uuid,
    #[command(flatten)]
    pub(crate) list: DeliveryArguments,
}

#[derive(Debug, Args)]
pub(crate) struct JsonArguments {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FiltersArguments {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Only of this endpoint
    #[arg(long, value_name = "ID")]
    pub(crate) endpoint: Option<uuid::Uuid>,
    /// Only of this account
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account_id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RedeliverArguments {
    /// The id of the endpoint
    pub(crate) endpoint: uuid::Uuid,
    /// The id of a notification, or a `webhook-id`
    #[arg(required_unless_present = "since")]
    pub(crate) notification: Option<NotificationName>,
    /// All dead letters of the endpoint since this time, RFC 3339
    #[arg(long, value_name = "TIME", conflicts_with = "notification")]
    pub(crate) since: Option<Timestamp>,
    /// Where the log is looked through for what is no dead letter, as for `tail`; without it where
    /// its id says
    #[arg(long, value_name = "PLACE", conflicts_with = "since")]
    pub(crate) from: Option<Begin>,
}

/// The id of a notification, or of its delivery to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotificationName {
    pub(crate) id: uuid::Uuid,
    pub(crate) endpoint: Option<uuid::Uuid>,
}

impl FromStr for NotificationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is neither the id of a notification nor a `webhook-id`");
        let parse = |text: &str| uuid::Uuid::try_parse(text).map_err(|_| bad());
        let Some(pair) = text.strip_prefix("msg_") else {
            let id = parse(text)?;
            return Ok(Self { id, endpoint: None });
        };
        let (id, endpoint) = pair.split_once('_').ok_or_else(bad)?;
        Ok(Self {
            id: parse(id)?,
            endpoint: Some(parse(endpoint)?),
        })
    }
}

impl std::fmt::Display for NotificationName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.endpoint {
            None => self.id.fmt(f),
            Some(endpoint) => {
                let (id, endpoint) = (self.id.as_simple(), endpoint.as_simple());
                write!(f, "msg_{id}_{endpoint}")
            }
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Where the log is looked through for an id, as for `tail`; without it where the id says
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: Option<Begin>,
    #[command(flatten)]
    pub(crate) notification: ExplainedArguments,
}

/// The notification that is explained.
#[derive(Debug, Args)]
#[command(next_help_heading = "A notification")]
pub(crate) struct ExplainedArguments {
    /// Its JSON, as it stands in `hooks.outbox`, its id, or a `webhook-id`
    #[arg(required_unless_present = "account_id")]
    pub(crate) value: Option<String>,
    #[command(flatten)]
    pub(crate) fields: NotificationArguments,
}

#[derive(Debug, Args)]
pub(crate) struct TailArguments {
    /// The topic; it need not exist yet
    #[arg(long, default_value = "dovecot")]
    pub(crate) topic: String,
    /// `beginning`, `end`, `last:N` (N records before the end of each partition), or an RFC 3339
    /// time
    #[arg(long, default_value = "end", value_name = "PLACE")]
    pub(crate) from: Begin,
    /// End after so many records
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End where the topic ends now, instead of waiting for more
    #[arg(long)]
    pub(crate) until_end: bool,
    /// Only events of this user
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Only events of these kinds (a comma list)
    #[arg(long, value_name = "KINDS", value_parser = EventSet::parse)]
    pub(crate) kind: Option<EventSet>,
    /// Only events of this mailbox
    #[arg(long)]
    pub(crate) mailbox: Option<String>,
    /// `pretty`: a line for people; `json`: an object with everything; `raw`: the value as it is
    #[arg(long, value_enum, default_value_t = Format::Pretty)]
    pub(crate) format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Pretty,
    Json,
    Raw,
}

/// [`StartAt`] as it is written on the command line and in a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin(pub(crate) StartAt);

impl FromStr for Begin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let start = match text {
            "beginning" => Some(StartAt::Beginning),
            "end" => Some(StartAt::End),
            _ => {
                if let Some(count) = text.strip_prefix("last:") {
                    count.parse().ok().map(StartAt::Last)
                } else {
                    let time = text.parse::<Timestamp>().ok();
                    time.map(|time| StartAt::Time(time.as_millisecond()))
                }
            }
        };
        start.map(Self).ok_or_else(|| {
            format!("`{text}` is none of `beginning`, `end`, `last:N` and an RFC 3339 time")
        })
    }
}

impl std::fmt::Display for Begin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            StartAt::Beginning => f.write_str("beginning"),
            StartAt::End => f.write_str("end"),
            StartAt::Last(count) => write!(f, "last:{count}"),
            StartAt::Time(time_ms) => {
                let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::MAX);
                write!(f, "{time}")
            }
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SendArguments {
    /// The value; without it standard input is read to its end
    pub(crate) value: Option<String>,
    /// The topic; an event goes to `dovecot` and a notification to `hooks.outbox` without it
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// The key; an event has its user and a notification its account without it
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// A header, `NAME=VALUE`; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub(crate) headers: Vec<(String, String)>,
    /// The value is an event in the plugin's JSON, and is checked
    #[arg(long, conflicts_with = "account_id")]
    pub(crate) event: bool,
    /// So many of it (1 to 1000000), each with an id of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    #[command(flatten)]
    pub(crate) notification: NotificationArguments,
}

/// The six fields of a notification, as `rake notifications:send` of hooks-backend names them. An
/// account alone makes one.
#[derive(Debug, Args)]
#[command(next_help_heading = "A notification")]
pub(crate) struct NotificationArguments {
    /// The account it is for
    #[arg(short = 'u', long, conflicts_with = "value")]
    pub(crate) account_id: Option<String>,
    /// Its application; without it one for tests: `TestApp`, with the event type `TestEvent` and
    /// the level `Info`
    #[arg(short = 'a', long, requires_all = ["event_type", "account_id"])]
    pub(crate) application: Option<String>,
    /// Its event type
    #[arg(short = 'e', long, requires = "account_id")]
    pub(crate) event_type: Option<String>,
    /// Its level; where an application is given: null without it
    #[arg(short = 'l', long, requires = "account_id")]
    pub(crate) level: Option<String>,
    /// Its time, RFC 3339; now without it
    #[arg(long, requires = "account_id")]
    pub(crate) timestamp: Option<jiff::Timestamp>,
    /// Its message, text; `Hello world!` without it
    #[arg(short = 'm', long, requires = "account_id")]
    pub(crate) message: Option<String>,
    /// Its message, any JSON
    #[arg(long, value_name = "JSON", requires = "account_id", conflicts_with = "message", value_parser = json)]
    pub(crate) message_json: Option<serde_json::Value>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not `NAME=VALUE`")),
    }
}

fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        for (line, expected) in [
            (
                "tail --from yesterday",
                "`yesterday` is none of `beginning`, `end`, `last:N` and an RFC 3339 time",
            ),
            ("tail --from last:", "`last:` is none of"),
            ("tail --count 0", "0 is not in 1.."),
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
            ("bench", "dispatch"),
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
            ("follow", "unrecognized subcommand 'follow'"),
        ] {
            let words = ["dovecast"].into_iter().chain(line.split(' '));
            let error = Arguments::try_parse_from(words).expect_err(line);
            let error = error.to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn a_notification_is_named_by_its_id_or_by_a_webhook_id() {
        let (id, endpoint) = (
            "019aa3b1-6e58-7d0c-8f00-000000000001",
            uuid::Uuid::from_u128(7),
        );
        let named: NotificationName = id.parse().expect("an id");
        assert_eq!((named.to_string(), named.endpoint), (id.to_owned(), None));
        let text = format!("msg_{}_{}", id.replace('-', ""), endpoint.as_simple());
        let of: NotificationName = text.parse().expect("a webhook-id");
        assert_eq!((of.id, of.endpoint), (named.id, Some(endpoint)));
        assert_eq!(of.to_string(), text);
    }

    #[test]
    fn a_place_to_begin_is_written_as_it_is_read() {
        for text in ["beginning", "end", "last:0", "last:25"] {
            assert_eq!(text.parse::<Begin>().expect(text).to_string(), text);
        }
    }
}
