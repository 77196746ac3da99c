//! The steps of a page of the documentation, for cases that follow them: its blocks, and where what
//! they name is here.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::docs::examples;

/// A page of the documentation with marked blocks.
pub(crate) struct Page(pub(crate) &'static str);

impl Page {
    /// The block that begins with this line, without its indentation.
    pub(crate) fn block(&self, info: &str) -> Result<String> {
        let lines = self.0.lines();
        let lines = lines.map(|line| line.strip_prefix("   ").unwrap_or(line));
        let flat = lines.collect::<Vec<_>>().join("\n");
        let found = examples(&flat, info);
        let [block] = found[..] else {
            anyhow::bail!("{} blocks of `{info}`", found.len());
        };
        Ok(format!("{block}\n"))
    }
}

/// What the addresses and names of a page are here.
pub(crate) struct Places(pub(crate) Vec<(&'static str, String)>);

impl Places {
    /// The text with those of here.
    pub(crate) fn put_into(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (there, here) in &self.0 {
            text = text.replace(there, here);
        }
        text
    }

    /// Runs a script of the page, with these variables; what it prints.
    pub(crate) fn run(&self, script: &str, variables: &[(&str, &str)]) -> Result<String> {
        let script = self.put_into(script);
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script]);
        let output = bash.envs(variables.iter().copied()).output();
        let output = output.context("no bash")?;
        ensure!(output.status.success(), "{script}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// JSON in which numbers, which differ from run to run, are all the same.
pub(crate) fn without_numbers(value: &Value) -> Value {
    match value {
        Value::Number(_) => Value::from(0),
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), without_numbers(value)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}
