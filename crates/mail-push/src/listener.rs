//! Whether a person has a permanent listener: the flow of decision of Open-Xchange's mail push, as
//! one function that says each of its steps.

use std::fmt;

use crate::glob;

/// Most characters of a client that are compared with patterns.
const MAX_CLIENT_CHARS: usize = 255;

/// Which clients may have listeners: patterns with `*` and `?`; empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedClients(Vec<String>);

/// How a mailbox may be heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// Events of our plugin, or whatever else writes them into the log.
    Events,
    /// Dovecot's own `ox` driver, which a METADATA entry switches on.
    Dovecot,
    /// IDLE of an IMAP server.
    ImapIdle,
    /// Datagrams of a mail server.
    MailNotify,
}

/// What a source says of one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceOffer {
    /// Which source.
    pub kind: SourceKind,
    /// Why the source cannot hear this mailbox, if it cannot: `is not configured`.
    pub objection: Option<String>,
    /// Whether the source supports listeners without a session.
    pub is_permanent: bool,
    /// Whether the source logs in as the person.
    pub needs_credentials: bool,
}

/// Where passwords are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PasswordSource {
    /// Each person's own, from sessions.
    #[default]
    Session,
    /// A master user's.
    Global,
}

/// All that the decision is made of.
#[derive(Clone, Debug)]
pub struct ListenerFacts<'a> {
    /// Whether permanent listeners are allowed at all (`allow_permanent_push`).
    pub is_allowed: bool,
    /// Which clients may have them.
    pub clients: &'a AllowedClients,
    /// Clients of the person's subscriptions for new mail.
    pub subscribed: &'a [String],
    /// What the sources say, in their order.
    pub sources: &'a [SourceOffer],
    /// Where passwords are from.
    pub passwords: PasswordSource,
    /// Whether the credential storage is on.
    pub keeps_credentials: bool,
    /// Whether it has a password of the person that was not refused.
    pub has_credentials: bool,
}

/// What was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerDecision {
    /// The source that hears the mailbox, or why none does.
    pub outcome: Result<SourceKind, String>,
    /// A line for each step; the last one says the outcome.
    pub steps: Vec<String>,
}

impl SourceKind {
    /// All of them, in their usual order.
    pub const ALL: [Self; 4] = [
        Self::Events,
        Self::Dovecot,
        Self::ImapIdle,
        Self::MailNotify,
    ];

    /// Name of the source in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Dovecot => "dovecot",
            Self::ImapIdle => "imapidle",
            Self::MailNotify => "mailnotify",
        }
    }

    /// What the name stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl AllowedClients {
    /// Patterns; blanks and quotes around them do not count, nor do empty ones.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let trimmed = patterns
            .into_iter()
            .map(|one| one.trim().trim_matches('"').trim());
        let patterns = trimmed.filter(|one| !one.is_empty()).map(ToOwned::to_owned);
        Self(patterns.collect())
    }

    /// The pattern that allows a client: `*` where none is named; `None`: it is not allowed.
    pub fn allowing(&self, client: &str) -> Option<&str> {
        if self.0.is_empty() {
            return Some("*");
        }
        if client.chars().nth(MAX_CLIENT_CHARS).is_some() {
            return None;
        }
        let found = self.0.iter().find(|pattern| glob::matches(pattern, client));
        found.map(String::as_str)
    }
}

/// Decides whether a person has a permanent listener, and which source it is of.
pub fn decide(facts: &ListenerFacts<'_>) -> ListenerDecision {
    let mut steps = Vec::new();
    let outcome = follow(facts, &mut steps);
    steps.push(match &outcome {
        Ok(_) => "permanent listener: started".to_owned(),
        Err(reason) => format!("permanent listener: denied: {reason}"),
    });
    ListenerDecision { outcome, steps }
}

/// The source of a listener that is bound to a session: the first one that can hear the mailbox
/// with what there is to log in with.
pub fn bound_to_session(
    sources: &[SourceOffer],
    passwords: PasswordSource,
    has_credentials: bool,
) -> Option<SourceKind> {
    let can_log_in = passwords == PasswordSource::Global || has_credentials;
    let is_able = |offer: &&SourceOffer| {
        offer.objection.is_none() && (can_log_in || !offer.needs_credentials)
    };
    sources.iter().find(is_able).map(|offer| offer.kind)
}

fn follow(facts: &ListenerFacts<'_>, steps: &mut Vec<String>) -> Result<SourceKind, String> {
    steps.push(format!("allow_permanent_push: {}", facts.is_allowed));
    if !facts.is_allowed {
        return Err("`allow_permanent_push` is false".to_owned());
    }
    if facts.subscribed.is_empty() {
        steps.push("subscriptions for new mail: none".to_owned());
        return Err("no subscription for new mail".to_owned());
    }
    let mut is_allowed = false;
    for client in facts.subscribed {
        let shown = client.escape_debug();
        steps.push(match facts.clients.allowing(client) {
            Some(pattern) => {
                is_allowed = true;
                format!("client `{shown}`: allowed by `{pattern}`")
            }
            None => format!("client `{shown}`: not in `allowed_clients`"),
        });
    }
    if !is_allowed {
        return Err("no client with a subscription is allowed".to_owned());
    }
    source(facts, steps)
}

/// The first source that can hear the mailbox without a session. One that lacks credentials is
/// passed over, and named if no other can.
fn source(facts: &ListenerFacts<'_>, steps: &mut Vec<String>) -> Result<SourceKind, String> {
    let mut lacks = None;
    for offer in facts.sources {
        let kind = offer.kind;
        if let Some(objection) = &offer.objection {
            steps.push(format!("source `{kind}`: {objection}"));
        } else if !offer.is_permanent {
            steps.push(format!(
                "source `{kind}`: does not support permanent listeners"
            ));
        } else if !offer.needs_credentials {
            steps.push(format!("source `{kind}`: needs no credentials"));
            return Ok(kind);
        } else {
            match credentials(facts) {
                Ok(said) => {
                    steps.push(format!("source `{kind}`: {said}"));
                    return Ok(kind);
                }
                Err(reason) => {
                    steps.push(format!("source `{kind}`: {reason}"));
                    lacks.get_or_insert(reason);
                }
            }
        }
    }
    let none = "no source supports permanent listeners";
    Err(lacks.unwrap_or(none).to_owned())
}

fn credentials(facts: &ListenerFacts<'_>) -> Result<&'static str, &'static str> {
    match facts.passwords {
        PasswordSource::Global => Ok("logs in as the master user"),
        PasswordSource::Session if !facts.keeps_credentials => Err(
            "no credentials: `password_source` is \"session\", and `credstorage` is not enabled",
        ),
        PasswordSource::Session if !facts.has_credentials => {
            Err("no credentials of this person are stored, or they were refused")
        }
        PasswordSource::Session => Ok("logs in with stored credentials"),
    }
}

#[cfg(test)]
mod tests;
