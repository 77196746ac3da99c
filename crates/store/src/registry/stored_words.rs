//! Words that columns hold and JSON shows: each is one of a few.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// A word that is none of those which a column may hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not known here")]
pub struct UnknownWord(String);

/// The driver, as seed 004 calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    /// A webhook, `http://`.
    Http,
    /// A webhook, `https://`.
    Https,
}

/// How the last attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// 2xx.
    Success,
    /// Anything else.
    Failure,
}

/// What happens after a failed attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Again and again, for a day.
    #[default]
    Default,
    /// As hooks-backend did: three attempts, then the endpoint is disabled.
    Hooks,
}

impl EndpointKind {
    /// The one of a URL.
    pub(super) fn of(url: &str) -> Self {
        match Url::parse(url) {
            Ok(url) if url.scheme() == "http" => Self::Http,
            _ => Self::Https,
        }
    }

    /// What it is called in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "Endpoints::HttpEndpoint",
            Self::Https => "Endpoints::HttpsEndpoint",
        }
    }
}

impl DeliveryStatus {
    /// What it is called in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl RetryPolicy {
    /// What it is called in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Hooks => "hooks",
        }
    }
}

impl FromStr for EndpointKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl FromStr for DeliveryStatus {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Success, Self::Failure]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl FromStr for RetryPolicy {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Self::Default, Self::Hooks]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| UnknownWord(text.to_owned()))
    }
}

impl fmt::Display for EndpointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
