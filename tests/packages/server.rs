//! The package `dovecast`: from a mail to its log, and from its installation to its purge.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use dovecast_testkit::{Unavailable, process};

use crate::package::{Package, package};
use crate::root::{Release, Root, said};
use crate::service::{self, Service};
use crate::{ARRIVAL, MAIL, documented};

const CONFIGURATION: &str = "etc/dovecast/dovecast.toml";
const MODULE: &str = "usr/lib/dovecot/modules/lib22_push_notification_kafka_plugin.so";
const SPILL_FILE: &str = "var/lib/dovecast/spill/kept.spill";
const LOG_FILE: &str = "var/lib/dovecast/log/kept";
const ENABLED: [&str; 2] = [
    "etc/systemd/system/multi-user.target.wants/dovecast.service",
    "etc/systemd/system/sockets.target.wants/dovecast-relay.socket",
];

/// The plugin without librdkafka hands the events of a mail to the server; nothing of the
/// configuration is changed but what the documentation says.
pub(crate) fn mail_to_tail(release: Release) -> Result<Result<(), Unavailable>> {
    let plugin = available!(package(Package::RelayOnly, release));
    let server = available!(package(Package::Server, release));
    let mut root = available!(Root::new(release));
    root.install(&[&plugin, &server])?;
    // Of our C it is only in the plugin without librdkafka.
    let module = fs::read(root.path(MODULE))?;
    let guard = b"__stack_chk_fail";
    ensure!(
        module.windows(guard.len()).any(|bytes| bytes == guard),
        "the C of the plugin is compiled without guards of the stack"
    );
    let mut describe = Command::new("dpkg-deb");
    let described = describe.arg("--field").arg(&server).arg("Description");
    let described = described.output().context("dpkg-deb")?;
    ensure!(
        String::from_utf8_lossy(&described.stdout).contains("webhooks"),
        "who looks for webhooks does not find it: {described:?}"
    );
    // One of those who may send by default; its id is that of the mail processes.
    root.ok(&["useradd", "--uid", "5000", "--user-group", "vmail"])?;
    root.configure(&documented::with_relay(release)?)?;
    let running = Service::start(&root)?;
    for check in [&["dovecast", "doctor"][..], &["dovecast-plugin-check"]] {
        let said = root.ok(check)?;
        ensure!(said.contains("nothing is wrong"), "{check:?}: {said}");
    }
    root.start()?;
    deliver(&root)?;
    seen(&root, &["MailboxCreate", "MessageNew"])?;

    // What is delivered while the server is away is in the directory that the package has made.
    running.stop(&root)?;
    deliver(&root)?;
    let running = Service::start(&root)?;
    seen(&root, &["MailboxCreate", "MessageNew", "MessageNew"])?;
    root.stop()?;
    running.stop(&root)?;
    Ok(Ok(()))
}

fn deliver(root: &Root) -> Result<()> {
    root.lmtp()?
        .deliver_ok("bob@example.org", &["alice"], MAIL)?;
    Ok(())
}

/// Waits until these events, and no others, are in the log.
fn seen(root: &Root, expected: &[&str]) -> Result<()> {
    let last = || -> Result<Vec<&'static str>> {
        let command = "dovecast tail --until-end --from beginning --format raw";
        let output = root.run(&command.split(' ').collect::<Vec<_>>())?;
        ensure!(output.status.success(), "{command}: {}", said(&output));
        let text = String::from_utf8(output.stdout)?;
        let kind = |line: &str| Ok(dovecast_event::parse(line.as_bytes())?.kind.name());
        text.lines().map(kind).collect()
    };
    let found = process::poll_until(ARRIVAL, || match last() {
        Ok(kinds) => (kinds == expected).then_some(Ok(())),
        Err(error) => Some(Err(error)),
    });
    found.unwrap_or_else(|| {
        bail!(
            "expected {expected:?}, the log has {:?}\n{}\n{}",
            last(),
            service::log(root),
            root.log()
        )
    })
}

/// What the operator has changed and what nobody has got yet outlive everything but a purge.
pub(crate) fn installed_and_purged(release: Release) -> Result<Result<(), Unavailable>> {
    let server = available!(package(Package::Server, release));
    let root = available!(Root::new(release));
    root.install(&[&server])?;
    as_installed(&root)?;

    let changed = fs::read_to_string(root.path(CONFIGURATION))? + "\n# A change.\n";
    root.write(CONFIGURATION, &changed)?;
    root.ok(&["install", "-d", "-m", "0700", "/var/lib/dovecast/log"])?;
    root.write(SPILL_FILE, "events")?;
    root.write(LOG_FILE, "records")?;
    // As `systemctl disable` does.
    fs::remove_file(root.path(ENABLED[0]))?;
    let kept = || -> Result<()> {
        ensure!(fs::read_to_string(root.path(CONFIGURATION))? == changed);
        ensure!(fs::read_to_string(root.path(SPILL_FILE))? == "events");
        ensure!(fs::read_to_string(root.path(LOG_FILE))? == "records");
        Ok(())
    };
    root.ok(&["chmod", "0600", &format!("/{CONFIGURATION}")])?;
    root.install(&[&server])?;
    kept().context("after it was installed again")?;
    let mode = root.ok(&["stat", "--format", "%a", &format!("/{CONFIGURATION}")])?;
    ensure!(mode == "600\n", "a mode of the operator is changed: {mode}");
    no_link_is_followed(&root, &server)?;
    ensure!(
        root.path(ENABLED[0]).symlink_metadata().is_err(),
        "a service that was disabled is enabled again"
    );
    root.ok(&["apt-get", "remove", "--yes", "dovecast"])?;
    kept().context("after it was removed")?;
    ensure!(!root.path("usr/bin/dovecast").exists());

    let words = root.ok(&["apt-get", "purge", "--yes", "dovecast"])?;
    ensure!(
        words.contains("removing /var/lib/dovecast: the log, and 1 spill files"),
        "the purge does not say what it takes:\n{words}"
    );
    for gone in ["etc/dovecast", "var/lib/dovecast", ENABLED[0], ENABLED[1]] {
        let path = root.path(gone);
        ensure!(path.symlink_metadata().is_err(), "{gone} is still there");
    }
    Ok(Ok(()))
}

/// The server's user owns the data directory; what it puts there does not lead root elsewhere.
fn no_link_is_followed(root: &Root, server: &Path) -> Result<()> {
    root.ok(&["install", "-d", "-m", "0700", "/var/elsewhere"])?;
    let (spill, aside) = ("/var/lib/dovecast/spill", "/var/lib/dovecast/aside");
    root.ok(&["mv", spill, aside])?;
    root.ok(&["ln", "-s", "/var/elsewhere", spill])?;
    // Whether it is refused or passed over.
    let installed = root.install(&[server]);
    let rights = root.ok(&["stat", "--format", "%a %U", "/var/elsewhere"])?;
    ensure!(rights == "700 root\n", "{rights}, {installed:?}");
    root.ok(&["rm", spill])?;
    root.ok(&["mv", aside, spill])?;
    root.install(&[server]).map(drop)
}

/// User, directories, configuration and links as they are to be after the first installation.
fn as_installed(root: &Root) -> Result<()> {
    let places = directories(root)?;
    ensure!(
        places == "711 dovecast:dovecast\n3733 dovecast:dovecast\n",
        "{places}"
    );
    // Passwords come into it.
    let rights = root.ok(&["stat", "--format", "%a %U:%G", &format!("/{CONFIGURATION}")])?;
    ensure!(rights == "640 root:dovecast\n", "{rights}");
    let file = fs::read_to_string(root.path(CONFIGURATION))?;
    ensure!(file == root.ok(&["dovecast", "config"])?, "{file}");
    root.ok(&[
        "dovecast",
        "config",
        "--check",
        &format!("/{CONFIGURATION}"),
    ])?;
    for link in ENABLED {
        let link = root.path(link);
        ensure!(link.symlink_metadata().is_ok(), "no {}", link.display());
    }
    Ok(())
}

/// Modes and owners.
fn directories(root: &Root) -> Result<String> {
    let format = ["stat", "--format", "%a %U:%G"];
    root.ok(&[
        &format[..],
        &["/var/lib/dovecast", "/var/lib/dovecast/spill"],
    ]
    .concat())
}

/// Writes down what it is told; every unit is enabled, none is running.
const SYSTEMCTL: &str = r#"#!/bin/sh
case "$*" in
*is-enabled*) echo enabled ;;
*is-active*) exit 3 ;;
*) echo "$*" >>/tmp/told ;;
esac
"#;

pub(crate) fn where_systemd_runs(release: Release) -> Result<Result<(), Unavailable>> {
    let server = available!(package(Package::Server, release));
    let root = available!(Root::new(release));
    fs::create_dir_all(root.path("run/systemd/system"))?;
    fs::remove_file(root.path("usr/sbin/policy-rc.d"))?;
    root.write("usr/bin/systemctl", SYSTEMCTL)?;
    root.ok(&["chmod", "755", "/usr/bin/systemctl"])?;

    root.install(&[&server])?;
    told(
        &root,
        &[
            "daemon-reload",
            "start dovecast-relay.socket",
            "start dovecast.service",
        ],
    )?;
    // Neither is stopped for an upgrade: the socket stays open.
    root.install(&[&server])?;
    told(
        &root,
        &[
            "daemon-reload",
            "start dovecast-relay.socket",
            "restart dovecast.service",
        ],
    )?;
    root.ok(&["apt-get", "remove", "--yes", "dovecast"])?;
    told(
        &root,
        &[
            "stop dovecast.service dovecast-relay.socket",
            "daemon-reload",
        ],
    )?;
    Ok(Ok(()))
}

/// What systemd was told since the last time, without options. `preset` is how deb-systemd-helper
/// enables.
fn told(root: &Root, expected: &[&str]) -> Result<()> {
    let path = root.path("tmp/told");
    let text = fs::read_to_string(&path).context("systemd was told nothing")?;
    fs::remove_file(&path)?;
    let words = |line: &str| -> String {
        let words: Vec<&str> = line
            .split(' ')
            .filter(|word| !word.starts_with("--"))
            .collect();
        words.join(" ")
    };
    let told: Vec<String> = text
        .lines()
        .map(words)
        .filter(|line| !line.starts_with("preset "))
        .collect();
    ensure!(told == expected, "{told:?}");
    Ok(())
}

/// The maintainer script without systemd, and systemd with the package's files, do the same. That
/// systemd is this machine's, looking at the root from outside.
pub(crate) fn with_and_without_systemd(release: Release) -> Result<Result<(), Unavailable>> {
    let server = available!(package(Package::Server, release));
    let root = available!(Root::new(release));
    root.install(&[&server])?;
    let by_script = (user(&root)?, directories(&root)?);

    fs::remove_dir_all(root.path("var/lib/dovecast"))?;
    root.ok(&["userdel", "dovecast"])?;
    for program in ["systemd-sysusers", "systemd-tmpfiles"] {
        let mut command = Command::new(program);
        command.arg(format!("--root={}", root.directory().display()));
        if program == "systemd-tmpfiles" {
            command.arg("--create");
        }
        let output = match command.arg("dovecast.conf").output() {
            Ok(output) => output,
            Err(error) => {
                let reason = format!("cannot run {program}: {error}");
                return Ok(Err(Unavailable::new(reason)));
            }
        };
        ensure!(output.status.success(), "{program}: {}", said(&output));
    }
    let by_systemd = (user(&root)?, directories(&root)?);
    ensure!(by_script == by_systemd, "{by_script:?} {by_systemd:?}");
    Ok(Ok(()))
}

/// Home and shell of the user.
fn user(root: &Root) -> Result<String> {
    let line = root.ok(&["getent", "passwd", "dovecast"])?;
    let fields: Vec<&str> = line.trim().split(':').skip(5).collect();
    Ok(fields.join(":"))
}
