//! Who may send events: names of users, user ids, ranges of them.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// One entry of `allow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// A user this host may know.
    Name(String),
    /// User ids.
    Ids(RangeInclusive<u32>),
}

impl Allowed {
    /// A user by name.
    pub(crate) fn name(name: &str) -> Self {
        Self::Name(name.to_owned())
    }

    /// User ids that are allowed; `None`: this host does not know the name.
    pub(crate) fn ids(&self) -> Result<Option<RangeInclusive<u32>>> {
        match self {
            Self::Ids(ids) => Ok(Some(ids.clone())),
            Self::Name(name) => {
                let user = nix::unistd::User::from_name(name)
                    .with_context(|| format!("cannot look up the user `{name}`"))?;
                Ok(user.map(|user| user.uid.as_raw()..=user.uid.as_raw()))
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if let Ok(id) = text.parse() {
            return Some(Self::Ids(id..=id));
        }
        if let Some((first, last)) = text.split_once('-')
            && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
        {
            return (first <= last).then_some(Self::Ids(first..=last));
        }
        let is_name = !text.is_empty()
            && !text.starts_with('-')
            && !text.contains(|c: char| {
                c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | ',')
            });
        is_name.then(|| Self::name(text))
    }
}

/// The name that this host has for a user id; `None`: it has none.
pub(super) fn name_of(uid: u32) -> io::Result<Option<String>> {
    let user = nix::unistd::User::from_uid(uid.into())?;
    Ok(user.map(|user| user.name))
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ids(ids) if ids.start() == ids.end() => write!(f, "{}", ids.start()),
            Self::Ids(ids) => write!(f, "{}-{}", ids.start(), ids.end()),
        }
    }
}

impl<'de> Deserialize<'de> for Allowed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;

        impl Visitor<'_> for Entry {
            type Value = Allowed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "the name of a user, a user id, or a range of user ids such as \"10000-19999\"",
                )
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Allowed, E> {
                Allowed::parse(text)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_i64<E: de::Error>(self, id: i64) -> Result<Allowed, E> {
                u32::try_from(id)
                    .map(|id| Allowed::Ids(id..=id))
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(id), &self))
            }
        }

        deserializer.deserialize_any(Entry)
    }
}
