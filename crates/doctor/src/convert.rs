//! The 2.4 blocks for a 2.3 configuration of push notifications.

use std::fmt::Write as _;

use crate::configuration::Section;

/// Single-letter variables of 2.3 and what 2.4 calls them.
const VARIABLES: [(char, &str); 5] = [
    ('%', "%"),
    ('u', "%{user}"),
    ('n', "%{user | username}"),
    ('d', "%{user | domain}"),
    ('h', "%{home}"),
];

/// Prints what stands in a 2.3 configuration as 2.4 wants it: mail plugins, one block per driver,
/// settings for all of them. What has no counterpart is told in a comment.
pub(crate) fn to_2_4(configuration: &Section) -> String {
    let mut out = String::new();
    let plugins = configuration.list("mail_plugins").unwrap_or_default();
    let ours = ["notify", "push_notification", "push_notification_kafka"];
    open(&mut out, "mail_plugins");
    for plugin in ours.iter().filter(|plugin| plugins.contains(plugin)) {
        line(&mut out, 1, plugin, "yes");
    }
    close(&mut out, 0);
    let empty = Section::default();
    let plugin = configuration.section("plugin").unwrap_or(&empty);
    general(&mut out, plugin);
    for number in 1..=plugin.settings.len() {
        let suffix = if number == 1 {
            String::new()
        } else {
            number.to_string()
        };
        let Some(driver) = plugin.get(&format!("push_notification_driver{suffix}")) else {
            break;
        };
        block(&mut out, driver, &suffix);
    }
    out
}

fn general(out: &mut String, plugin: &Section) {
    let mut properties = Vec::new();
    for (name, value) in &plugin.settings {
        let Some(name) = name.strip_prefix("kafka.notification.") else {
            continue;
        };
        if let Some(property) = name.strip_prefix("settings.") {
            properties.push((property, value));
        } else if name == "kafka_topic_close_time_in_ms" {
            comment(out, 0, &format!("{name} has no meaning any more"));
        } else {
            let short = name.strip_prefix("kafka_").unwrap_or(name);
            line(out, 0, &format!("push_notification_kafka_{short}"), value);
        }
    }
    if !properties.is_empty() {
        open(out, "push_notification_kafka_settings");
        for (property, value) in properties {
            line(out, 1, property, value);
        }
        close(out, 0);
    }
}

fn block(out: &mut String, driver: &str, suffix: &str) {
    let (name, options) = driver.split_once(':').unwrap_or((driver, ""));
    open(out, &format!("push_notification {name}{suffix}"));
    line(out, 1, "driver", name);
    for option in options.split(' ').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, key) {
            ("kafka", _) => line(out, 1, &format!("kafka_{key}"), value),
            ("ox", "url") => ox_url(out, &format!("{name}{suffix}"), value),
            ("ox", "cache_lifetime") => line(out, 1, "ox_cache_ttl", value),
            ("ox", "user_from_metadata") => {
                comment(
                    out,
                    1,
                    "every IMAP user writes the name that his mails get:",
                );
                line(out, 1, "ox_user_from_metadata", "yes");
            }
            ("lua", "file") => line(out, 1, "lua_file", value),
            _ => comment(out, 1, &format!("not converted: {option}")),
        }
    }
    close(out, 0);
}

/// The URL of a driver `ox`. With a variable in it 2.4 does not start: a field of the userdb has it
/// then.
fn ox_url(out: &mut String, block: &str, url: &str) {
    let (text, _) = variables(url);
    if !text.contains("%{") {
        return line(out, 1, "ox_url", url);
    }
    let comments = [
        "2.4 starts with no variable in this URL; say it by a field of the userdb:",
        &format!("push_notification/{block}/ox_url = {text}"),
    ];
    for text in comments {
        comment(out, 1, text);
    }
    let plain = url.split('?').next().unwrap_or_default();
    line(out, 1, "ox_url", plain);
}

fn open(out: &mut String, name: &str) {
    let _ = writeln!(out, "{name} {{");
}

fn close(out: &mut String, depth: usize) {
    let _ = writeln!(out, "{}}}", "  ".repeat(depth));
}

fn comment(out: &mut String, depth: usize, text: &str) {
    let _ = writeln!(out, "{}# {text}", "  ".repeat(depth));
}

fn line(out: &mut String, depth: usize, name: &str, value: &str) {
    let (value, unknown) = variables(value);
    for variable in unknown {
        comment(
            out,
            depth,
            &format!("{name}: the variable {variable} has another name in 2.4"),
        );
    }
    let is_plain = !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"#".contains(&byte));
    let value = if is_plain {
        value
    } else {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    };
    let _ = writeln!(out, "{}{name} = {value}", "  ".repeat(depth));
}

/// The value with 2.4's variables, and those for which there is no rule.
fn variables(value: &str) -> (String, Vec<String>) {
    let (mut text, mut unknown) = (String::new(), Vec::new());
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let Some(name) = rest.next() else {
            text.push('%');
            break;
        };
        if let Some((_, new)) = VARIABLES.iter().find(|(known, _)| *known == name) {
            text.push_str(new);
        } else {
            text.extend(['%', name]);
            unknown.push(format!("%{name}"));
        }
    }
    (text, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_2_3_configuration_becomes_blocks() {
        let old = "mail_plugins = quota notify push_notification push_notification_kafka\nplugin {\n\
            kafka.notification.kafka_brokers = a:9092,b:9092\n\
            kafka.notification.kafka_topic_close_time_in_ms = 0\n\
            kafka.notification.settings.sasl.password = 50%% \"x\"\n\
            kafka.notification.settings.client.id = dovecot-%u-%l\n\
            push_notification_driver = kafka\n\
            push_notification_driver2 = kafka:topic=flags events=FlagsSet,FlagsClear keyword_prefix= userdb=k1\n\
            push_notification_driver3 = ox:url=http://x/ cache_lifetime=10s user_from_metadata max_retries=1\n\
            push_notification_driver4 = ox:url=http://y/n?of=%u\n\
            push_notification_driver6 = dlog\n}\n";
        let expected = "mail_plugins {\n  notify = yes\n  push_notification = yes\n  push_notification_kafka = yes\n}\n\
            push_notification_kafka_brokers = a:9092,b:9092\n\
            # kafka_topic_close_time_in_ms has no meaning any more\n\
            push_notification_kafka_settings {\n  sasl.password = \"50% \\\"x\\\"\"\n  \
            # client.id: the variable %l has another name in 2.4\n  client.id = dovecot-%{user}-%l\n}\n\
            push_notification kafka {\n  driver = kafka\n}\n\
            push_notification kafka2 {\n  driver = kafka\n  kafka_topic = flags\n  kafka_events = FlagsSet,FlagsClear\n  \
            kafka_keyword_prefix = \"\"\n  kafka_userdb = k1\n}\n\
            push_notification ox3 {\n  driver = ox\n  ox_url = http://x/\n  ox_cache_ttl = 10s\n  \
            # every IMAP user writes the name that his mails get:\n  ox_user_from_metadata = yes\n  # not converted: max_retries=1\n}\n\
            push_notification ox4 {\n  driver = ox\n  # 2.4 starts with no variable in this URL; say it by a field of the userdb:\n  \
            # push_notification/ox4/ox_url = http://y/n?of=%{user}\n  ox_url = http://y/n\n}\n";
        assert_eq!(to_2_4(&Section::parse(old)), expected);
    }
}
