//! One test case and how it becomes tests of the runner: one for each Dovecot it is for.

use std::fmt;

use anyhow::Result;
use dovecast_testkit::dovecot::Installation;
use libtest_mimic::{Completion, Failed, Trial};

/// A Dovecot that the cases run on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    V2_3,
    V2_4,
}

impl Version {
    /// Every one, in the order in which they are tested.
    pub(crate) const ALL: [Self; 2] = [Self::V2_3, Self::V2_4];

    fn name(self) -> &'static str {
        match self {
            Self::V2_3 => "2.3",
            Self::V2_4 => "2.4",
        }
    }

    /// The Dovecot itself, or [`Skipped`].
    fn installation(self) -> Result<Installation> {
        match self {
            Self::V2_3 => Ok(Installation::System23),
            Self::V2_4 => Installation::trixie24()?.map_err(|unavailable| {
                Skipped(format!("no Dovecot 2.4 can be had: {unavailable}")).into()
            }),
        }
    }
}

/// A named test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// With the path of its module.
    pub(crate) name: &'static str,
    pub(crate) run: fn(Installation) -> Result<()>,
    pub(crate) versions: &'static [Version],
}

impl Case {
    /// The test of this case on one Dovecot, if it is for that one.
    pub(crate) fn trial(self, version: Version) -> Option<Trial> {
        if !self.versions.contains(&version) {
            return None;
        }
        let path = self
            .name
            .split_once("::")
            .map_or(self.name, |(_, path)| path);
        let name = format!("{}::{path}", version.name());
        Some(Trial::ignorable_test(name.clone(), move || {
            let error = match version.installation().and_then(self.run) {
                Ok(()) => return Ok(Completion::Completed),
                Err(error) => error,
            };
            let Some(Skipped(reason)) = error.downcast_ref() else {
                return Err(Failed::from(format!("{error:?}")));
            };
            println!("\n*** {name} SKIPPED: {reason}\n");
            Ok(Completion::ignored_with(reason))
        }))
    }
}

/// The error of a case that cannot run on this machine, with the reason: it is told loudly and counted as ignored.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// The list of a file's cases, each under its function's name; a comment says why one is for one version only.
macro_rules! cases {
    (
        $($both:ident),* $(,)?
        $(; only_2_3: $($only_2_3:ident),+ $(,)?)?
        $(; only_2_4: $($only_2_4:ident),+ $(,)?)?
    ) => {
        pub(crate) fn cases() -> Vec<$crate::case::Case> {
            use $crate::case::{Case, Version};
            macro_rules! case {
                ($name:ident, $versions:expr) => {
                    Case {
                        name: concat!(module_path!(), "::", stringify!($name)),
                        run: $name,
                        versions: $versions,
                    }
                };
            }
            vec![
                $(case!($both, &Version::ALL),)*
                $($(case!($only_2_3, &[Version::V2_3]),)+)?
                $($(case!($only_2_4, &[Version::V2_4]),)+)?
            ]
        }
    };
}
pub(crate) use cases;
