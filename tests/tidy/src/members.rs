//! The packages of the workspace as `cargo metadata` describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What package names begin with; ARCHITECTURE.md leaves it out.
pub const PREFIX: &str = "dovecast-";

/// A package of the workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Directory from the root of the workspace: `crates/log`.
    pub directory: String,
    /// Packages of the workspace it depends on, optional ones included, those of its tests not;
    /// without the prefix.
    pub uses: BTreeSet<String>,
    /// Whether `cargo test` without more words tests it.
    pub is_default: bool,
}

/// Packages by their name without the prefix.
pub type Members = BTreeMap<String, Member>;

/// Asks cargo, without the network.
pub fn find(root: &Path) -> Result<Members> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root)
        .output()
        .context("cannot run `cargo metadata`")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`cargo metadata` fails: {errors}");
    parse(&output.stdout)
}

/// Reads what `cargo metadata` prints.
pub fn parse(json: &[u8]) -> Result<Members> {
    let metadata: Value = serde_json::from_slice(json).context("no metadata")?;
    let root = text(&metadata["workspace_root"])?;
    let defaults = list(&metadata["workspace_default_members"])?;
    let mut members = Members::new();
    for package in list(&metadata["packages"])? {
        let manifest = Path::new(text(&package["manifest_path"])?);
        let directory = manifest.parent().context("a manifest without directory")?;
        let mut uses = BTreeSet::new();
        for dependency in list(&package["dependencies"])? {
            let name = text(&dependency["name"])?.strip_prefix(PREFIX);
            // The kind of a normal one is null.
            if let Some(name) = name
                && dependency["kind"].is_null()
            {
                uses.insert(name.to_owned());
            }
        }
        let name = text(&package["name"])?;
        let member = Member {
            directory: directory.strip_prefix(root)?.display().to_string(),
            uses,
            is_default: defaults.contains(&package["id"]),
        };
        members.insert(name.strip_prefix(PREFIX).unwrap_or(name).to_owned(), member);
    }
    Ok(members)
}

fn list(value: &Value) -> Result<&Vec<Value>> {
    value.as_array().context("no list where cargo has one")
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("no text where cargo has some")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gives_names_directories_and_arrows() {
        let metadata = serde_json::json!({
            "workspace_root": "/w",
            "workspace_default_members": ["log 1"],
            "packages": [
                {"id": "log 1", "name": "dovecast-log", "manifest_path": "/w/crates/log/Cargo.toml", "dependencies": [
                    {"name": "dovecast-event", "kind": null}, {"name": "dovecast-testkit", "kind": "dev"},
                    {"name": "bytes", "kind": null}]},
                {"id": "t 1", "name": "dovecast-tests", "manifest_path": "/w/tests/Cargo.toml", "dependencies": []},
            ],
        });
        let members = parse(metadata.to_string().as_bytes()).expect("metadata");
        let log = Member {
            directory: "crates/log".into(),
            uses: ["event".to_owned()].into(),
            is_default: true,
        };
        assert_eq!(members["log"], log);
        assert!(!members["tests"].is_default);
        assert_eq!(members["tests"].directory, "tests");
    }
}
