//! The Debian packages, installed into a clean Debian 12 and a clean Debian 13 as an operator
//! would; that of the plugin is built for further Dovecots, too.
//!
//! A case that cannot run on this machine says why, loudly, and is counted as ignored.

/// Leaves the case where something cannot be had.
macro_rules! available {
    ($result:expr) => {
        match $result? {
            Ok(value) => value,
            Err(unavailable) => return Ok(Err(unavailable)),
        }
    };
}

mod doctor;
mod documented;
mod exchange;
mod package;
mod root;
mod server;
mod service;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::mock_broker::MockBroker;
use dovecast_testkit::topic::TopicReader;
use dovecast_testkit::{Unavailable, debian};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use package::{Package, package};
use root::{Release, Root, said};

pub(crate) const MAIL: &[u8] = b"Subject: Hi\r\n\r\nHello.\r\n";
pub(crate) const ARRIVAL: Duration = dovecast_testkit::PATIENCE;

type Case = fn(Release) -> Result<Result<(), Unavailable>>;

const CASES: [(&str, Case); 9] = [
    (
        "installed_enabled_and_removed_as_the_documentation_says",
        installed_and_removed,
    ),
    ("apt_refuses_a_package_for_another_abi", another_abi),
    ("lintian_finds_no_error", lintian),
    (
        "the_check_names_everything_that_is_broken",
        doctor::every_diagnosis,
    ),
    (
        "a_mail_is_seen_in_the_log_of_the_installed_server",
        server::mail_to_tail,
    ),
    (
        "a_server_that_is_removed_leaves_its_data_and_one_that_is_purged_nothing",
        server::installed_and_purged,
    ),
    (
        "the_server_is_started_restarted_and_stopped_where_systemd_runs",
        server::where_systemd_runs,
    ),
    (
        "user_and_directories_are_the_same_with_and_without_systemd",
        server::with_and_without_systemd,
    ),
    (
        "the_two_plugin_packages_take_each_others_place_while_configured",
        exchange::there_and_back,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments {
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let of_releases = [Release::Bookworm, Release::Trixie]
        .into_iter()
        .flat_map(|release| {
            CASES.map(|(name, case)| {
                trial(format!("{}::{name}", release.name()), move || case(release))
            })
        });
    let of_dovecots = [&debian::BACKPORTS, &debian::SID].map(|release| {
        let name = format!("{}::the_package_depends_on_the_abi", release.dovecot);
        trial(name, || depends_on_abi(release))
    });
    let trials = of_releases.chain(of_dovecots).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(
    name: String,
    case: impl FnOnce() -> Result<Result<(), Unavailable>> + Send + 'static,
) -> Trial {
    Trial::ignorable_test(name.clone(), move || match case() {
        Ok(Ok(())) => Ok(Completion::Completed),
        Ok(Err(unavailable)) => {
            println!("\n*** {name} SKIPPED: {unavailable}\n");
            Ok(Completion::ignored_with(unavailable.to_string()))
        }
        Err(error) => Err(Failed::from(dovecast_testkit::failure(&error))),
    })
}

/// Dovecots that no clean Debian is made of.
fn depends_on_abi(release: &'static debian::Release) -> Result<Result<(), Unavailable>> {
    let dependencies = available!(package::dependencies_for(release));
    let abi = format!("dovecot-abi-{}", release.abi.to_lowercase());
    let mut names = dependencies.split(", ").map(str::trim);
    ensure!(
        names.any(|name| name == abi),
        "no `{abi}` in {dependencies}"
    );
    Ok(Ok(()))
}

fn installed_and_removed(release: Release) -> Result<Result<(), Unavailable>> {
    let package = available!(package(Package::Plugin, release));
    let mut root = available!(Root::new(release));
    let broker = MockBroker::start(1)?;
    let inside = root.take_in(&package)?;
    root.ok(&["apt-get", "install", "--yes", &inside])?;
    root.configure(&documented::with_brokers(
        release,
        &broker.bootstrap_servers(),
    )?)?;
    let checked = root.ok(&["dovecast-plugin-check"])?;
    ensure!(checked.contains("nothing is wrong"), "{checked}");

    root.start()?;
    root.lmtp()?
        .deliver_ok("bob@example.org", &["alice"], MAIL)?;
    let settings = [("bootstrap.servers".to_owned(), broker.bootstrap_servers())];
    let mut reader = TopicReader::new(&settings, "dovecot")?;
    let kinds = (0..2).map(|_| {
        let record = reader
            .next(ARRIVAL)?
            .with_context(|| format!("nothing has arrived:\n{}", root.log()))?;
        Ok(dovecast_event::parse(&record.value)?.kind.name())
    });
    let kinds = kinds.collect::<Result<Vec<_>>>()?;
    ensure!(kinds == ["MailboxCreate", "MessageNew"], "{kinds:?}");

    // While it is configured it does not go, and mail goes on.
    let words = root.refused(&["apt-get", "remove", "--yes", Package::Plugin.name()])?;
    ensure!(
        words.contains("still loads push_notification_kafka"),
        "{words}"
    );
    root.lmtp()?
        .deliver_ok("bob@example.org", &["alice"], MAIL)?;
    root.stop()?;
    root.configure("")?;
    root.ok(&["apt-get", "remove", "--yes", Package::Plugin.name()])?;
    root.start()?;
    root.lmtp()?
        .deliver_ok("bob@example.org", &["alice"], MAIL)?;
    root.stop()?;
    Ok(Ok(()))
}

/// The package with another ABI in its dependencies.
fn doctored(package: &Path, directory: &Path, from: &str, to: &str) -> Result<PathBuf> {
    let tree = directory.join("tree");
    let run = |arguments: &[&Path], option: &str| -> Result<()> {
        let output = Command::new("dpkg-deb")
            .arg(option)
            .args(arguments)
            .output()
            .context("cannot run dpkg-deb")?;
        ensure!(
            output.status.success(),
            "dpkg-deb {option}: {}",
            said(&output)
        );
        Ok(())
    };
    run(&[package, &tree], "--raw-extract")?;
    let control = tree.join("DEBIAN/control");
    let text = std::fs::read_to_string(&control)?;
    ensure!(text.contains(from), "`{from}` is not in\n{text}");
    std::fs::write(&control, text.replace(from, to))?;
    let doctored = directory.join("doctored.deb");
    run(&[&tree, &doctored], "--build")?;
    std::fs::remove_dir_all(&tree)?;
    Ok(doctored)
}

fn another_abi(release: Release) -> Result<Result<(), Unavailable>> {
    let package = available!(package(Package::Plugin, release));
    let root = available!(Root::new(release));
    let (abi, others) = match release {
        Release::Bookworm => (
            "dovecot-abi-2.3.abiv19",
            ["dovecot-abi-2.3.abiv18", "dovecot-abi-2.3.abiv20"],
        ),
        Release::Trixie => (
            "dovecot-abi-2.4.abiv1",
            ["dovecot-abi-2.4.abiv0", "dovecot-abi-2.4.abiv2"],
        ),
    };
    let inside = root.take_in(&package)?;
    root.ok(&["apt-get", "install", "--simulate", &inside])?;
    for other in others {
        let directory = tempfile::tempdir()?;
        let inside = root.take_in(&doctored(&package, directory.path(), abi, other)?)?;
        let words = root.refused(&["apt-get", "install", "--yes", &inside])?;
        ensure!(
            words.contains(other),
            "apt does not name `{other}`:\n{words}"
        );
    }
    Ok(Ok(()))
}

fn lintian(release: Release) -> Result<Result<(), Unavailable>> {
    let mut packages = Vec::new();
    for each in [Package::Plugin, Package::RelayOnly, Package::Server] {
        packages.push(available!(package(each, release)));
    }
    let output = Command::new("lintian")
        .args(["--fail-on", "error", "--allow-root"])
        .args(&packages)
        .output();
    match output {
        Ok(output) => {
            ensure!(output.status.success(), "lintian: {}", said(&output));
            Ok(Ok(()))
        }
        Err(error) => Ok(Err(Unavailable::new(format!(
            "cannot run lintian: {error}"
        )))),
    }
}
