//! What a Dovecot module tells of itself without being loaded: the ABI it was built for, and which
//! settings it knows.
//!
//! Both are strings in the file: the ABI is what the module's `NAME_version` points to, and the
//! settings are marked by our own build.

use std::path::Path;

use anyhow::{Context, Result};

/// Marks the settings a module was built with, see `settings_info_2_4.c`.
const SETTINGS_MARK: &str = "dovecast-settings-build:";

/// What was found in a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModuleFile {
    /// For example `2.3.ABIv19`; without the patch level that Dovecot does not compare.
    pub(crate) abi: Option<String>,
    pub(crate) settings_build: Option<String>,
}

impl ModuleFile {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let strings = || {
            bytes
                .split(|byte| *byte == 0)
                .filter_map(|text| std::str::from_utf8(text).ok())
        };
        Ok(Self {
            abi: strings().find_map(abi),
            settings_build: strings()
                .find_map(|text| text.strip_prefix(SETTINGS_MARK).map(str::to_owned)),
        })
    }
}

/// `2.3.ABIv19(2.3.19.1)` is the ABI `2.3.ABIv19`.
fn abi(text: &str) -> Option<String> {
    let abi = text.split('(').next()?;
    let (major_minor, number) = abi.split_once(".ABIv")?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (major_minor.split('.').count() == 2
        && major_minor.split('.').all(is_number)
        && is_number(number))
    .then(|| abi.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_abi_version_is_one() {
        assert_eq!(abi("2.3.ABIv19(2.3.19.1)").as_deref(), Some("2.3.ABIv19"));
        assert_eq!(abi("2.4.ABIv1").as_deref(), Some("2.4.ABIv1"));
        for other in ["ABIv1", "2.ABIv1", "2.4.ABIv", "x2.4.ABIv1", "2.4.ABIv1x"] {
            assert_eq!(abi(other), None, "{other}");
        }
    }
}
