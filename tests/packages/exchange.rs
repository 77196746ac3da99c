//! A host goes from the plugin with librdkafka to the one without, and back, while Dovecot is
//! configured for it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::{Unavailable, process};

use crate::documented;
use crate::package::{Package, package};
use crate::root::{Release, Root};
use crate::{ARRIVAL, MAIL};

const SPILL_DIR: &str = "/var/lib/dovecast/spill";

pub(crate) fn there_and_back(release: Release) -> Result<Result<(), Unavailable>> {
    let full = available!(package(Package::Plugin, release));
    let relay_only = available!(package(Package::RelayOnly, release));
    let mut root = available!(Root::new(release));
    root.install(&[&full])?;
    root.configure(&documented::with_relay(release)?)?;
    root.ok(&["install", "-d", "-m", "3733", SPILL_DIR])?;
    root.start()?;
    delivers(&root)?;
    replace(&mut root, &relay_only, Package::RelayOnly, Package::Plugin)?;
    replace(&mut root, &full, Package::Plugin, Package::RelayOnly)?;
    root.stop()?;
    Ok(Ok(()))
}

/// Installs a package in another's place, while Dovecot runs: with dpkg, as apt would remove the
/// other one first.
fn replace(root: &mut Root, file: &Path, new: Package, old: Package) -> Result<()> {
    let inside = root.take_in(file)?;
    let words = root.refused(&["apt-get", "install", "--yes", &inside])?;
    ensure!(words.contains("dpkg --install FILE.deb"), "{words}");
    delivers(root)?;
    let words = root.ok(&["dpkg", "--install", &inside])?;
    ensure!(
        root.is_installed(new.name())? && !root.is_installed(old.name())?,
        "{} has not taken the place of {}:\n{words}",
        new.name(),
        old.name()
    );
    // Processes that had the old plugin loaded, and then ones that load the new one.
    delivers(root)?;
    root.stop()?;
    root.start()?;
    delivers(root)
}

/// A mail is delivered, and the plugin is there: with no relay it leaves a spill file.
fn delivers(root: &Root) -> Result<()> {
    let directory = root.path(&SPILL_DIR[1..]);
    let size = || -> u64 {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|entry| Some(entry.metadata().ok()?.len()));
        sizes.sum()
    };
    let before = size();
    root.lmtp()?
        .deliver_ok("bob@example.org", &["alice"], MAIL)?;
    process::poll_until(ARRIVAL, || (size() > before).then_some(()))
        .with_context(|| format!("no event was spilled:\n{}", root.log()))
}
