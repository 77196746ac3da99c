//! `dovecast-plugin-check` on a real installation that is broken in every way it knows, one after
//! the other.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::Unavailable;
use dovecast_testkit::mock_broker::MockBroker;

use crate::package::{Package, package};
use crate::root::{Release, Root, said};

const PLUGIN: &str = "usr/lib/dovecot/modules/lib22_push_notification_kafka_plugin.so";
const SETTINGS_MODULE: &str =
    "usr/lib/dovecot/modules/settings/libpush_notification_kafka_settings.so";

/// A root with the package and a configuration that is right but for what a case changes.
struct Patient {
    root: Root,
    brokers: String,
}

impl Patient {
    /// The check has to end with this code and say this.
    fn expect(&self, code: i32, words: &str) -> Result<()> {
        let output = self.root.run(&["dovecast-plugin-check"])?;
        let said = said(&output);
        ensure!(
            output.status.code() == Some(code) && said.contains(words),
            "expected exit code {code} and {words:?}, got {}:\n{said}",
            output.status
        );
        Ok(())
    }

    /// Replaces the configuration by one with these mail plugins, driver settings and further
    /// lines.
    fn configure(&self, plugins: &[&str], driver: &str, further: &str) -> Result<()> {
        self.configure_with(&self.brokers, plugins, driver, further)
    }

    fn configure_with(
        &self,
        brokers: &str,
        plugins: &[&str],
        driver: &str,
        further: &str,
    ) -> Result<()> {
        let text = match self.root.release {
            Release::Bookworm => format!(
                "mail_uid = 5000\nmail_plugins = {}\nplugin {{\n  kafka.notification.kafka_brokers = {brokers}\n{driver}\n}}\n{further}\n",
                plugins.join(" ")
            ),
            Release::Trixie => {
                let list: Vec<String> = plugins
                    .iter()
                    .map(|plugin| format!("  {plugin} = yes"))
                    .collect();
                let list = list.join("\n");
                format!(
                    "mail_plugins {{\n{list}\n}}\npush_notification_kafka_brokers = {brokers}\n{driver}\n{further}\n"
                )
            }
        };
        self.root.configure(&text)
    }

    fn driver(&self) -> &'static str {
        match self.root.release {
            Release::Bookworm => "push_notification_driver = kafka",
            Release::Trixie => "push_notification kafka {\n  driver = kafka\n}",
        }
    }

    fn property(&self, name: &str, value: &str) -> String {
        match self.root.release {
            Release::Bookworm => format!(
                "kafka.notification.settings.{name} = {value}\n{}",
                self.driver()
            ),
            Release::Trixie => {
                format!(
                    "push_notification_kafka_settings {{\n  {name} = {value}\n}}\n{}",
                    self.driver()
                )
            }
        }
    }

    /// As it should be.
    fn heal(&self) -> Result<()> {
        self.configure(&ALL, self.driver(), "")?;
        self.expect(0, "nothing is wrong")
    }
}

const ALL: [&str; 3] = ["notify", "push_notification", "push_notification_kafka"];

/// Every way to break it, each from a healthy state.
pub(crate) fn every_diagnosis(release: Release) -> Result<Result<(), Unavailable>> {
    let package = available!(package(Package::Plugin, release));
    let root = available!(Root::new(release));
    let inside = root.take_in(&package)?;
    root.ok(&["apt-get", "install", "--yes", &inside])?;
    let broker = MockBroker::start(1)?;
    let patient = Patient {
        root,
        brokers: broker.bootstrap_servers(),
    };
    patient.heal()?;
    switched_on(&patient)?;
    module_files(&patient)?;
    if release == Release::Trixie {
        settings_module(&patient)?;
    }
    key_files(&patient)?;
    brokers_and_memory(&patient)?;
    relay(&patient)?;
    patient.root.configure("this is no configuration\n")?;
    patient.expect(3, "doveconf cannot read the configuration")?;
    Ok(Ok(()))
}

fn switched_on(patient: &Patient) -> Result<()> {
    patient.configure(&["notify", "push_notification"], patient.driver(), "")?;
    patient.expect(
        2,
        "`push_notification_kafka` is not in mail_plugins: nothing is sent",
    )?;
    patient.configure(&["notify", "push_notification_kafka"], patient.driver(), "")?;
    patient.expect(
        2,
        "has `push_notification_kafka` but not `push_notification`",
    )?;
    patient.configure(
        &["push_notification", "push_notification_kafka"],
        patient.driver(),
        "",
    )?;
    patient.expect(2, "has `push_notification_kafka` but not `notify`")?;
    patient.configure(&ALL, "", "")?;
    patient.expect(1, "nothing is sent")?;
    if patient.root.release == Release::Bookworm {
        patient.configure(
            &ALL,
            "push_notification_driver = dlog\npush_notification_driver3 = kafka",
            "",
        )?;
        patient.expect(
            2,
            "`push_notification_driver3` is never reached: `push_notification_driver2` is missing",
        )?;
        let of_lmtp = "protocol lmtp {\n  mail_plugins = notify\n}";
        patient.configure(&ALL, patient.driver(), of_lmtp)?;
        patient.expect(
            1,
            "mail_plugins (protocol lmtp) has no `push_notification_kafka`",
        )?;
    }
    patient.heal()
}

fn module_files(patient: &Patient) -> Result<()> {
    let plugin = patient.root.path(PLUGIN);
    let aside = patient.root.path("tmp/plugin.so");
    fs::rename(&plugin, &aside)?;
    patient.expect(2, "no `lib22_push_notification_kafka_plugin.so` in")?;

    let too_early = plugin.with_file_name("lib10_push_notification_kafka_plugin.so");
    fs::rename(&aside, &too_early)?;
    patient.expect(2, "and cannot be: no user can open a mailbox")?;
    fs::rename(&too_early, &aside)?;

    let other = match patient.root.release {
        Release::Bookworm => Release::Trixie,
        Release::Trixie => Release::Bookworm,
    };
    if let Ok(package) = package(Package::Plugin, other)? {
        let tree = patient.root.path("tmp/other");
        let unpacked = Command::new("dpkg-deb")
            .arg("-x")
            .arg(&package)
            .arg(&tree)
            .status();
        ensure!(
            unpacked.context("cannot run dpkg-deb")?.success(),
            "cannot unpack {}",
            package.display()
        );
        fs::copy(tree.join(PLUGIN), &plugin)?;
        patient.expect(2, "was built for ABI")?;
        fs::remove_file(&plugin)?;
    }
    fs::rename(&aside, &plugin)?;
    patient.heal()
}

fn settings_module(patient: &Patient) -> Result<()> {
    const MARK: &[u8] = b"dovecast-settings-build:";
    let module = patient.root.path(SETTINGS_MODULE);
    let whole = fs::read(&module)?;
    let at = whole
        .windows(MARK.len())
        .position(|window| window == MARK)
        .context("the module has no mark")?;
    let mut other = whole.clone();
    other[at + MARK.len()] ^= 1;
    fs::write(&module, other)?;
    patient.expect(2, "and the plugin are of different builds")?;
    fs::remove_file(&module)?;
    patient.expect(2, "is missing, so that Dovecot does not start")?;
    fs::write(&module, whole)?;
    patient.heal()
}

fn key_files(patient: &Patient) -> Result<()> {
    let with_key = patient.property("ssl.key.location", "/etc/dovecot/client.key");
    patient.configure(&ALL, &with_key, "")?;
    patient.expect(2, "cannot read `/etc/dovecot/client.key`: No such file")?;
    patient.root.write("etc/dovecot/client.key", "key")?;
    patient
        .root
        .ok(&["chmod", "600", "/etc/dovecot/client.key"])?;
    patient.expect(
        2,
        "`/etc/dovecot/client.key` is not readable by user id 5000 (`uid` of the userdb)",
    )?;
    patient
        .root
        .ok(&["chown", "5000", "/etc/dovecot/client.key"])?;
    patient.expect(0, "nothing is wrong")?;
    patient.heal()
}

/// No brokers are asked for where events go to a relay.
fn relay(patient: &Patient) -> Result<()> {
    let relay = match patient.root.release {
        Release::Bookworm => "kafka.notification.transport = relay\n",
        Release::Trixie => "push_notification_kafka_transport = relay\n",
    };
    let dead = "127.255.255.254:9";
    let with_relay = format!("{relay}{}", patient.driver());
    patient.configure_with(dead, &ALL, &with_relay, "")?;
    patient.expect(2, "no relay answers at `/run/dovecast/relay.sock`")?;
    patient.expect(
        2,
        "the spill directory `/var/lib/dovecast/spill` is not there",
    )?;
    patient
        .root
        .ok(&["install", "-d", "-m", "0755", "/var/lib/dovecast/spill"])?;
    patient.expect(2, "is not writable by user id 5000 (`uid` of the userdb)")?;
    patient
        .root
        .ok(&["chmod", "3733", "/var/lib/dovecast/spill"])?;
    let output = patient.root.run(&["dovecast-plugin-check"])?;
    let said = said(&output);
    ensure!(
        !said.contains("spill") && !said.contains("broker"),
        "more than the relay is wrong: {said}"
    );
    patient.heal()
}

fn brokers_and_memory(patient: &Patient) -> Result<()> {
    let further = "service imap {\n  vsz_limit = 32M\n}";
    patient.configure(&ALL, patient.driver(), further)?;
    patient.expect(2, "service imap has a vsz_limit of 32 MB")?;
    // Nobody listens on this address.
    let dead = "127.255.255.254:9";
    patient.configure_with(
        &format!("{},{dead}", patient.brokers),
        &ALL,
        patient.driver(),
        "",
    )?;
    patient.expect(1, "a broker cannot be reached: 127.255.255.254:9")?;
    patient.configure_with(dead, &ALL, patient.driver(), "")?;
    patient.expect(2, "none of the brokers `127.255.255.254:9` can be reached")?;
    patient.heal()
}
