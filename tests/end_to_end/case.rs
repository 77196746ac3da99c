//! One test case and how it becomes a test of the runner.

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

/// A named test.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<()>,
}

impl Case {
    pub(crate) fn into_trial(self) -> Trial {
        Trial::test(self.name, move || {
            (self.run)().map_err(|error| Failed::from(format!("{error:?}")))
        })
    }
}

/// The list of a file's cases, each under its function's name.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn cases() -> Vec<$crate::case::Case> {
            vec![$($crate::case::Case { name: concat!(module_path!(), "::", stringify!($name)), run: $name }),*]
        }
    };
}
pub(crate) use cases;
