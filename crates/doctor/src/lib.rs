//! What is wrong with a Dovecot that should publish its events: the configuration, the installed
//! modules, the files and brokers they name.
//!
//! Looks only; changes nothing and does not connect to Dovecot. Each finding is a sentence that
//! says what to do.

#![forbid(unsafe_code)]

mod cluster;
mod configuration;
mod convert;
mod installation;
mod instances;
mod loading;
mod mail_users;
mod module_file;
mod ox;
mod relay;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, ensure};

/// Which Dovecot to look at.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// Dovecot's configuration file, if not the default one; as seen from inside `root`.
    pub config: Option<PathBuf>,
    /// Dovecot's root directory, if it runs in a chroot.
    pub root: Option<PathBuf>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth a look.
    Warning,
    /// Events or mail are affected.
    Problem,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is, and what to do about it.
    pub text: String,
}

impl Finding {
    /// A finding that affects events or mail.
    pub fn problem(text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Problem,
            text: text.into(),
        }
    }

    /// A finding that is worth a look.
    pub fn warning(text: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            text: text.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Problem => "problem",
        };
        write!(f, "{severity}: {}", self.text)
    }
}

/// A user of the system as whom mail processes run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailUser {
    /// User id.
    pub uid: u32,
    /// What of the configuration says so.
    pub source: String,
}

/// What mail processes send to a relay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelayUse {
    /// Topics of driver instances with `transport = relay`; empty: there is none.
    pub topics: Vec<String>,
    /// As whom mail processes run, as far as it is known.
    pub users: Vec<MailUser>,
}

/// What was found, the worst first.
#[derive(Clone, Debug)]
pub struct Report {
    /// Dovecot's version.
    pub version: String,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What a relay on this host has to take.
    pub relay: RelayUse,
}

/// Looks at a Dovecot. An error means that it could not be looked at.
pub fn check(target: &Target) -> Result<Report> {
    let mut findings = Vec::new();
    let mut relay = RelayUse::default();
    let installation = installation::Installation::find(target)?;
    if let Some(configuration) = loading::read_configuration(&installation, &mut findings)? {
        loading::plugins(&installation, &configuration, &mut findings);
        loading::modules(&installation, &configuration, &mut findings);
        loading::drivers(&installation, &configuration, &mut findings);
        ox::names(&configuration, &mut findings);
        let spelling = installation.spelling();
        let instances = instances::instances(spelling, &configuration, &mut findings);
        let users = mail_users::mail_users(&installation, &configuration, &mut findings);
        let transports = relay::Transports::of(&configuration);
        if transports.relay || cluster::has_files(&configuration) {
            findings.extend(mail_users::unknown(&configuration));
            findings.extend(mail_users::unasked(&users));
        }
        if transports.relay {
            relay.topics = relay::topics(&instances);
            relay::relay(&installation, &configuration, &users, &mut findings);
        }
        if transports.kafka {
            cluster::files(&installation, &configuration, &users, &mut findings);
            cluster::brokers(&configuration, &mut findings);
            cluster::memory(&configuration, &mut findings);
        }
        relay.users = users;
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(Report {
        version: installation.version,
        findings,
        relay,
    })
}

/// The configuration of a Dovecot 2.3, as 2.4 wants it.
pub fn convert_to_2_4(target: &Target) -> Result<String> {
    let installation = installation::Installation::find(target)?;
    let output = installation.doveconf()?;
    ensure!(
        output.status.success(),
        "doveconf cannot read the configuration: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    ensure!(
        !installation.is_2_4(),
        "this is Dovecot {}: its configuration is in the new form",
        installation.version
    );
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(convert::to_2_4(&configuration::Section::parse(&printed)))
}
