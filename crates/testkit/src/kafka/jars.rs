//! Finds the jars of Apache Kafka: an installed one (`KAFKA_HOME`), a cache, or Maven Central into
//! that cache.
//!
//! The cache is `target/kafka-<version>/libs` of the workspace; the environment variable
//! `DOVECAST_KAFKA_CACHE` names another directory than `target`. It is filled under a lock and
//! renamed into place, so a directory that is there is whole, whatever became of other test
//! processes.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::Unavailable;
use crate::clock;

/// What to fetch, and in which version.
const POM: &str = include_str!("../../kafka-pom.xml");

/// The directory with the jars, fetched if it must be.
pub(super) fn find() -> Result<Result<PathBuf, Unavailable>> {
    if let Some(home) = env::var_os("KAFKA_HOME") {
        let libs = Path::new(&home).join("libs");
        ensure!(
            libs.is_dir(),
            "`KAFKA_HOME` is set, but there is no directory `{}`",
            libs.display()
        );
        return Ok(Ok(libs));
    }
    let cache = cache_directory();
    let version = version()?;
    let kafka = cache.join(format!("kafka-{version}"));
    let libs = kafka.join("libs");
    if libs.is_dir() {
        return Ok(Ok(libs));
    }
    fs::create_dir_all(&cache).with_context(|| format!("cannot create `{}`", cache.display()))?;
    let _lock = lock(&cache.join(format!("kafka-{version}.lock")))?;
    if libs.is_dir() {
        return Ok(Ok(libs));
    }
    let filling = tempfile::Builder::new()
        .prefix(&format!("kafka-{version}-"))
        .tempdir_in(&cache)
        .with_context(|| format!("cannot create a directory in `{}`", cache.display()))?;
    if let Err(unavailable) = fetch(filling.path())? {
        return Ok(Err(unavailable));
    }
    fs::rename(filling.keep(), &kafka)
        .with_context(|| format!("cannot rename the jars to `{}`", kafka.display()))?;
    Ok(Ok(libs))
}

fn cache_directory() -> PathBuf {
    env::var_os("DOVECAST_KAFKA_CACHE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    )
}

/// The version of Kafka named in the pom.
fn version() -> Result<&'static str> {
    POM.split_once("<kafka.version>")
        .and_then(|(_, rest)| rest.split_once("</kafka.version>"))
        .map(|(version, _)| version.trim())
        .context("kafka-pom.xml has no `kafka.version`")
}

/// Waits for other processes that fetch; released when the file is closed, however this process
/// ends.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot create `{}`", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock `{}`", path.display()))?;
    Ok(file)
}

/// Copies the jars into `directory`/libs with Maven.
fn fetch(directory: &Path) -> Result<Result<(), Unavailable>> {
    let pom = directory.join("pom.xml");
    fs::write(&pom, POM).with_context(|| format!("cannot write `{}`", pom.display()))?;
    let output = clock::true_time(&mut Command::new("mvn"))
        .args(["-B", "-q", "-f"])
        .arg(&pom)
        // By its full name: the short one is looked up in an index first, and fails without saying
        // why.
        .arg("org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies")
        .arg("-DincludeScope=runtime")
        .arg(format!(
            "-DoutputDirectory={}",
            directory.join("libs").display()
        ))
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            return Ok(Err(Unavailable::new(format!(
                "`KAFKA_HOME` is not set, and `mvn`, which would fetch Kafka, does not run: {error}"
            ))));
        }
    };
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    if is_network_trouble(&said) {
        let reason = said
            .lines()
            .find_map(|line| line.split_once("[ERROR] "))
            .map_or("it does not say why", |(_, reason)| reason);
        return Ok(Err(Unavailable::new(format!(
            "`KAFKA_HOME` is not set, and Maven Central cannot be reached: {reason}"
        ))));
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    bail!("`mvn` failed ({}): {said}{errors}", output.status);
}

/// Whether Maven complains of the network or of being told to stay off it, and not of what it
/// should fetch.
fn is_network_trouble(output: &str) -> bool {
    const SIGNS: [&str; 6] = [
        "Could not transfer",
        "Unknown host",
        "Connection refused",
        "Connect timed out",
        "Network is unreachable",
        "offline mode",
    ];
    SIGNS.iter().any(|sign| output.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pom_names_a_version_of_kafka_4() {
        assert!(version().expect("a version").starts_with("4."));
    }

    #[test]
    fn a_missing_artifact_is_no_network_trouble() {
        let missing =
            "[ERROR] Could not find artifact org.apache.kafka:kafka-tools-api:jar:4.4.0 in central";
        assert!(!is_network_trouble(missing));
        let offline = "[ERROR] Could not transfer artifact x from/to central: repo.maven.apache.org: Unknown host";
        assert!(is_network_trouble(offline));
    }
}
