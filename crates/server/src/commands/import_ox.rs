//! `dovecast import-ox FILE...`: the part of dovecast.toml that does what Open-Xchange's properties
//! of mail push say.
//!
//! What is printed always is a configuration: what the server would refuse, what is not there, and
//! what nothing here needs are comments. What is said of a property never shows its value.

mod properties;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::import_dovecot::{comments, quoted};
use crate::cli::ImportOxArguments;
use crate::config::Config;
use properties::Properties;

/// What all names begin with.
const COMMON: &str = "com.openexchange.";
/// What names begin with that are about mail push, and are told of where they are not taken over.
const OF_PUSH: [&str; 5] = [
    "dovecot.doveadm.",
    "pns.",
    "push.",
    "webhooks.",
    "websockets.",
];
/// What names have in them of which nothing is needed here: nodes share listeners by leases.
const NEEDLESS: [&str; 7] = [
    ".accountId",
    ".checkPeriodic",
    ".clusterLock",
    ".delay",
    ".pushMode",
    ".reschedule",
    ".stateless",
];

/// Reads files of properties, and prints the part of ours.
pub(super) fn run(arguments: &ImportOxArguments) -> Result<()> {
    let mut found = Properties::new();
    for file in &arguments.files {
        let bytes = super::input(file)?;
        properties::read(&String::from_utf8_lossy(&bytes), &mut found);
    }
    let (imap, master) = (&arguments.imap, &arguments.master_user);
    super::print(&imported(found, imap.as_deref(), master.as_deref()))
}

/// The part of dovecast.toml.
fn imported(found: Properties, imap: Option<&str>, master_user: Option<&str>) -> String {
    let mut making = Making {
        left: found,
        imap,
        master_user,
        sections: Vec::new(),
        notes: Vec::new(),
    };
    making.listeners();
    making.passwords();
    making.sources();
    making.notify_endpoint();
    making.tell_of_others();
    making.text()
}

/// A configuration that is being made.
struct Making<'a> {
    /// Properties that were not looked at yet.
    left: Properties,
    imap: Option<&'a str>,
    master_user: Option<&'a str>,
    /// Sections with their lines.
    sections: Vec<(&'static str, Vec<String>)>,
    notes: Vec<String>,
}

impl Making<'_> {
    fn take(&mut self, name: &str) -> Option<String> {
        self.left.remove(&format!("{COMMON}{name}"))
    }

    /// A property that is `true` or `false`; what is neither is told.
    fn flag(&mut self, name: &str) -> Option<bool> {
        let text = self.take(name)?.to_ascii_lowercase();
        match &*text {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.note(name, "is neither true nor false");
                None
            }
        }
    }

    fn is_on(&mut self, name: &str) -> bool {
        self.flag(name) == Some(true)
    }

    fn note(&mut self, name: &str, text: &str) {
        self.notes.push(format!("{COMMON}{name} {text}."));
    }

    /// Puts what is written in TOML already.
    fn put(&mut self, section: &'static str, key: &str, value: &str) {
        let line = format!("{key} = {value}");
        match self.sections.iter_mut().find(|(name, _)| *name == section) {
            Some((_, lines)) => lines.push(line),
            None => self.sections.push((section, vec![line])),
        }
    }

    fn put_text(&mut self, section: &'static str, key: &str, text: &str) {
        self.put(section, key, &quoted(text));
    }

    fn put_list<'t>(
        &mut self,
        section: &'static str,
        key: &str,
        texts: impl IntoIterator<Item = &'t str>,
    ) {
        let texts: Vec<String> = texts.into_iter().map(quoted).collect();
        self.put(section, key, &format!("[{}]", texts.join(", ")));
    }

    fn listeners(&mut self) {
        if let Some(is_allowed) = self.flag("push.allowPermanentPush") {
            self.put("mail_push", "allow_permanent_push", &is_allowed.to_string());
        }
        // The documentation has the one name, the program the other.
        let documented = self.take("push.allowedClient");
        let clients = self.take("push.allowedClients").or(documented);
        if let Some(clients) = clients {
            let clients = clients
                .split(',')
                .map(|one| one.trim().trim_matches('"').trim());
            let clients = clients.filter(|one| !one.is_empty());
            self.put_list("mail_push", "allowed_clients", clients);
        }
    }

    fn passwords(&mut self) {
        let master = self.take("mail.masterPassword");
        let source = self.take("mail.passwordSource").unwrap_or_default();
        match (&*source, master, self.master_user) {
            ("global", Some(password), Some(user)) => {
                self.put_text("mail_push", "password_source", "global");
                self.put_text("mail_push", "master_user", user);
                self.put_text("mail_push", "master_password", &password);
            }
            ("global", ..) => self.note(
                "mail.passwordSource",
                "= global needs com.openexchange.mail.masterPassword and, here, `--master-user`",
            ),
            ("session", ..) => self.put_text("mail_push", "password_source", "session"),
            _ => {}
        }
        let section = "mail_push.credstorage";
        let is_enabled = self.flag("push.credstorage.enabled");
        let passcrypt = self.take("push.credstorage.passcrypt");
        let passcrypt = passcrypt.filter(|text| !text.is_empty());
        let is_stored = self.flag("push.credstorage.rdb");
        match (is_enabled, passcrypt) {
            (Some(true), None) => self.note(
                "push.credstorage.enabled",
                "needs com.openexchange.push.credstorage.passcrypt",
            ),
            (Some(true), Some(passcrypt)) => {
                self.put(section, "enabled", "true");
                self.put_text(section, "passcrypt", &passcrypt);
                if let Some(is_stored) = is_stored {
                    self.put(section, "rdb", &is_stored.to_string());
                }
            }
            _ => {}
        }
    }

    fn sources(&mut self) {
        let mut order = Vec::new();
        let imap = self.imap.map(ToOwned::to_owned);
        if let Some(imap) = &imap {
            self.put_text("mail_push.auth", "imap", imap);
        }
        let server = "needs the IMAP server, which `--imap` names";
        if self.is_on("push.dovecot.enabled") {
            match &imap {
                Some(imap) => {
                    order.push("dovecot");
                    self.put_text("mail_push.dovecot", "imap", imap);
                }
                None => self.note("push.dovecot.enabled", server),
            }
        }
        self.doveadm();
        let is_permanent = self.flag("push.imapidle.supportsPermanentListeners");
        let folder = self.take("push.imapidle.folder");
        if self.is_on("push.imapidle.enabled") {
            let section = "mail_push.imapidle";
            match &imap {
                Some(imap) => {
                    order.push("imapidle");
                    self.put_text(section, "server", imap);
                    if let Some(is_permanent) = is_permanent {
                        self.put(
                            section,
                            "supports_permanent_listeners",
                            &is_permanent.to_string(),
                        );
                    }
                }
                None => self.note("push.imapidle.enabled", server),
            }
            if folder.is_some_and(|folder| !folder.eq_ignore_ascii_case("INBOX")) {
                self.note(
                    "push.imapidle.folder",
                    "is another one than INBOX, which is heard here",
                );
            }
        }
        if self.datagrams() {
            order.push("mailnotify");
        }
        if self.is_on("push.malpoll.enabled") {
            self.note(
                "push.malpoll.enabled",
                "is not there: take `imapidle` instead",
            );
        }
        if !order.is_empty() {
            self.put_list("mail_push.sources", "order", order);
        }
    }

    fn doveadm(&mut self) {
        let is_preferred = self.is_on("push.dovecot.preferDoveadmForMetadata");
        if self.is_on("dovecot.doveadm.enabled") || is_preferred {
            for name in ["endpoints", "apiSecret"] {
                self.take(&format!("dovecot.doveadm.{name}"));
            }
            let text = "says an address and a key: in [mail_push.dovecot] set `doveadm_url`, and `doveadm_api_key_file` to a file with the key";
            self.note("dovecot.doveadm", text);
        }
    }

    /// Takes over what is said of datagrams; whether they are a source.
    fn datagrams(&mut self) -> bool {
        let of = |name: &str| format!("push.mail.notify.{name}");
        let is_enabled = self.is_on(&of("enabled"));
        let is_multicast = self.is_on(&of("udp_listen_multicast"));
        let host = self.take(&of("udp_listen_host"));
        let port = self.take(&of("udp_listen_port"));
        let is_whole = self.flag(&of("use_full_email_address"));
        let delay = self.take(&of("delay_millis"));
        if !is_enabled {
            return false;
        }
        if is_multicast {
            self.note(
                &of("udp_listen_multicast"),
                "is not there: have packets sent to each node",
            );
            return false;
        }
        let host = match host.as_deref() {
            None | Some("localhost" | "") => Some(IpAddr::from([127, 0, 0, 1])),
            Some(host) => host.parse().ok(),
        };
        let port = port.map_or(Some(23_420), |port| port.parse().ok());
        let Some((host, port)) = host.zip(port) else {
            self.note(
                &of("udp_listen_host"),
                "and the port are no address with a port",
            );
            return false;
        };
        if !host.is_loopback() {
            self.note(
                &of("udp_listen_host"),
                "is open to others: `allow` in [mail_push.mailnotify] has to name who sends packets",
            );
        }
        let section = "mail_push.mailnotify";
        let listen = SocketAddr::new(host, port).to_string();
        self.put_text(section, "listen", &listen);
        if let Some(is_whole) = is_whole {
            self.put(section, "use_full_email_address", &is_whole.to_string());
        }
        match delay.map(|delay| delay.parse::<u32>()) {
            None => {}
            Some(Ok(delay)) => self.put(section, "delay_millis", &delay.to_string()),
            Some(Err(_)) => self.note(&of("delay_millis"), "is no number"),
        }
        true
    }

    /// The login with which Dovecot's own driver comes.
    fn notify_endpoint(&mut self) {
        let user = self.take("rest.services.basic-auth.login");
        let password = self.take("rest.services.basic-auth.password");
        if let Some((user, password)) = user.zip(password) {
            self.put_text("ox", "user", &user);
            self.put_text("ox", "password", &password);
        }
    }

    /// Names what was not taken over.
    fn tell_of_others(&mut self) {
        for name in std::mem::take(&mut self.left).into_keys() {
            let Some(name) = name.strip_prefix(COMMON) else {
                continue;
            };
            if !OF_PUSH.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let text = if NEEDLESS.iter().any(|part| name.contains(part)) {
                "is not needed here"
            } else {
                "is not taken over"
            };
            self.note(name, text);
        }
    }

    fn text(&self) -> String {
        let mut out = comments(&self.notes);
        if self.sections.is_empty() {
            let nothing = "There is nothing of mail push in these properties that is taken over.";
            return comments(&[nothing.to_owned()]) + &out;
        }
        let mut config = String::new();
        for (section, lines) in &self.sections {
            // Writing into a text cannot fail.
            let _ = write!(config, "\n[{section}]\n{}\n", lines.join("\n"));
        }
        let head = "Mail push of Open-Xchange, for dovecast.toml.";
        out = comments(&[head.to_owned()]) + &out;
        match Config::parse(&config) {
            Ok(_) => out + &config,
            Err(error) => {
                out += &comments(&[format!("The server refuses this: {error}")]);
                let lines = config.lines().map(str::to_owned);
                out + &comments(&lines.collect::<Vec<_>>())
            }
        }
    }
}

#[cfg(test)]
mod tests;
