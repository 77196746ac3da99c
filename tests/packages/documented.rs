//! The examples of the documentation, which the cases configure Dovecot with.

use anyhow::{Context, Result};

use crate::root::Release;

/// The first configuration of the release's documentation, with the brokers of this test.
pub(crate) fn with_brokers(release: Release, brokers: &str) -> Result<String> {
    let line = |line: &str| match line.split_once("kafka_brokers =") {
        Some((before, _)) => format!("{before}kafka_brokers = {brokers}\n"),
        None => format!("{line}\n"),
    };
    Ok(example(release, "")?.lines().map(line).collect())
}

/// The configuration for a host with a relay.
pub(crate) fn with_relay(release: Release) -> Result<String> {
    // What switches the plugin on is the first paragraph of the first example.
    let first = example(release, "")?;
    let plugins = first.split("\n\n").next().unwrap_or_default();
    Ok(format!("{plugins}\n\n{}", example(release, " relay")?))
}

/// The first block that is marked `dovecot.conf` and this.
fn example(release: Release, mark: &str) -> Result<&'static str> {
    let document = match release {
        Release::Bookworm => include_str!("../../docs/dovecot-2.3.md"),
        Release::Trixie => include_str!("../../docs/dovecot-2.4.md"),
    };
    let fence = format!("```dovecot.conf{mark}\n");
    let text = document
        .split_once(&fence)
        .and_then(|(_, text)| text.split_once("```"));
    let (text, _) = text.with_context(|| format!("no example `{fence}`"))?;
    Ok(text)
}
