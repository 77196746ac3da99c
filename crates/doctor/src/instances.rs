//! The driver instances of ours that a configuration has, with their options as the plugin gets
//! them, and what the plugin says of them.
//!
//! What Dovecot puts in for each user (`%u`, `%{user}`) is not known here: such a value is taken
//! for a right one.

use dovecast_options::{
    GENERAL_SETTINGS, GeneralSettings, INSTANCE_OPTIONS, InstanceOptions, OptionDefault, Spelling,
    without_secrets,
};

use crate::Finding;
use crate::configuration::Section;

type Pairs = Vec<(String, String)>;

/// A driver instance as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Written {
    /// As the plugin's log lines call it.
    label: String,
    options: Pairs,
    settings: Pairs,
}

/// A driver instance as the plugin understands it.
pub(crate) struct Instance {
    pub(crate) options: InstanceOptions,
    pub(crate) settings: GeneralSettings,
}

/// All driver instances of ours; those that the plugin switches off are findings instead.
pub(crate) fn instances(
    spelling: Spelling,
    configuration: &Section,
    findings: &mut Vec<Finding>,
) -> Vec<Instance> {
    let mut written = Vec::new();
    match spelling {
        Spelling::V2_3 => of_2_3(configuration, &Vec::new(), &mut written),
        Spelling::V2_4 => of_2_4(configuration, &Written::default(), &mut written),
    }
    let mut instances = Vec::new();
    for written in written {
        let (options, wrong) = InstanceOptions::read(spelling, &bytes(&written.options));
        let (general, wrong_settings) = GeneralSettings::read(spelling, &bytes(&written.settings));
        let wrong: Vec<String> = wrong
            .iter()
            .chain(&wrong_settings)
            .map(ToString::to_string)
            .collect();
        if wrong.is_empty() {
            let settings = general.settings;
            instances.push(Instance { options, settings });
        } else {
            let text = format!("{} is off: {}", written.label, wrong.join("; "));
            let finding = Finding::problem(text);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    instances
}

fn bytes(pairs: &Pairs) -> Vec<(&[u8], &[u8])> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect()
}

/// Instances of Dovecot 2.3 in a section and those in it; `outer` are the plugin settings around.
fn of_2_3(section: &Section, outer: &Pairs, found: &mut Vec<Written>) {
    let mut plugin = outer.clone();
    for (name, value) in section
        .section("plugin")
        .into_iter()
        .flat_map(|own| &own.settings)
    {
        set(&mut plugin, name, value);
    }
    let get = |name: String| plugin.iter().find(|(known, _)| *known == name);
    let mut settings = Pairs::new();
    for (name, value) in &plugin {
        if let Some(name) = name.strip_prefix("kafka.notification.") {
            set(&mut settings, name, &expanded(name, value));
        }
    }
    let suffixes =
        std::iter::once(String::new()).chain((2..).map(|number: u32| number.to_string()));
    let drivers = suffixes.map_while(|suffix| get(format!("push_notification_driver{suffix}")));
    for (_, driver) in drivers {
        let (name, options) = driver.split_once(':').unwrap_or((driver, ""));
        if name != "kafka" {
            continue;
        }
        let mut pairs = Pairs::new();
        for option in options.split(' ').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            set(&mut pairs, name, &expanded(name, value));
        }
        let written = Written {
            label: Spelling::V2_3.instance_label(&without_secrets(options)),
            options: pairs,
            settings: settings.clone(),
        };
        if !found.contains(&written) {
            found.push(written);
        }
    }
    for inner in section
        .sections
        .iter()
        .filter(|inner| inner.name != "plugin")
    {
        of_2_3(inner, &plugin, found);
    }
}

/// Instances of Dovecot 2.4 in a section and those in it; `outer` is what is set for all of them.
fn of_2_4(section: &Section, outer: &Written, found: &mut Vec<Written>) {
    let mut here = outer.clone();
    take_2_4(section, &mut here, |name| {
        name.strip_prefix("push_notification_")
    });
    for (name, block) in section.named("push_notification") {
        if block.get("driver").unwrap_or(name) != "kafka" {
            continue;
        }
        let mut written = here.clone();
        take_2_4(block, &mut written, |name| {
            Some(name.strip_prefix("push_notification_").unwrap_or(name))
        });
        written.label = Spelling::V2_4.instance_label(name);
        found.push(written);
    }
    let is_other = |inner: &&Section| !inner.name.starts_with("push_notification");
    for inner in section.sections.iter().filter(is_other) {
        of_2_4(inner, &here, found);
    }
}

/// Takes what a section of Dovecot 2.4 sets. `rest_of` says what of a name counts.
fn take_2_4<'s>(
    section: &'s Section,
    into: &mut Written,
    rest_of: impl Fn(&'s str) -> Option<&'s str>,
) {
    let short_of = |name: &'s str| rest_of(name)?.strip_prefix("kafka_");
    let is = |list: &[OptionDefault], name: &str| list.iter().any(|known| known.name == name);
    for (name, value) in &section.settings {
        let Some(short) = short_of(name) else {
            continue;
        };
        let general = format!("kafka_{short}");
        if is(GENERAL_SETTINGS, &general) {
            set(&mut into.settings, &general, &expanded(&general, value));
        } else if is(GENERAL_SETTINGS, short) {
            set(&mut into.settings, short, &expanded(short, value));
        } else {
            set(&mut into.options, short, &expanded(short, value));
        }
    }
    for list in &section.sections {
        match short_of(&list.name) {
            Some("settings") => {
                for (property, value) in &list.settings {
                    set(&mut into.settings, &format!("settings.{property}"), value);
                }
            }
            Some(short) => {
                let on = list.settings.iter().filter(|(_, value)| value != "no");
                let words: Vec<&str> = on.map(|(word, _)| word.as_str()).collect();
                set(&mut into.options, short, &words.join(","));
            }
            None => {}
        }
    }
}

fn set(pairs: &mut Pairs, name: &str, value: &str) {
    match pairs.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => pairs.push((name.to_owned(), value.to_owned())),
    }
}

/// The value of an option; its default where Dovecot puts something in for each user.
fn expanded(name: &str, value: &str) -> String {
    let literal = value.replace("%%", "");
    if !literal.contains('%') {
        return value.replace("%%", "%");
    }
    let mut all = INSTANCE_OPTIONS.iter().chain(GENERAL_SETTINGS);
    let default = all.find(|option| option.name == name);
    default.map_or(value, |option| option.value).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(spelling: Spelling, configuration: &str) -> Vec<String> {
        let mut findings = Vec::new();
        let configuration = Section::parse(configuration);
        instances(spelling, &configuration, &mut findings);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_plugin_refuses_in_2_3_is_a_problem_in_its_words() {
        let plugin = |lines: &str| format!("plugin {{\n{lines}\n}}\n");
        let driver = |options: &str| plugin(&format!("push_notification_driver = kafka:{options}"));
        let relay = "push_notification_driver = kafka\nkafka.notification";
        for (configuration, expected) in [
            (
                driver("topik=x"),
                "driver kafka:topik=x is off: unknown option `topik` (value `x`)",
            ),
            (
                driver("events=MessageNews"),
                "option `events`: unknown event `MessageNews`",
            ),
            (
                driver("events=MessageNew, MessageRead"),
                "`MessageRead` is not an option but an event",
            ),
            (
                driver("topic=a/b"),
                "option `topic`: `a/b` is not a Kafka topic",
            ),
            (
                driver("metadata=/private/x"),
                "needs full detail: set `detail=full`",
            ),
            (
                plugin(&format!("{relay}.transport = rely")),
                "`kafka.notification.transport`: `rely` is not",
            ),
            (
                plugin(&format!("{relay}.relay_queue_max_kbytes = many")),
                "`kafka.notification.relay_queue_max_kbytes`: `many` is not a number of kilobytes",
            ),
            (
                format!("protocol lmtp {{\n{}}}\n", driver("topik=x")),
                "driver kafka:topik=x is off",
            ),
            (
                format!(
                    "{}protocol lmtp {{\n{}}}\n",
                    driver("topic=x"),
                    plugin("kafka.notification.transport = rely")
                ),
                "driver kafka:topic=x is off",
            ),
        ] {
            let findings = said(Spelling::V2_3, &configuration);
            assert_eq!(findings.len(), 1, "{configuration}: {findings:?}");
            assert!(
                findings[0].starts_with("problem: driver kafka:"),
                "{findings:?}"
            );
            assert!(
                findings[0].contains(expected),
                "{configuration}: {findings:?}"
            );
        }
    }

    #[test]
    fn what_the_plugin_refuses_in_2_4_is_a_problem_in_its_words() {
        let block = |lines: &str| format!("push_notification a {{\n driver = kafka\n{lines}\n}}\n");
        let label = "problem: push_notification a { driver = kafka } is off: ";
        for (configuration, expected) in [
            (
                block("kafka_topic = a/b"),
                "option `kafka_topic`: `a/b` is not a Kafka topic",
            ),
            (
                block("kafka_events = MessageNews"),
                "option `kafka_events`: unknown event `MessageNews`",
            ),
            (
                block("kafka_events {\n MessageNews = yes\n}"),
                "unknown event `MessageNews`",
            ),
            (
                block("kafka_metadata = /private/x"),
                "needs full detail: set `kafka_detail = full`",
            ),
            (
                format!("push_notification_kafka_transport = rely\n{}", block("")),
                "option `kafka_transport`: `rely` is not `kafka` or `relay`",
            ),
            (
                format!(
                    "push_notification_kafka_content = x\nprotocol imap {{\n{}}}\n",
                    block("")
                ),
                "option `kafka_content`: `x` is not `yes` or `no`",
            ),
        ] {
            let findings = said(Spelling::V2_4, &configuration);
            assert_eq!(findings.len(), 1, "{configuration}: {findings:?}");
            let reason = findings[0].strip_prefix(label);
            assert!(
                reason.is_some_and(|reason| reason.contains(expected)),
                "{findings:?}"
            );
        }
    }

    #[test]
    fn what_the_plugin_takes_is_no_finding() {
        for (spelling, configuration) in [
            (
                Spelling::V2_3,
                "plugin {\n push_notification_driver = kafka:topic=m-%d userdb=a,b keyword_prefix=\n}\n",
            ),
            (
                Spelling::V2_3,
                "plugin {\n push_notification_driver = ox:url=x\n push_notification_driver3 = kafka:topik=x\n}\n",
            ),
            (
                Spelling::V2_3,
                "plugin {\n push_notification_driver = kafka\n kafka.notification.settings.client.id = a%u\n}\n",
            ),
            (
                Spelling::V2_4,
                "push_notification a {\n driver = ox\n kafka_topic = a/b\n}\n",
            ),
            (
                Spelling::V2_4,
                "push_notification_kafka_topic = a/b\npush_notification kafka {\n kafka_topic = m-%{user|domain}\n \
                 kafka_events = MessageNew MessageRead\n kafka_settings {\n acks = 1\n }\n}\n",
            ),
        ] {
            assert_eq!(
                said(spelling, configuration),
                Vec::<String>::new(),
                "{configuration}"
            );
        }
    }
}
