//! One test case and how it becomes tests of the runner: one for each Dovecot it is for.

use std::fmt;

use anyhow::Result;
use dovecast_testkit::debian::{self, Release};
use dovecast_testkit::dovecot::{Installation, Series};
use libtest_mimic::{Completion, Failed, Trial};

/// A Dovecot that the cases run on.
#[derive(Debug)]
pub(crate) struct Tested {
    /// What its tests are called by.
    pub(crate) name: &'static str,
    /// Where it is from; `None`: this machine.
    release: Option<&'static Release>,
    /// Whether all cases run on it by default, or those of [`ON_ALL`] only.
    has_all_cases: bool,
}

/// Every Dovecot, in the order in which they are tested.
pub(crate) static TESTED: [Tested; 4] = [
    Tested {
        name: "2.3",
        release: None,
        has_all_cases: true,
    },
    Tested {
        name: "2.3.21",
        release: Some(&debian::BACKPORTS),
        has_all_cases: false,
    },
    Tested {
        name: "2.4",
        release: Some(&debian::TRIXIE),
        has_all_cases: true,
    },
    Tested {
        name: "2.4.5",
        release: Some(&debian::SID),
        has_all_cases: false,
    },
];

/// Modules whose cases run on every Dovecot: what Dovecot tells the plugin, in words, and how it is
/// configured. The others are about what becomes of it afterwards, which no Dovecot changes; with
/// [`ALL`] in the environment they run, too.
const ON_ALL: [&str; 8] = [
    "docs",
    "full",
    "headers",
    "instances",
    "session",
    "settings_2_4",
    "text",
    "versions",
];
const ALL: &str = "DOVECAST_ALL_DOVECOTS";

impl Tested {
    fn series(&self) -> Series {
        self.release.map_or(Series::V2_3, Release::series)
    }

    /// Whether a case of this path (`module::name`) runs on it.
    fn takes(&self, path: &str) -> bool {
        let module = path.split("::").next().unwrap_or_default();
        self.has_all_cases || ON_ALL.contains(&module) || std::env::var_os(ALL).is_some()
    }

    /// The Dovecot itself, or [`Skipped`].
    fn installation(&self) -> Result<Installation> {
        let Some(release) = self.release else {
            return Ok(Installation::System23);
        };
        Installation::unpacked(release)?.map_err(|unavailable| {
            let wanted = release.dovecot;
            Skipped(format!("no Dovecot {wanted} can be had: {unavailable}")).into()
        })
    }
}

/// A named test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// With the path of its module.
    pub(crate) name: &'static str,
    pub(crate) run: fn(Installation) -> Result<()>,
    pub(crate) series: &'static [Series],
}

impl Case {
    /// The test of this case on one Dovecot, if it is for that one.
    pub(crate) fn trial(self, on: &'static Tested) -> Option<Trial> {
        let path = self
            .name
            .split_once("::")
            .map_or(self.name, |(_, path)| path);
        if !self.series.contains(&on.series()) || !on.takes(path) {
            return None;
        }
        let name = format!("{}::{path}", on.name);
        Some(Trial::ignorable_test(name.clone(), move || {
            let error = match on.installation().and_then(self.run) {
                Ok(()) => return Ok(Completion::Completed),
                Err(error) => error,
            };
            let Some(Skipped(reason)) = error.downcast_ref() else {
                return Err(Failed::from(dovecast_testkit::failure(&error)));
            };
            println!("\n*** {name} SKIPPED: {reason}\n");
            Ok(Completion::ignored_with(reason))
        }))
    }
}

/// The error of a case that cannot run on this machine, with the reason: it is told loudly and
/// counted as ignored.
#[derive(Debug)]
pub(crate) struct Skipped(pub(crate) String);

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped: {}", self.0)
    }
}

impl std::error::Error for Skipped {}

/// The list of a file's cases, each under its function's name; a comment says why one is for one
/// series only.
macro_rules! cases {
    (
        $($both:ident),* $(,)?
        $(; only_2_3: $($only_2_3:ident),+ $(,)?)?
        $(; only_2_4: $($only_2_4:ident),+ $(,)?)?
    ) => {
        pub(crate) fn cases() -> Vec<$crate::case::Case> {
            use dovecast_testkit::dovecot::Series;

            use $crate::case::Case;
            macro_rules! case {
                ($name:ident, $series:expr) => {
                    Case {
                        name: concat!(module_path!(), "::", stringify!($name)),
                        run: $name,
                        series: $series,
                    }
                };
            }
            vec![
                $(case!($both, &[Series::V2_3, Series::V2_4]),)*
                $($(case!($only_2_3, &[Series::V2_3]),)+)?
                $($(case!($only_2_4, &[Series::V2_4]),)+)?
            ]
        }
    };
}
pub(crate) use cases;
