//! Values of settings that stand elsewhere: in a file, in an environment variable, in a credential
//! of systemd. They are secrets, and no error shows one.

use std::env::VarError;
use std::path::PathBuf;
use std::{env, fmt, fs};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Deserializer, de};

/// Where systemd says that the credentials of a unit are (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// A place of a value. What is there is read when it is needed: who looks at the log needs no
/// password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    File(PathBuf),
    Environment(String),
    Credential(String),
}

/// As it is written.
impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Environment(variable) => write!(f, "env:{variable}"),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

/// What becomes of a value that cannot be read where it is said to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absent {
    /// An error: the value is needed.
    Refused,
    /// Another one in its place: a configuration is also checked on hosts that have no secrets.
    Replaced,
}

impl Elsewhere {
    /// `env:VARIABLE`, `credential:NAME`, or the path of a file.
    pub(super) fn parse(text: &str) -> Self {
        if let Some(variable) = text.strip_prefix("env:") {
            return Self::Environment(variable.to_owned());
        }
        if let Some(name) = text.strip_prefix("credential:") {
            return Self::Credential(name.to_owned());
        }
        Self::File(text.strip_prefix("file:").unwrap_or(text).into())
    }

    /// As [`Elsewhere::parse`], of a text that can name a place.
    pub(super) fn checked(text: &str) -> Result<Self, String> {
        match Self::parse(text) {
            Self::File(path) if path.as_os_str().is_empty() => Err(
                "an empty text, expected a path, `env:VARIABLE` or `credential:NAME`".to_owned(),
            ),
            Self::Environment(name) | Self::Credential(name)
                if name.is_empty() || name.contains(['/', '\0']) =>
            {
                Err(format!(
                    "`{}` is not a name of a variable or a credential",
                    name.escape_debug()
                ))
            }
            place => Ok(place),
        }
    }

    /// The value, or `stand_in` where it may be absent and is.
    pub(crate) fn read_or(&self, absent: Absent, stand_in: &str) -> Result<String> {
        match self.read() {
            Err(_) if absent == Absent::Replaced => Ok(stand_in.to_owned()),
            read => read,
        }
    }

    /// The value, without the end of its line.
    pub(crate) fn read(&self) -> Result<String> {
        let text = match self {
            Self::File(path) => fs::read_to_string(path)
                .with_context(|| format!("cannot read `{}`", path.display()))?,
            // The error of what is no UTF-8 has the value.
            Self::Environment(variable) => match env::var(variable) {
                Ok(value) => value,
                Err(VarError::NotPresent) => {
                    bail!("cannot read the environment variable `{variable}`: it is not set")
                }
                Err(VarError::NotUnicode(_)) => {
                    bail!("cannot read the environment variable `{variable}`: it is not UTF-8")
                }
            },
            Self::Credential(name) => {
                let directory = env::var_os(CREDENTIALS).with_context(|| {
                    format!("there is no credential `{name}`: systemd gives none (`LoadCredential={name}:PATH`)")
                })?;
                let path = PathBuf::from(directory).join(name);
                fs::read_to_string(&path)
                    .with_context(|| format!("cannot read the credential `{name}`"))?
            }
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        ensure!(!text.is_empty(), "the value is empty");
        Ok(text.to_owned())
    }
}

/// A place of a value.
pub(super) fn place<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Elsewhere>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Elsewhere::checked(&text)
        .map(Some)
        .map_err(de::Error::custom)
}
