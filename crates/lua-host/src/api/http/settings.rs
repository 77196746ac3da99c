//! Settings of a client as scripts write them, in the spelling of Dovecot 2.3
//! (`request_timeout_msecs = 5000`) and in that of 2.4 (`request_timeout = "5s"`).
//!
//! Both are understood, whichever Dovecot the script was written for. A setting that neither has is
//! an error in 2.4 and is passed over in 2.3, and so it is here; for a script of 2.3 so is a value
//! that 2.4 could not read of a setting that only 2.4 has.

mod values;

use std::collections::BTreeMap;
use std::time::Duration;

use mlua::{Table, Value};
use ureq::http::Method;

use values::{Kind, Read};

/// Most attempts of a request, whatever the script says: its function has a time limit, too.
const MAX_ATTEMPTS: u32 = 10;
/// Longest time of a request where the script says none, as in Dovecot.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Settings of 2.4 by what their values are: those of `http_client_` without that prefix, and those
/// of TLS. What has no field in [`Settings`] is checked, and has no effect.
const OF_2_4: [(Kind, &[&str]); 6] = [
    (
        Kind::Truth,
        &[
            "auto_redirect",
            "auto_retry",
            "proxy_ssl_tunnel",
            "ssl_client_require_valid_cert",
        ],
    ),
    (
        Kind::Milliseconds,
        &[
            "connect_backoff_max_time",
            "connect_backoff_time",
            "connect_timeout",
            "delete_request_timeout",
            "dns_ttl",
            "max_idle_time",
            "read_request_timeout",
            "request_absolute_timeout",
            "request_timeout",
            "soft_connect_timeout",
            "write_request_timeout",
        ],
    ),
    (Kind::Seconds, &["max_auto_retry_delay"]),
    (
        Kind::Count,
        &[
            "delete_request_max_attempts",
            "max_connect_attempts",
            "max_parallel_connections",
            "max_pipelined_requests",
            "read_request_max_attempts",
            "request_max_attempts",
            "request_max_redirects",
            "response_hdr_max_fields",
            "write_request_max_attempts",
        ],
    ),
    (
        Kind::Size,
        &[
            "response_hdr_max_field_size",
            "response_hdr_max_size",
            "socket_recv_buffer_size",
            "socket_send_buffer_size",
        ],
    ),
    (
        Kind::Text,
        &[
            "dns_client_socket_path",
            "proxy_password",
            "proxy_socket_path",
            "proxy_url",
            "proxy_username",
            "rawlog_dir",
            "ssl_cipher_list",
            "ssl_cipher_suites",
            "ssl_client_ca_dir",
            "ssl_client_ca_file",
            "ssl_client_cert_file",
            "ssl_client_key_file",
            "ssl_client_key_password",
            "ssl_crypto_device",
            "ssl_curve_list",
            "ssl_min_protocol",
            "ssl_options",
            "user_agent",
        ],
    ),
];
/// Settings of 2.3, with the names that 2.4 has for them.
const OF_2_3: [(Kind, &[(&str, &str)]); 4] = [
    (
        Kind::Truth,
        &[
            ("debug", "debug"),
            ("no_auto_redirect", NO_AUTO_REDIRECT),
            ("no_auto_retry", NO_AUTO_RETRY),
        ],
    ),
    (
        Kind::Milliseconds,
        &[
            ("connect_backoff_max_time_msecs", "connect_backoff_max_time"),
            ("connect_backoff_time_msecs", "connect_backoff_time"),
            ("connect_timeout_msecs", "connect_timeout"),
            ("max_idle_time_msecs", "max_idle_time"),
            ("request_absolute_timeout_msecs", "request_absolute_timeout"),
            ("request_timeout_msecs", "request_timeout"),
            ("soft_connect_timeout_msecs", "soft_connect_timeout"),
        ],
    ),
    (
        Kind::Count,
        &[
            ("max_attempts", "request_max_attempts"),
            ("max_auto_retry_delay_secs", "max_auto_retry_delay"),
            ("max_connect_attempts", "max_connect_attempts"),
            ("max_redirects", "request_max_redirects"),
        ],
    ),
    (
        Kind::Text,
        &[
            ("proxy_url", "proxy_url"),
            ("rawlog_dir", "rawlog_dir"),
            ("user_agent", "user_agent"),
        ],
    ),
];
const NO_AUTO_REDIRECT: &str = "no_auto_redirect";
const NO_AUTO_RETRY: &str = "no_auto_retry";

/// What a script says of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Whether redirects are followed, as far as `max_redirects` allows.
    pub(super) is_redirected: bool,
    /// Redirects that one request follows at most.
    pub(super) max_redirects: u32,
    /// Whether what was not answered is sent again.
    pub(super) is_retried: bool,
    /// Longest time that an answer may ask to wait for; as long as one attempt, if it is not said.
    max_delay: Option<Duration>,
    attempts: ByMethod<u32>,
    timeout: ByMethod<Duration>,
    /// Longest time of all attempts of a request.
    pub(super) absolute_timeout: Option<Duration>,
    /// Longest time until there is a connection.
    pub(super) connect_timeout: Option<Duration>,
    /// How long a connection is kept that is not used.
    pub(super) max_idle_time: Option<Duration>,
    /// What the header says; empty: there is no such header.
    pub(super) user_agent: String,
    /// The proxy that all requests go through.
    pub(super) proxy: Option<ProxySettings>,
    /// What TLS is to be.
    pub(super) tls: TlsSettings,
}

/// A proxy, and its user if the URL names none.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ProxySettings {
    pub(super) url: String,
    pub(super) username: String,
    pub(super) password: String,
}

/// Shows no password.
impl std::fmt::Debug for ProxySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxySettings").finish_non_exhaustive()
    }
}

/// Files of TLS; an empty name is no file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TlsSettings {
    /// Authorities that are trusted instead of the system's.
    pub(super) ca_file: String,
    /// The client's own certificate.
    pub(super) cert_file: String,
    /// The key of that certificate.
    pub(super) key_file: String,
    /// Whether the certificate of the server has to be valid.
    pub(super) requires_valid_cert: bool,
}

/// A bound for each kind of method, where one differs from the bound of all.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ByMethod<T> {
    all: T,
    read: Option<T>,
    write: Option<T>,
    delete: Option<T>,
}

impl<T: Copy> ByMethod<T> {
    fn of(&self, method: &Method) -> T {
        let own = match method.as_str() {
            "GET" | "HEAD" => self.read,
            "PUT" | "POST" => self.write,
            "DELETE" => self.delete,
            _ => None,
        };
        own.unwrap_or(self.all)
    }
}

impl Settings {
    /// Reads the table that a script calls `dovecot.http.client` with.
    pub(super) fn read(table: &Table, is_for_2_4: bool) -> Result<Self, String> {
        let mut found = Found::default();
        let mut of_2_3 = Found::default();
        for pair in table.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|error| error.to_string())?;
            let Some(key) = values::text(&key).ok().flatten() else {
                continue;
            };
            // Lines of ours belong to the script, whatever event is named.
            if key == "event_parent" {
                continue;
            }
            let new = of_2_4(&key).map(|(kind, name)| (kind, name, true));
            let old = of_2_3_named(&key).map(|(kind, name)| (kind, name, false));
            let known = if is_for_2_4 { new.or(old) } else { old.or(new) };
            match known {
                Some((kind, name, true)) => {
                    match kind.read(&key, &value) {
                        Ok(Some(value)) => _ = found.0.insert(name, value),
                        Ok(None) => {}
                        // Dovecot 2.3 has no such setting, and passes over it whatever it says.
                        Err(_) if !is_for_2_4 => {}
                        Err(error) => return Err(error),
                    }
                }
                Some((kind, name, false)) => {
                    of_2_3.0.insert(name, kind.read_typed(&key, &value)?);
                }
                None if is_for_2_4 => return Err(format!("{key} is unknown setting")),
                None => {}
            }
        }
        if is_for_2_4 {
            found.check()?;
        }
        // Where both are there, 2.4's counts. In 2.3 nought is what is not said.
        for (name, value) in of_2_3.0 {
            if value != Read::Number(0) {
                found.0.entry(name).or_insert(value);
            }
        }
        found.settings()
    }

    /// How often a request is sent at most.
    pub(super) fn attempts(&self, method: &Method) -> u32 {
        self.attempts.of(method).clamp(1, MAX_ATTEMPTS)
    }

    /// Longest time that an answer may ask to wait for until the request is sent again.
    pub(super) fn longest_delay(&self, method: &Method) -> Duration {
        self.max_delay.unwrap_or_else(|| self.timeout(method))
    }

    /// Longest time of one attempt.
    pub(super) fn timeout(&self, method: &Method) -> Duration {
        self.timeout.of(method)
    }
}

fn of_2_4(key: &str) -> Option<(Kind, &'static str)> {
    let mut all = OF_2_4
        .iter()
        .flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)));
    all.find(|(_, name)| *name == key)
}

fn of_2_3_named(key: &str) -> Option<(Kind, &'static str)> {
    let mut all = OF_2_3
        .iter()
        .flat_map(|(kind, names)| names.iter().map(move |names| (*kind, *names)));
    let found = all.find(|(_, (name, _))| *name == key);
    found.map(|(kind, (_, of_2_4))| (kind, of_2_4))
}

/// Values by the names of their settings in 2.4.
#[derive(Default)]
struct Found(BTreeMap<&'static str, Read>);

impl Found {
    /// What 2.4 refuses of values that can be read.
    fn check(&self) -> Result<(), String> {
        for name in [
            "request_max_attempts",
            "request_timeout",
            "max_parallel_connections",
            "max_pipelined_requests",
            "connect_backoff_time",
        ] {
            if self.0.get(name) == Some(&Read::Number(0)) {
                return Err(format!("{name} must not be 0"));
            }
        }
        Ok(())
    }

    fn settings(&self) -> Result<Settings, String> {
        let time = |name| self.number(name).map(|ms| Duration::from_millis(ms.into()));
        if !self.text("ssl_client_key_password").is_empty() {
            return Err("ssl_client_key_password: a key with a password cannot be read".to_owned());
        }
        let url = self.text("proxy_url");
        Ok(Settings {
            is_redirected: self.truth("auto_redirect", true)
                && !self.truth(NO_AUTO_REDIRECT, false),
            max_redirects: self.number("request_max_redirects").unwrap_or(0),
            is_retried: self.truth("auto_retry", true) && !self.truth(NO_AUTO_RETRY, false),
            max_delay: self
                .number("max_auto_retry_delay")
                .map(|seconds| Duration::from_secs(seconds.into())),
            attempts: ByMethod {
                all: self.number("request_max_attempts").unwrap_or(1),
                read: self.number("read_request_max_attempts"),
                write: self.number("write_request_max_attempts"),
                delete: self.number("delete_request_max_attempts"),
            },
            timeout: ByMethod {
                all: time("request_timeout").unwrap_or(REQUEST_TIMEOUT),
                read: time("read_request_timeout"),
                write: time("write_request_timeout"),
                delete: time("delete_request_timeout"),
            },
            absolute_timeout: time("request_absolute_timeout"),
            connect_timeout: time("connect_timeout"),
            max_idle_time: time("max_idle_time"),
            user_agent: self.text("user_agent"),
            proxy: (!url.is_empty()).then(|| ProxySettings {
                url,
                username: self.text("proxy_username"),
                password: self.text("proxy_password"),
            }),
            tls: TlsSettings {
                ca_file: self.text("ssl_client_ca_file"),
                cert_file: self.text("ssl_client_cert_file"),
                key_file: self.text("ssl_client_key_file"),
                requires_valid_cert: self.truth("ssl_client_require_valid_cert", true),
            },
        })
    }

    fn text(&self, name: &str) -> String {
        match self.0.get(name) {
            Some(Read::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    /// A number that is not nought: that stands for what is not said.
    fn number(&self, name: &str) -> Option<u32> {
        match self.0.get(name) {
            Some(Read::Number(number)) if *number > 0 => Some(*number),
            _ => None,
        }
    }

    fn truth(&self, name: &str, otherwise: bool) -> bool {
        match self.0.get(name) {
            Some(Read::Truth(truth)) => *truth,
            _ => otherwise,
        }
    }
}

#[cfg(test)]
mod tests;
