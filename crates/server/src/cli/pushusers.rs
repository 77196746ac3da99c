//! Arguments of `dovecast pushusers`: those of Open-Xchange's command of this name, and some more.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, Command, CommandFactory};

use super::{Arguments, PUSHUSERS};

/// How the command is called.
pub(super) const USAGE: &str = "dovecast pushusers [--list | -l] [--json]
       dovecast pushusers -r -c <contextId> -u <userId> -i <client> [--strict]
       dovecast pushusers --explain -c <contextId> -u <userId>
       dovecast pushusers ... [-s <host>] [-p <port>] -A <adminUser> -P <adminPassword>";

#[derive(Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the options are those of Open-Xchange's command"
)]
pub(crate) struct PushUsersArguments {
    #[arg(help = "List whose mailboxes are heard, on all nodes (the default)", long, conflicts_with_all = ["list_client_registrations", "unregister", "explain"])]
    pub(crate) list: bool,
    #[arg(
        help = "List the clients that are registered",
        short = 'l',
        long,
        conflicts_with = "explain"
    )]
    pub(crate) list_client_registrations: bool,
    #[arg(
        help = "Unregister a client of a person: its subscriptions go",
        short = 'r',
        long,
        conflicts_with = "explain"
    )]
    pub(crate) unregister: bool,
    #[arg(help = "Say step by step why a person has a permanent listener, or none", long, requires_all = ["context", "user"])]
    pub(crate) explain: bool,
    /// Context of the person
    #[arg(short, long, value_name = "contextId", requires = "user")]
    pub(crate) context: Option<String>,
    /// The user in the context
    #[arg(short, long, value_name = "userId", requires = "context")]
    pub(crate) user: Option<String>,
    /// Client to unregister
    #[arg(short = 'i', long, value_name = "clientId", requires = "unregister")]
    pub(crate) client: Option<String>,
    #[arg(long, help = "Print JSON")]
    pub(crate) json: bool,
    #[arg(
        long,
        requires = "unregister",
        help = "End with 3 if there is no such registration"
    )]
    pub(crate) strict: bool,
    /// Another dovecast to ask over HTTP instead of the one of this host; `https://HOST` over TLS
    #[arg(short, long, value_name = "host", requires_all = ["adminuser", "adminpass"])]
    pub(crate) server: Option<String>,
    /// Port of its HTTP; without a host one of this host
    #[arg(short, long, value_name = "port", requires_all = ["adminuser", "adminpass"])]
    pub(crate) port: Option<u16>,
    /// User of [mail_push.admin] on that server; not needed over the control socket
    #[arg(short = 'A', long, value_name = "adminUser")]
    pub(crate) adminuser: Option<String>,
    /// Password of [mail_push.admin] on that server; not needed over the control socket
    #[arg(short = 'P', long, value_name = "adminPassword")]
    pub(crate) adminpass: Option<String>,
    /// Most seconds to wait for the answer; 0: for ever
    #[arg(long, value_name = "timeout", default_value_t = 0)]
    responsetimeout: u64,
}

/// A password is on the command line, and nowhere else.
impl fmt::Debug for PushUsersArguments {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PushUsersArguments(...)")
    }
}

impl PushUsersArguments {
    /// How long the answer is waited for; `None`: for ever.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        let seconds = NonZeroU64::new(self.responsetimeout)?;
        Some(Duration::from_secs(seconds.get()))
    }

    /// The error of options that do not go together, in Open-Xchange's words, or of `-r` without
    /// what it needs: that of both `-l` and `-r` is told first, whatever else there is.
    pub(crate) fn fault(&self) -> Option<String> {
        let fault = |text: &dyn Fn(&mut Command) -> String| {
            let mut command = Arguments::command();
            command.build();
            command.find_subcommand_mut(PUSHUSERS).map(text)
        };
        if self.list_client_registrations && self.unregister {
            return fault(&|command| {
                let help = command.render_help();
                format!("The options -l and -r are mutually exclusive.\n{help}")
            });
        }
        let needs = [
            ("--context <contextId>", &self.context),
            ("--user <userId>", &self.user),
            ("--client <clientId>", &self.client),
        ];
        let lacks = needs.into_iter().filter(|(_, given)| given.is_none());
        let lacks: Vec<&str> = lacks.map(|(option, _)| option).collect();
        if !self.unregister || lacks.is_empty() {
            return None;
        }
        fault(&|command| {
            let text = format!("`--unregister` needs {} as well", lacks.join(", "));
            let error = command.error(ErrorKind::MissingRequiredArgument, text);
            error.render().to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        let words = ["dovecast", PUSHUSERS].into_iter();
        Arguments::try_parse_from(words.chain(line.split_whitespace()))
    }

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        for line in [
            "",
            "--list",
            "-l",
            "-r -c 1 -u 2 -i a --strict",
            "-A a -P b",
            "-l -s h -p 1 -A a -P b",
            "--explain -c 1 -u 2",
        ] {
            parse(line).expect(line);
        }
        for line in [
            "-r -c 1",
            "-r -c 1 -i a",
            "-i a",
            "--explain -c 1",
            "--strict",
            "-c 1 -u 2 -i a",
            "--list -l",
            "--responsetimeout soon",
            "-s h",
            "-p 1 -A a",
            "-p 0x1 -A a -P b",
            "-x",
        ] {
            let error = parse(line).expect_err(line);
            assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_the_original_first() {
        use clap::FromArgMatches;
        let fault = |line: &str| {
            let words = ["pushusers"].into_iter().chain(line.split_whitespace());
            let matches = PushUsersArguments::augment_args(Command::new("pushusers"));
            let matches = matches.try_get_matches_from(words).expect(line);
            let arguments = PushUsersArguments::from_arg_matches(&matches);
            arguments.expect(line).fault()
        };
        for line in ["-l -r", "-lr", "-r -l -c 1 -u 2 -i a"] {
            let text = fault(line).expect(line);
            let expected = "The options -l and -r are mutually exclusive.\n";
            assert!(
                text.starts_with(expected) && text.contains("--explain"),
                "{text}"
            );
        }
        for (line, lacks) in [
            (
                "-r",
                "--context <contextId>, --user <userId>, --client <clientId>",
            ),
            ("-r -c 1 -u 2", "--client <clientId>"),
        ] {
            let text = fault(line).expect(line);
            assert!(
                text.contains(&format!("`--unregister` needs {lacks} as well")),
                "{text}"
            );
        }
        assert_eq!(fault("-r -c 1 -u 2 -i a"), None);
        assert_eq!(fault("-l"), None);
    }
}
