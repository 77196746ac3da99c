//! Whether Dovecot can load the plugin and comes to its driver.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use dovecast_options::{GENERAL_SETTINGS, INSTANCE_OPTIONS, Spelling};

use crate::Finding;
use crate::configuration::Section;
use crate::installation::Installation;
use crate::module_file::ModuleFile;

const PLUGIN: &str = "push_notification_kafka";
const NEEDED: [&str; 2] = ["notify", "push_notification"];
const SETTINGS_MODULE: &str =
    "/usr/lib/dovecot/modules/settings/libpush_notification_kafka_settings.so";
/// The configuration, or a finding where Dovecot itself cannot read it because of us.
pub(crate) fn read_configuration(
    installation: &Installation,
    findings: &mut Vec<Finding>,
) -> Result<Option<Section>> {
    let output = installation.doveconf()?;
    if output.status.success() {
        return Ok(Some(Section::parse(&String::from_utf8_lossy(
            &output.stdout,
        ))));
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let is_our_setting = words.contains("Unknown setting") && words.contains("kafka");
    let is_our_module = words.contains("push_notification_kafka_settings");
    if !is_our_setting && !is_our_module {
        bail!("doveconf cannot read the configuration: {words}");
    }
    if let Some(text) = unknown_option(&words) {
        findings.push(Finding::problem(text));
        return Ok(None);
    }
    let path = installation.path(SETTINGS_MODULE);
    let text = match ModuleFile::read(&path) {
        Err(_) => format!(
            "the settings module `{SETTINGS_MODULE}` is missing, so that Dovecot does not start: install it, it belongs to the plugin"
        ),
        Ok(ModuleFile { abi, .. }) => format!(
            "the settings module `{SETTINGS_MODULE}` is of another build (ABI {}), so that Dovecot does not start: install the one of this plugin",
            abi.as_deref().unwrap_or("unknown")
        ),
    };
    findings.push(Finding::problem(format!("{text} (doveconf: {words})")));
    Ok(None)
}

/// What is wrong with the name of a setting that no build of ours has.
fn unknown_option(words: &str) -> Option<String> {
    let (_, rest) = words.rsplit_once("Unknown setting: ")?;
    let name = rest.split([' ', '\n']).next()?;
    let short = name.strip_prefix("push_notification_").unwrap_or(name);
    let short = short.strip_prefix("kafka_")?;
    let mut all = INSTANCE_OPTIONS.iter().chain(GENERAL_SETTINGS);
    let is_ours = |known: &str| known.strip_prefix("kafka_").unwrap_or(known) == short;
    if short == "settings" || all.any(|option| is_ours(option.name)) {
        return None;
    }
    let known = Spelling::V2_4.known_options() + ", " + &Spelling::V2_4.known_settings();
    Some(format!(
        "unknown option `{name}`, so that Dovecot does not start; known are: {known} (doveconf: {words})"
    ))
}

/// The lists of mail plugins: the global one, and those of protocols that have their own.
fn plugin_lists(
    installation: &Installation,
    configuration: &Section,
) -> Vec<(String, Vec<String>)> {
    let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let global = owned(configuration.list("mail_plugins").unwrap_or_default());
    let of_protocols = configuration
        .named("protocol")
        .filter_map(|(protocol, section)| {
            let mut list = owned(section.list("mail_plugins")?);
            if installation.is_2_4() && section.section("mail_plugins").is_some() {
                // In 2.4 a protocol's list adds to the global one.
                list.extend(global.iter().cloned());
            }
            Some((format!("protocol {protocol}"), list))
        });
    let mut lists: Vec<_> = of_protocols.collect();
    lists.insert(0, ("the global list".to_owned(), global.clone()));
    lists
}

/// Is the plugin switched on, with those it needs?
pub(crate) fn plugins(
    installation: &Installation,
    configuration: &Section,
    findings: &mut Vec<Finding>,
) {
    let lists = plugin_lists(installation, configuration);
    let has = |list: &[String], name: &str| list.iter().any(|plugin| plugin == name);
    if !lists.iter().any(|(_, list)| has(list, PLUGIN)) {
        findings.push(Finding::problem(format!(
            "`{PLUGIN}` is not in mail_plugins: nothing is sent"
        )));
    }
    for (place, list) in lists {
        if has(&list, PLUGIN) {
            for needed in NEEDED.into_iter().filter(|needed| !has(&list, needed)) {
                findings.push(Finding::problem(format!(
                    "mail_plugins ({place}) has `{PLUGIN}` but not `{needed}`: the plugin cannot be loaded, and no user can open a mailbox; add `{needed}`"
                )));
            }
        } else if ["imap", "lmtp", "lda"]
            .iter()
            .any(|mail| place == format!("protocol {mail}"))
        {
            findings.push(Finding::warning(format!(
                "mail_plugins ({place}) has no `{PLUGIN}`: what happens there is not sent"
            )));
        }
    }
}

/// Are the module files there, in order, and built for this Dovecot and for each other?
pub(crate) fn modules(
    installation: &Installation,
    configuration: &Section,
    findings: &mut Vec<Finding>,
) {
    let directory = match configuration.get("mail_plugin_dir") {
        Some(directory) => directory.to_owned(),
        None => installation.setting("mail_plugin_dir").unwrap_or_default(),
    };
    let Some(plugin) = find_module(
        installation,
        &directory,
        "push_notification_kafka_plugin.so",
    ) else {
        let text = format!(
            "no `lib22_push_notification_kafka_plugin.so` in `{directory}`: no user can open a mailbox; install the plugin"
        );
        findings.push(Finding::problem(text));
        return;
    };
    let Some(framework) = find_module(installation, &directory, "push_notification_plugin.so")
    else {
        findings.push(Finding::problem(format!(
            "Dovecot's own push_notification plugin is not in `{directory}`"
        )));
        return;
    };
    if load_order(&plugin) < load_order(&framework) {
        findings.push(Finding::problem(format!(
            "`{}` is loaded before `{}` and cannot be: no user can open a mailbox; call it `lib22_push_notification_kafka_plugin.so`",
            plugin.display(),
            framework.display()
        )));
    }
    match (ModuleFile::read(&plugin), ModuleFile::read(&framework)) {
        (Ok(ours), Ok(dovecots)) => {
            if ours.abi != dovecots.abi {
                let name = |abi: &Option<String>| abi.clone().unwrap_or_else(|| "none".to_owned());
                findings.push(Finding::problem(format!(
                    "`{}` was built for ABI {}, Dovecot has {}: no user can open a mailbox; install the plugin of this Dovecot",
                    plugin.display(),
                    name(&ours.abi),
                    name(&dovecots.abi)
                )));
            }
            if installation.is_2_4() {
                settings_module(installation, &ours, findings);
            }
        }
        (Err(error), _) | (_, Err(error)) => findings.push(Finding::problem(format!("{error:#}"))),
    }
}

fn settings_module(installation: &Installation, plugin: &ModuleFile, findings: &mut Vec<Finding>) {
    match ModuleFile::read(&installation.path(SETTINGS_MODULE)) {
        Err(error) => findings.push(Finding::problem(format!(
            "the settings module is missing: Dovecot refuses every setting of the plugin ({error:#})"
        ))),
        Ok(module) if module.settings_build != plugin.settings_build => findings.push(Finding::problem(format!(
            "the settings module `{SETTINGS_MODULE}` and the plugin are of different builds: the driver is off; install both from one package"
        ))),
        Ok(_) => {}
    }
}

fn find_module(installation: &Installation, directory: &str, ending: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(installation.path(directory)).ok()?;
    let is_it = |name: &str| {
        let stripped = name.strip_prefix("lib").unwrap_or(name);
        stripped
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start_matches('_')
            == ending
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .is_some_and(|name| is_it(&name.to_string_lossy()))
        })
}

/// Dovecot loads modules in the order of their names without `lib`.
fn load_order(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("lib").unwrap_or(&name).to_owned()
}

/// Is there a driver instance of ours, and does Dovecot come to it?
pub(crate) fn drivers(
    installation: &Installation,
    configuration: &Section,
    findings: &mut Vec<Finding>,
) {
    if installation.is_2_4() {
        let mut blocks = configuration.named("push_notification");
        let is_ours =
            |(name, block): (&str, &Section)| block.get("driver").unwrap_or(name) == "kafka";
        if !blocks.any(is_ours) {
            findings.push(Finding::warning(
                "no block `push_notification NAME { driver = kafka }`: nothing is sent",
            ));
        }
        return;
    }
    let Some(plugin) = configuration.section("plugin") else {
        findings.push(Finding::warning(
            "no plugin section with `push_notification_driver = kafka`: nothing is sent",
        ));
        return;
    };
    let name = |number: usize| match number {
        1 => "push_notification_driver".to_owned(),
        _ => format!("push_notification_driver{number}"),
    };
    let counted = (1..=plugin.settings.len())
        .take_while(|number| plugin.get(&name(*number)).is_some())
        .count();
    let is_ours = |value: &str| value == "kafka" || value.starts_with("kafka:");
    let reached = (1..=counted).any(|number| plugin.get(&name(number)).is_some_and(is_ours));
    for (setting, value) in &plugin.settings {
        let number = setting
            .strip_prefix("push_notification_driver")
            .and_then(|rest| rest.parse::<usize>().ok());
        if is_ours(value) && number.is_some_and(|number| number > counted) {
            findings.push(Finding::problem(format!(
                "`{setting}` is never reached: `{}` is missing, and Dovecot stops at the first gap",
                name(counted + 1)
            )));
        }
    }
    if !reached {
        findings.push(Finding::warning(
            "no `push_notification_driver = kafka`: nothing is sent",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelled_option_is_told_from_a_settings_module_that_is_missing() {
        let words = |name: &str| {
            format!(
                "doveconf: Fatal: Error in configuration file /etc/dovecot/dovecot.conf line 20: {name}: Unknown setting: {name} \
                 (push_notification_{name} or push_notification_a_{name} not found either.)"
            )
        };
        for (name, is_misspelled) in [
            ("kafka_topik", true),
            ("push_notification_kafka_transprot", true),
            ("kafka_topic", false),
            ("kafka_brokers", false),
            ("push_notification_kafka_transport", false),
            ("kafka_settings", false),
            ("mail_foo", false),
        ] {
            let said = unknown_option(&words(name));
            assert_eq!(said.is_some(), is_misspelled, "{name}: {said:?}");
        }
    }
}
