//! `dovecast doctor`, about the relay of this host: whether it takes what this Dovecot's mail
//! processes send.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dovecast_doctor::{Finding, RelayUse};

use crate::config::{Config, Role};

/// Most user ids that a finding names.
const NAMED_IDS: usize = 5;

/// What is wrong with the configuration of the relay; `place` is where it stands.
pub(super) fn findings(config: &Config, place: &str, used: &RelayUse) -> Vec<Finding> {
    if used.topics.is_empty() {
        return Vec::new();
    }
    if !config.has(Role::Relay) {
        return vec![Finding::problem(format!(
            "the plugin has `transport = relay`, and `roles` in {place} has no \"relay\": nothing is taken; add it"
        ))];
    }
    let mut findings = Vec::new();
    match config.relay.unknown_users() {
        Ok(unknown) => findings.extend(unknown.iter().map(|user| {
            Finding::warning(format!(
                "`allow` of [relay] in {place}: this host has no user `{user}`"
            ))
        })),
        Err(error) => findings.push(Finding::warning(format!("{error:#}"))),
    }
    // Who is looked up in vain is reported above.
    if let Ok(allowed) = config.relay.allowed_uids() {
        let allowed = Allowed::new(config, allowed);
        findings.extend(allowed.users(place, used));
        findings.extend(allowed.spill_files(place, &config.spill_dir()));
    }
    findings.extend(topics(config, place, &used.topics));
    findings
}

/// User ids from which the relay takes events.
struct Allowed {
    ids: Vec<RangeInclusive<u32>>,
}

impl Allowed {
    fn new(config: &Config, mut ids: Vec<RangeInclusive<u32>>) -> Self {
        // The server's own user always may.
        let own = fs::metadata(&config.data_dir).map(|data_dir| data_dir.uid());
        ids.extend(own.map(|uid| uid..=uid));
        Self { ids }
    }

    fn has(&self, uid: u32) -> bool {
        self.ids.iter().any(|ids| ids.contains(&uid))
    }

    /// As whom mail processes run, by the configuration of Dovecot.
    fn users(&self, place: &str, used: &RelayUse) -> Option<Finding> {
        let denied = used.users.iter().filter(|user| !self.has(user.uid));
        let denied: Vec<_> = denied.collect();
        let source = &denied.first()?.source;
        let uids: Vec<u32> = denied.iter().map(|user| user.uid).collect();
        Some(Finding::problem(format!(
            "mail processes run as user id {} ({source}), which `allow` of [relay] lacks: the relay turns them away, and nothing arrives. {}",
            named(&uids),
            remedy(place, &uids)
        )))
    }

    /// Who has left files that the relay does not take in.
    fn spill_files(&self, place: &str, dir: &Path) -> Option<Finding> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries.filter_map(Result::ok),
            // Nothing was left there.
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                return Some(Finding::warning(format!(
                    "whether `{}` holds events that are not taken in was not checked: {error}; run it as root",
                    dir.display()
                )));
            }
        };
        let files = entries.filter_map(|entry| entry.metadata().ok());
        let owners = files.filter(fs::Metadata::is_file).map(|file| file.uid());
        let denied: BTreeSet<u32> = owners.filter(|uid| !self.has(*uid)).collect();
        let denied: Vec<u32> = denied.into_iter().collect();
        (!denied.is_empty()).then(|| {
            Finding::problem(format!(
                "`{}` holds events of user id {}, which `allow` of [relay] lacks: they are not taken in. {}",
                dir.display(),
                named(&denied),
                remedy(place, &denied)
            ))
        })
    }
}

/// What to do about user ids that are not allowed.
fn remedy(place: &str, uids: &[u32]) -> String {
    let ids: Vec<String> = uids
        .iter()
        .take(NAMED_IDS)
        .map(|uid| format!("\"{uid}\""))
        .collect();
    format!(
        "Add {} (or a range such as \"10000-19999\") to `allow` in {place}, and restart dovecast",
        ids.join(", ")
    )
}

fn named(uids: &[u32]) -> String {
    let ids: Vec<String> = uids.iter().take(NAMED_IDS).map(u32::to_string).collect();
    let more = match uids.len().saturating_sub(NAMED_IDS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    ids.join(", ") + &more
}

/// Topics of the plugin that the relay refuses, or that nobody delivers from.
fn topics(config: &Config, place: &str, used: &[String]) -> Vec<Finding> {
    let taken = config.relay_topics();
    let mut findings = Vec::new();
    for topic in used {
        if !taken.allow(topic) {
            findings.push(Finding::problem(format!(
                "the plugin sends to the topic `{topic}`, which the relay does not take: its events are lost. \
                 Name it in `event_topics` of [dispatch], or in `topics` of [relay], in {place}, and restart dovecast"
            )));
        } else if config.has(Role::Dispatch) && !config.dispatch.event_topics.contains(topic) {
            findings.push(Finding::warning(format!(
                "the plugin sends to the topic `{topic}`, which is not in `event_topics` of [dispatch] in {place}: \
                 its events come to no endpoint"
            )));
        }
    }
    findings
}
