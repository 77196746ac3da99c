//! The Java that runs Kafka: which one, whether it will do, how it is called.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Unavailable;
use crate::process;

/// What Kafka 4 needs.
const OLDEST_JAVA: u32 = 17;

/// A Java with Kafka's jars.
pub(super) struct Java {
    program: PathBuf,
    class_path: String,
}

impl Java {
    /// `$JAVA_HOME/bin/java`, or `java` by the path; `libs` is a directory of jars.
    pub(super) fn new(libs: &Path) -> Java {
        let program = std::env::var_os("JAVA_HOME").map_or_else(
            || PathBuf::from("java"),
            |home| Path::new(&home).join("bin/java"),
        );
        Java {
            program,
            class_path: format!("{}/*", libs.display()),
        }
    }

    /// What it is called by.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Whether there is such a Java, and one that is new enough.
    pub(super) fn check(&self) -> Result<(), Unavailable> {
        let program = self.program.display();
        let output = Command::new(&self.program)
            .arg("-version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Unavailable::new(format!("`{program}` does not run: {error}")))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match java_major_version(&said) {
            Some(major) if major >= OLDEST_JAVA => Ok(()),
            _ => Err(Unavailable::new(format!(
                "Kafka needs Java {OLDEST_JAVA} or newer, but `{program}` says: {}",
                said.trim()
            ))),
        }
    }

    /// A call of `main_class` with small memory and quick start; output is appended to `log`.
    pub(super) fn command(&self, main_class: &str, log: &Path) -> Result<Command> {
        let out = append_to(log)?;
        let err = out
            .try_clone()
            .with_context(|| format!("cannot open `{}` twice", log.display()))?;
        let mut command = process::detached(&self.program);
        command
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            // slf4j-simple, of kafka-pom.xml: the broker's own steps, else warnings; not the dump
            // of its settings.
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-Dorg.slf4j.simpleLogger.log.kafka=info")
            .arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn")
            .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
            .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
            // log4j 2 without a configuration, which is what a KAFKA_HOME has.
            .arg("-Dorg.apache.logging.log4j.level=WARN")
            .args(["-cp", &self.class_path, main_class])
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        Ok(command)
    }
}

fn append_to(log: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open the log `{}`", log.display()))
}

/// 17 from `openjdk version "17.0.15" 2025-04-15`.
fn java_major_version(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("version \"")?;
    let end = version.find(|c: char| !c.is_ascii_digit())?;
    version[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_java_is_understood() {
        let said = "openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime Environment";
        assert_eq!(java_major_version(said), Some(17));
        assert_eq!(java_major_version("java version \"1.8.0_292\""), Some(1));
        assert_eq!(
            java_major_version("openjdk version \"25\" 2025-09-16"),
            Some(25)
        );
        assert_eq!(java_major_version("command not found"), None);
    }

    #[test]
    fn without_java_kafka_is_unavailable() {
        let unavailable = Java {
            program: PathBuf::from("/nonexistent/java"),
            class_path: String::new(),
        }
        .check()
        .expect_err("no java");
        assert!(unavailable.to_string().contains("/nonexistent/java"));
    }
}
