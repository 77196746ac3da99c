//! Why an act was not done, for whoever has asked. Each door renders it in its own shape.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use dovecast_store::{MemberKind, StoreError};

/// Why an act was not done.
#[derive(Debug)]
pub enum Refusal {
    /// The caller may not do this; the text says who may.
    Forbidden(Cow<'static, str>),
    /// The token is none, or its time is over; the text says which.
    BadToken(&'static str),
    /// There is nothing of this id, or it belongs to another account: one does not learn which.
    NotFound {
        /// Kind of what was named.
        what: Resource,
        /// The id, as it was written.
        id: String,
    },
    /// What was said has not the shape of what is asked for; the text says where.
    Unreadable(String),
    /// What was said is not valid; at least one fault.
    Invalid(Faults),
    /// The endpoint receives nothing, because it is not active.
    NotActive,
    /// The endpoint does not receive this notification; the text says why.
    NotWanted(String),
    /// What is there now does not allow it; the text says what, and until when.
    Conflict(String),
    /// What was asked for is under way already; the text says what, and `after` when to ask again.
    UnderWay {
        /// What is under way.
        reason: String,
        /// When to ask again.
        after: Duration,
    },
    /// The account has taken what it may for now; the text says of what, and `after` when to ask
    /// again.
    TooMuch {
        /// The limit.
        reason: String,
        /// When to ask again.
        after: Duration,
    },
    /// The test of an endpoint has failed; the text is the reason.
    TestFailed(String),
    /// What is needed is not configured, or cannot be used now; the text says what.
    Unavailable(Cow<'static, str>),
    /// The store has failed.
    Store(StoreError),
}

/// Kind of what an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Resource {
    Account,
    Application,
    DeadLetter,
    Endpoint,
    /// A dead letter, or a delivery that is owed for later.
    Owed,
    /// The filter of the endpoint of this id.
    Filter,
    Token,
    /// A subscription of a person for mail push.
    Subscription,
}

/// All that is wrong with what was said, as far as it is told.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it is wrong.
    pub place: FaultPlace,
    /// What is wrong there: a predicate, such as `can't be blank`.
    pub detail: String,
    /// Whether what stands there names something that does not exist.
    pub is_unknown: bool,
}

/// A place in what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultPlace {
    /// All of it.
    All,
    /// An attribute of the resource, or a part of one: names with `/` between them, as in a JSON
    /// pointer (RFC 6901) without the first.
    Attribute(String),
    /// A set of a filter.
    Members(MemberKind),
    /// Any place in the input: a JSON pointer.
    Pointer(String),
}

impl Refusal {
    pub(crate) fn forbidden(who_may: impl Into<Cow<'static, str>>) -> Self {
        Self::Forbidden(who_may.into())
    }

    pub(crate) fn unreadable(reason: impl Into<String>) -> Self {
        Self::Unreadable(reason.into())
    }

    pub(crate) fn no(what: Resource, id: impl fmt::Display) -> Self {
        let id = id.to_string();
        Self::NotFound { what, id }
    }

    /// One attribute that is not valid.
    pub(crate) fn attribute(name: &str, detail: impl Into<String>) -> Self {
        Self::invalid(Fault::attribute(name, detail))
    }

    /// One thing that is not valid.
    pub(crate) fn invalid(fault: Fault) -> Self {
        let mut faults = Faults::default();
        faults.push(fault);
        Self::Invalid(faults)
    }
}

impl Faults {
    /// Most faults that are told: more help nobody, and a body of a megabyte can be wrong in
    /// hundreds of thousands of places.
    const MAX: usize = 100;

    pub(crate) fn push(&mut self, fault: Fault) {
        if self.0.len() < Self::MAX {
            self.0.push(fault);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Fault {
    fn new(place: FaultPlace, detail: impl Into<String>) -> Self {
        Self {
            place,
            detail: detail.into(),
            is_unknown: false,
        }
    }

    /// A place in the input that is not valid.
    pub(crate) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FaultPlace::Pointer(pointer.into()), detail)
    }

    /// An attribute that is not valid.
    pub(crate) fn attribute(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FaultPlace::Attribute(name.into()), detail)
    }

    /// A set of a filter that is not valid.
    pub(crate) fn members(kind: MemberKind, detail: impl Into<String>) -> Self {
        Self::new(FaultPlace::Members(kind), detail)
    }

    /// A filter that names what is not registered.
    pub(crate) fn unknown_member(kind: MemberKind, id: &str) -> Self {
        let what = match kind {
            MemberKind::Application => "App",
            MemberKind::EventType => "EventType",
            MemberKind::Level => "Level",
        };
        let mut fault = Self::members(kind, format!("Could not find {what} with 'id'={id}"));
        fault.is_unknown = true;
        fault
    }
}

/// Escapes a name in a JSON pointer (RFC 6901 section 3).
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NameTaken(_) => Self::attribute("name", "has already been taken"),
            StoreError::TooManyEndpoints(most) => Self::invalid(Fault::new(
                FaultPlace::All,
                format!(
                    "cannot be created: the account has {most} endpoints, and may have no more"
                ),
            )),
            StoreError::TooManyTokens(most) => Self::attribute(
                "account_number",
                format!("has {most} tokens, and may have no more: delete one first"),
            ),
            error @ StoreError::TooManySubscriptions(_) => {
                Self::Conflict(format!("{error}: remove one first"))
            }
            StoreError::Unknown { kind, id } => Self::invalid(Fault::unknown_member(kind, &id)),
            StoreError::AuthorizationTwice => Self::attribute(
                "data/headers/Authorization",
                "cannot be set together with `authorization`",
            ),
            StoreError::HiddenUser => Self::attribute(
                "url",
                "has the user `***`, which stands for one that is not shown",
            ),
            StoreError::AccountClosed => Self::forbidden("The account is closed"),
            StoreError::OthersApplication(name) => Self::forbidden(format!(
                "The application `{name}` belongs to another token: an admin token may register it, and give it to this one"
            )),
            StoreError::Fallback(detail) => Self::attribute("fallback_id", detail),
            StoreError::OtherDriver { driver } => {
                Self::attribute("driver", format!("is `{driver}`, and cannot be changed"))
            }
            StoreError::TooManyRegistered(most) => Self::invalid(Fault::at(
                "/event_types",
                format!(
                    "is too long: all applications of this token have {most} event types and levels together at most"
                ),
            )),
            error @ (StoreError::TooManySecrets { .. } | StoreError::TooManyApplications(_)) => {
                Self::Conflict(error.to_string())
            }
            error => Self::Store(error),
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Account => "account",
            Self::Application => "application",
            Self::DeadLetter => "dead letter of the endpoint",
            Self::Owed => "dead letter of the endpoint, and no delivery that is due later,",
            Self::Endpoint => "endpoint",
            Self::Filter => "filter of an endpoint",
            Self::Token => "token",
            Self::Subscription => "subscription",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            FaultPlace::All => write!(f, "the endpoint {}", self.detail),
            FaultPlace::Attribute(name) => write!(f, "`{name}` {}", self.detail),
            FaultPlace::Members(kind) => {
                let set = match kind {
                    MemberKind::Application => "app_ids",
                    MemberKind::EventType => "event_type_ids",
                    MemberKind::Level => "level_ids",
                };
                write!(f, "`filter/{set}`: {}", self.detail)
            }
            FaultPlace::Pointer(place) => write!(f, "`{place}` {}", self.detail),
        }
    }
}

/// For a door without a shape of its own: one line.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(text) => f.write_str(text),
            Self::BadToken(text) => f.write_str(text),
            Self::NotFound { what, id } => write!(f, "there is no {what} `{id}`"),
            Self::Invalid(faults) => {
                for (place, fault) in faults.0.iter().enumerate() {
                    let separator = if place == 0 { "" } else { "; " };
                    write!(f, "{separator}{fault}")?;
                }
                Ok(())
            }
            Self::NotActive => {
                f.write_str("the endpoint is not active, nothing is delivered to it")
            }
            Self::Unreadable(reason)
            | Self::NotWanted(reason)
            | Self::Conflict(reason)
            | Self::UnderWay { reason, .. }
            | Self::TooMuch { reason, .. } => f.write_str(reason),
            Self::Unavailable(reason) => f.write_str(reason),
            Self::TestFailed(reason) => write!(f, "the test was not delivered: {reason}"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            _ => None,
        }
    }
}
