//! One test case and how it becomes a test of the runner.

use std::fmt;

use anyhow::Result;
use libtest_mimic::{Completion, Failed, Trial};

/// A named test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<()>,
}

impl Case {
    pub(crate) fn into_trial(self) -> Trial {
        Trial::ignorable_test(self.name, move || {
            let error = match (self.run)() {
                Ok(()) => return Ok(Completion::Completed),
                Err(error) => error,
            };
            let Some(Skipped(reason)) = error.downcast_ref() else {
                return Err(Failed::from(format!("{error:?}")));
            };
            println!("\n*** {} SKIPPED: {reason}\n", self.name);
            Ok(Completion::ignored_with(reason))
        })
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

/// The list of a file's cases, each under its function's name.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn cases() -> Vec<$crate::case::Case> {
            vec![$($crate::case::Case { name: concat!(module_path!(), "::", stringify!($name)), run: $name }),*]
        }
    };
}
pub(crate) use cases;
