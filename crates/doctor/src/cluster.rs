//! What the driver needs once it is loaded: files it can read, brokers it can reach, memory.

use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::configuration::Section;
use crate::installation::Installation;
use crate::{Finding, MailUser};

const CONNECT: Duration = Duration::from_secs(3);

/// What a mail process with the plugin needs of address space: itself, librdkafka with TLS, and a
/// thread per broker.
const BASE_MEMORY_MB: u64 = 64;
const MEMORY_PER_BROKER_MB: u64 = 1;

/// Every setting of ours, with the name behind the prefix that the version has.
pub(crate) fn our_settings(configuration: &Section) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
    if let Some(plugin) = configuration.section("plugin") {
        for (name, value) in &plugin.settings {
            if let Some(name) = name.strip_prefix("kafka.notification.") {
                add(name.strip_prefix("kafka_").unwrap_or(name), value);
            }
        }
    }
    let blocks = configuration
        .named("push_notification")
        .map(|(_, block)| block);
    for place in blocks.chain([configuration]) {
        for (name, value) in &place.settings {
            let short = name
                .trim_start_matches("push_notification_")
                .trim_start_matches("kafka_");
            if place.name.starts_with("push_notification")
                || name.starts_with("push_notification_kafka_")
            {
                add(short, value);
            }
        }
        for list in &place.sections {
            if matches!(
                list.name.as_str(),
                "settings" | "kafka_settings" | "push_notification_kafka_settings"
            ) {
                for (name, value) in &list.settings {
                    add(&format!("settings.{name}"), value);
                }
            }
        }
    }
    all
}

/// Whether librdkafka is told to read files.
pub(crate) fn has_files(configuration: &Section) -> bool {
    named_files(configuration).next().is_some()
}

/// Files that librdkafka is told to read, by their settings.
fn named_files(configuration: &Section) -> impl Iterator<Item = (String, String)> {
    let settings = our_settings(configuration).into_iter();
    settings.filter(|(name, path)| {
        name.starts_with("settings.ssl.") && name.ends_with(".location") && path.starts_with('/')
    })
}

/// Can the mail user read the files that librdkafka is told to read?
pub(crate) fn files(
    installation: &Installation,
    configuration: &Section,
    users: &[MailUser],
    findings: &mut Vec<Finding>,
) {
    for (name, path) in named_files(configuration) {
        let seen = installation.path(&path);
        if let Err(error) = std::fs::File::open(&seen) {
            findings.push(Finding::problem(format!(
                "`{name}`: cannot read `{path}`: {error}"
            )));
            continue;
        }
        for MailUser { uid, source } in users {
            if !is_allowed(*uid, "-r", &seen) {
                findings.push(Finding::problem(format!(
                    "`{name}`: `{path}` is not readable by user id {uid} ({source}), and mail processes read it as that user"
                )));
            }
        }
    }
}

/// Asks the kernel, as that user, with an option of test(1). Where this process may not become that
/// user, nothing is claimed.
pub(crate) fn is_allowed(uid: u32, what: &str, path: &Path) -> bool {
    let status = Command::new("test")
        .arg(what)
        .arg(path)
        .uid(uid)
        .stdin(Stdio::null())
        .status();
    status.map_or(true, |status| status.success())
}

/// Can a broker be reached?
pub(crate) fn brokers(configuration: &Section, findings: &mut Vec<Finding>) {
    let mut lists: Vec<String> = our_settings(configuration)
        .into_iter()
        .filter(|(name, _)| {
            matches!(
                name.as_str(),
                "brokers" | "settings.bootstrap.servers" | "settings.metadata.broker.list"
            )
        })
        .map(|(_, value)| value)
        .collect();
    if lists.is_empty() {
        lists.push("localhost:9092".to_owned());
    }
    for list in lists {
        let failures: Vec<String> = list
            .split(',')
            .map(str::trim)
            .filter_map(|broker| connect(broker).err())
            .collect();
        if failures.len() == list.split(',').count() {
            findings.push(Finding::problem(format!(
                "none of the brokers `{list}` can be reached: {}",
                failures.join("; ")
            )));
        } else {
            findings.extend(
                failures.into_iter().map(|failure| {
                    Finding::warning(format!("a broker cannot be reached: {failure}"))
                }),
            );
        }
    }
}

fn connect(broker: &str) -> Result<(), String> {
    let address = broker
        .rsplit_once("://")
        .map_or(broker, |(_, address)| address);
    let with_port = if address.contains(':') {
        address.to_owned()
    } else {
        format!("{address}:9092")
    };
    let addresses = with_port
        .to_socket_addrs()
        .map_err(|error| format!("{broker}: {error}"))?;
    let mut last = format!("{broker}: no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) => last = format!("{broker}: {error}"),
        }
    }
    Err(last)
}

/// Does `vsz_limit` leave room for librdkafka?
pub(crate) fn memory(configuration: &Section, findings: &mut Vec<Finding>) {
    let default = configuration
        .get("default_vsz_limit")
        .and_then(megabytes)
        .unwrap_or(256);
    let brokers = our_settings(configuration)
        .iter()
        .filter(|(name, _)| name == "brokers")
        .map(|(_, list)| list.split(',').count() as u64)
        .max()
        .unwrap_or(1);
    let needed = BASE_MEMORY_MB + brokers * MEMORY_PER_BROKER_MB;
    for service in ["imap", "lmtp"] {
        let limit = configuration
            .section(&format!("service {service}"))
            .and_then(|section| section.get("vsz_limit"))
            .and_then(megabytes)
            .filter(|limit| *limit > 0)
            .unwrap_or(default);
        if limit < needed {
            findings.push(Finding::problem(format!(
                "service {service} has a vsz_limit of {limit} MB: with the plugin a process needs about {needed} MB, and dies where it gets less"
            )));
        }
    }
}

/// `256 M`, `1G`, `65536 k`, `18446744073709551615 B` (unset) in MB; 0 is no limit.
fn megabytes(size: &str) -> Option<u64> {
    let digits: String = size.chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse().ok()?;
    match size[digits.len()..]
        .trim()
        .to_ascii_lowercase()
        .chars()
        .next()
    {
        Some('g') => Some(number.saturating_mul(1024)),
        Some('m') => Some(number),
        Some('k') => Some(number / 1024),
        _ if number == u64::MAX => None,
        _ => Some(number / 1024 / 1024),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_dovecot_prints_them() {
        assert_eq!(megabytes("256 M"), Some(256));
        assert_eq!(megabytes("1G"), Some(1024));
        assert_eq!(megabytes("65536 k"), Some(64));
        assert_eq!(megabytes("18446744073709551615 B"), None);
        assert_eq!(megabytes("unlimited"), None);
    }

    #[test]
    fn settings_of_both_versions_have_one_name() {
        let v2_3 = "plugin {\n kafka.notification.kafka_brokers = a\n kafka.notification.settings.linger.ms = 5\n}\n";
        let v2_4 = "push_notification_kafka_brokers = a\npush_notification x {\n settings {\n linger.ms = 5\n }\n}\n";
        let mut read = [v2_3, v2_4].map(|text| our_settings(&Section::parse(text)));
        for settings in &mut read {
            settings.sort();
        }
        assert_eq!(read[0], read[1]);
    }
}
