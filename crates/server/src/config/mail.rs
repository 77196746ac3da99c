//! `[mail]`: the mail server of the driver `mail`, and who its mails are from. The password is
//! never shown.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_drivers::mail::{MailOptions, MailTls};
use serde::{Deserialize, Deserializer, de};

use super::elsewhere::{self, Absent, Elsewhere};
use super::limits::Bounded;
use super::paths;
use crate::key_file::{self, KEY_BYTES};

/// There is none as long as the section is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Mail {
    section: Option<Section>,
    /// Where the key of Message-IDs is; `None`: in the data directory.
    key_file: Option<PathBuf>,
}

/// What there is to say of a mail server.
#[derive(Clone, PartialEq, Eq)]
struct Section {
    server: String,
    port: Option<u16>,
    tls: MailTls,
    ca_file: Option<PathBuf>,
    login: Option<(String, Password)>,
    from: String,
    envelope_from: Option<String>,
    recipients: Vec<String>,
    list_id: Option<String>,
    timeout_seconds: Bounded<1, 45>,
}

/// The password, or where it stands.
#[derive(Clone, PartialEq, Eq)]
enum Password {
    Here(String),
    At(Elsewhere),
}

impl fmt::Debug for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section")
            .field("server", &self.server)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(deserialize_with = "server")]
    server: Option<String>,
    port: Option<Bounded<1, 65_535>>,
    #[serde(deserialize_with = "tls")]
    tls: MailTls,
    #[serde(deserialize_with = "paths::optional")]
    ca_file: Option<PathBuf>,
    username: Option<String>,
    #[serde(deserialize_with = "password")]
    password: Option<String>,
    #[serde(deserialize_with = "elsewhere::place")]
    password_file: Option<Elsewhere>,
    from: Option<String>,
    envelope_from: Option<String>,
    recipients: Vec<String>,
    list_id: Option<String>,
    timeout_seconds: Bounded<1, 45>,
    #[serde(deserialize_with = "paths::optional")]
    key_file: Option<PathBuf>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            server: None,
            port: None,
            tls: MailTls::default(),
            ca_file: None,
            username: None,
            password: None,
            password_file: None,
            from: None,
            envelope_from: None,
            recipients: Vec::new(),
            list_id: None,
            timeout_seconds: Bounded::new(30),
            key_file: None,
        }
    }
}

impl TryFrom<Written> for Mail {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let password = match (written.password, written.password_file) {
            (Some(_), Some(_)) => {
                return Err("`password` and `password_file` in [mail] are both there");
            }
            (Some(password), None) => Some(Password::Here(password)),
            (None, file) => file.map(Password::At),
        };
        let login = match (written.username, password) {
            (None, None) => None,
            (Some(user), Some(password)) => Some((user, password)),
            (Some(_), None) => return Err("`username` in [mail] is nothing without a password"),
            (None, Some(_)) => return Err("a password in [mail] is nothing without `username`"),
        };
        let section = match (written.server, written.from) {
            (None, None) => None,
            (Some(_), None) => return Err("`server` in [mail] is nothing without `from`"),
            (None, Some(_)) => return Err("`from` in [mail] is nothing without `server`"),
            (Some(server), Some(from)) => Some(Section {
                server,
                port: written.port.and_then(|port| u16::try_from(port.get()).ok()),
                tls: written.tls,
                ca_file: written.ca_file,
                login,
                from,
                envelope_from: written.envelope_from,
                recipients: written.recipients,
                list_id: written.list_id,
                timeout_seconds: written.timeout_seconds,
            }),
        };
        Ok(Self {
            section,
            key_file: written.key_file,
        })
    }
}

impl super::Config {
    /// The key of Message-IDs, which is made where there is none; zeros where no mail is sent.
    pub(crate) fn mail_key(&self) -> Result<[u8; KEY_BYTES]> {
        if self.mail.section.is_none() {
            return Ok([0; KEY_BYTES]);
        }
        let key_file = self.in_data_dir(self.mail.key_file.as_deref(), "mail.key");
        key_file::load(&key_file).with_context(|| {
            let file = key_file.display();
            format!("cannot use the key of Message-IDs, `{file}` (`key_file` of [mail])")
        })
    }

    /// How mail is sent; what stands in files is read from there.
    pub(super) fn mail_options(
        &self,
        key: [u8; KEY_BYTES],
        absent: Absent,
    ) -> Result<Option<MailOptions>> {
        let Some(section) = &self.mail.section else {
            return Ok(None);
        };
        let login = match &section.login {
            None => None,
            Some((user, Password::Here(password))) => Some((user.clone(), password.clone())),
            Some((user, Password::At(place))) => {
                let password = place.read_or(absent, "x");
                let password = password.context("`password_file` of [mail]")?;
                Some((user.clone(), password))
            }
        };
        let ca = match &section.ca_file {
            None => None,
            Some(path) => match std::fs::read(path) {
                Ok(pem) => Some(pem),
                Err(_) if absent == Absent::Replaced => None,
                unread => Some(unread.with_context(|| {
                    format!("cannot read `{}` (`ca_file` of [mail])", path.display())
                })?),
            },
        };
        Ok(Some(MailOptions {
            server: section.server.clone(),
            port: section.port,
            tls: section.tls,
            ca,
            login,
            from: section.from.clone(),
            envelope_from: section.envelope_from.clone(),
            recipients: section.recipients.clone(),
            list_id: section.list_id.clone(),
            timeout: Duration::from_secs(section.timeout_seconds.get()),
            key,
        }))
    }
}

/// The name or the address of a host.
fn server<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let is_name = !text.starts_with('[') && url::Host::parse(&text).is_ok();
    if is_name || text.parse::<IpAddr>().is_ok() {
        return Ok(Some(text));
    }
    Err(de::Error::custom(format!(
        "`{}` is not a host, expected a name such as `mail.example.org` or an address; the port is `port`",
        text.escape_debug()
    )))
}

fn tls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MailTls, D::Error> {
    match &*String::deserialize(deserializer)? {
        "implicit" => Ok(MailTls::Implicit),
        "starttls" => Ok(MailTls::Starttls),
        "none" => Ok(MailTls::None),
        other => Err(de::Error::custom(format!(
            "`{other}` is none of `implicit`, `starttls` and `none`"
        ))),
    }
}

fn password<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    // What is no text is not shown either.
    let password = String::deserialize(deserializer);
    password
        .map(Some)
        .map_err(|_| de::Error::custom("this is not a password, expected a text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_the_page_shows_is_a_configuration_and_every_option_is_shown() {
        let page = include_str!("../../../../docs/drivers/mail.md");
        let (_, rest) = page.split_once("```toml\n").expect("an example");
        let (example, _) = rest.split_once("```").expect("its end");
        let dir = tempfile::tempdir().expect("a directory");
        let authority = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]);
        let pem = authority.expect("a certificate").cert.pem();
        std::fs::write(dir.path().join("mail-ca.pem"), &pem).expect("an authority");
        std::fs::write(dir.path().join("mail.password"), "s3cret\n").expect("a password");
        let here = format!("{}/", dir.path().display());
        let config = Config::parse(&example.replace("/etc/dovecast/", &here));
        let options = config
            .expect(example)
            .mail_options([0; KEY_BYTES], Absent::Refused);
        let options = options.expect("files").expect("a server");
        assert_eq!((options.port, options.tls), (Some(587), MailTls::Starttls));
        assert_eq!(options.ca.as_deref(), Some(pem.as_bytes()));
        let login = ("dovecast".to_owned(), "s3cret".to_owned());
        assert_eq!(options.login, Some(login));
        dovecast_drivers::mail::MailDriver::new(
            Some(&options),
            dovecast_drivers::template::Templates::Trusted,
        )
        .expect("a driver");
        // What it lacks is named.
        let config = Config::parse(&example.replace("/etc/dovecast/", "/nowhere/"));
        let error = config
            .expect(example)
            .mail_options([0; KEY_BYTES], Absent::Refused);
        let error = format!("{:#}", error.map(drop).expect_err("no file"));
        assert!(error.contains("`password_file` of [mail]"), "{error}");
        for option in [
            "server",
            "port",
            "tls",
            "ca_file",
            "username",
            "password_file",
            "from",
            "envelope_from",
            "recipients",
            "list_id",
            "timeout_seconds",
            "key_file",
        ] {
            let is_shown = example.contains(&format!("\n{option} = "));
            assert!(is_shown, "no example of `{option}`");
        }
    }
}
