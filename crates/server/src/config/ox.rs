//! `[ox]`: who may send notifications as Dovecot's own driver `ox` does. The password is never
//! shown.

use std::fmt;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Deserializer, de};

use super::elsewhere::{self, Elsewhere};
use super::paths;

/// Nobody may as long as the section is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Ox {
    pub(crate) credentials: Option<Credentials>,
    /// Users whose names mails of others may have; `*` is any text.
    pub(crate) users: Vec<String>,
    /// Whether each mail says in its URL whose it is.
    pub(crate) require_owner: bool,
    /// Where the key of ids is; `None`: in the data directory.
    pub(super) key_file: Option<PathBuf>,
}

/// What a request has to know.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) user: String,
    password: Password,
}

/// The password, or where it stands.
#[derive(Clone, PartialEq, Eq)]
enum Password {
    Here(String),
    At(Elsewhere),
}

impl Credentials {
    /// The password.
    pub(crate) fn password(&self) -> anyhow::Result<String> {
        match &self.password {
            Password::Here(password) => Ok(password.clone()),
            Password::At(place) => place.read().context("`password_file` of [ox]"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Written {
    #[serde(deserialize_with = "user")]
    user: Option<String>,
    #[serde(deserialize_with = "password")]
    password: Option<String>,
    #[serde(deserialize_with = "elsewhere::place")]
    password_file: Option<Elsewhere>,
    #[serde(deserialize_with = "users")]
    users: Vec<String>,
    require_owner: bool,
    #[serde(deserialize_with = "paths::optional")]
    key_file: Option<PathBuf>,
}

impl TryFrom<Written> for Ox {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let password = match (written.password, written.password_file) {
            (Some(_), Some(_)) => {
                return Err("`password` and `password_file` in [ox] are both there");
            }
            (Some(password), None) => Some(Password::Here(password)),
            (None, place) => place.map(Password::At),
        };
        let credentials = match (written.user, password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some(Credentials { user, password }),
            (Some(_), None) => return Err("`user` in [ox] is nothing without `password`"),
            (None, Some(_)) => return Err("`password` in [ox] is nothing without `user`"),
        };
        Ok(Self {
            credentials,
            users: written.users,
            require_owner: written.require_owner,
            key_file: written.key_file,
        })
    }
}

/// The name of a user of basic authentication.
pub(super) fn user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let user = String::deserialize(deserializer)?;
    if user.is_empty() || user.contains(':') || user.contains(char::is_control) {
        return Err(de::Error::custom(format!(
            "`{}` is not a user of basic authentication, expected a name without a colon",
            user.escape_debug()
        )));
    }
    Ok(Some(user))
}

fn users<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let users: Vec<String> = Vec::deserialize(deserializer)?;
    let is_wrong = |user: &&String| user.is_empty() || user.contains(char::is_control);
    match users.iter().find(is_wrong) {
        None => Ok(users),
        Some(wrong) => Err(de::Error::custom(format!(
            "`{}` is not a user, expected a name, or a text with `*` in it for several",
            wrong.escape_debug()
        ))),
    }
}

fn password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    // What is no text is not shown either.
    let password = String::deserialize(deserializer)
        .map_err(|_| de::Error::custom("this is not a password, expected a text"))?;
    if password.is_empty() {
        return Err(de::Error::custom("the password is empty"));
    }
    Ok(Some(password))
}
