//! What a test says about the Dovecot it wants, in words that no Dovecot version owns.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::layout::Layout;
use super::settings::{PluginSetting, Settings, User};
use super::{Dovecot, Installation, prepare};
use crate::{clock, loopback};

/// The format of the mailboxes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MailFormat {
    /// `maildir:~/Maildir`.
    #[default]
    Maildir,
    /// `sdbox:~/sdbox`.
    Sdbox,
}

/// Makes a [`Dovecot`]. Without further words: Maildir, the push-notification framework without any
/// driver.
#[derive(Clone, Debug)]
pub struct Builder {
    installation: Installation,
    settings: Settings,
}

impl Builder {
    pub(super) fn new() -> Self {
        let settings = Settings {
            framework: true,
            ..Settings::default()
        };
        Self {
            installation: Installation::default(),
            settings,
        }
    }

    /// Runs another Dovecot than the one installed on this machine.
    #[must_use]
    pub fn installation(mut self, installation: Installation) -> Self {
        self.installation = installation;
        self
    }

    /// Loads a copy of this shared object as the plugin `push_notification_kafka`, with the
    /// framework.
    #[must_use]
    pub fn plugin(mut self, shared_object: impl Into<PathBuf>) -> Self {
        self.settings.plugin = Some(shared_object.into());
        self.settings.framework = true;
        self
    }

    /// The shared object that tells Dovecot 2.4 the settings of the plugin; Dovecot 2.3 needs none
    /// and takes none.
    ///
    /// Without it Dovecot 2.4 refuses to start with any setting of the driver kafka, so none is
    /// written.
    #[must_use]
    pub fn settings_module(mut self, shared_object: impl Into<PathBuf>) -> Self {
        self.settings.config_module = Some(shared_object.into());
        self
    }

    /// A driver instance, written as in Dovecot 2.3: `dlog`, `kafka:topic=x events=A,B
    /// send_flags=off`, `lua:file=PATH`.
    ///
    /// Dovecot 2.4 gets a block `push_notification` for it, with the option `topic` of `kafka` as
    /// `kafka_topic`; the blocks are called `d1`, `d2` and so on. Plugins see the values exactly as
    /// they are given here, `%` included.
    #[must_use]
    pub fn driver(mut self, driver: &str) -> Self {
        self.settings.drivers.push(driver.to_owned());
        self
    }

    /// A general setting of the driver kafka, by its name behind `kafka.notification.` in Dovecot
    /// 2.3.
    ///
    /// Dovecot 2.4 has `kafka_brokers` as `push_notification_kafka_brokers`, likewise `transport`
    /// as `push_notification_kafka_transport`, and `settings.PROPERTY` as an entry of the list
    /// `push_notification_kafka_settings`. Plugins see the value exactly as it is given here, `%`
    /// included.
    #[must_use]
    pub fn kafka(mut self, name: &str, value: &str) -> Self {
        self.settings
            .kafka
            .push((name.to_owned(), value.to_owned()));
        self
    }

    /// Events leave by the transport `relay`: the socket and the spill directory are in
    /// [`Dovecot::relay_dir`]. Whoever wants a relay starts it there.
    #[must_use]
    pub fn relay(mut self) -> Self {
        self.settings.relay = true;
        self
    }

    /// A field that plugins see for every user who has none of that name (see [`Self::user`]),
    /// exactly as it is given here: in Dovecot 2.3 a setting of the `plugin` section, in 2.4 a
    /// userdb field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.settings
            .fields
            .push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets Dovecot's processes read a file by the absolute path it has on this machine: a
    /// certificate, a script.
    ///
    /// Nothing for Dovecot 2.3; for one in a chroot the file is copied, with its owner and mode, at
    /// the start.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.files.push(path.into());
        self
    }

    /// Whether `notify` and `push_notification` are loaded (default yes).
    #[must_use]
    pub fn push_notification(mut self, loaded: bool) -> Self {
        self.settings.framework = loaded;
        self
    }

    /// Loads no mail plugin at all: neither the framework nor ours, nor what was named before.
    #[must_use]
    pub fn no_plugins(mut self) -> Self {
        self.settings.framework = false;
        self.settings.plugin = None;
        self.settings.config_module = None;
        self.settings.extra_mail_plugins.clear();
        self
    }

    /// Further mail plugins, separated by blanks (`mail_lua push_notification_lua`).
    #[must_use]
    pub fn extra_mail_plugins(mut self, names: &str) -> Self {
        self.settings
            .extra_mail_plugins
            .extend(names.split_whitespace().map(str::to_owned));
        self
    }

    /// A setting of the `plugin` section that plugins see exactly as it is given here, `%`
    /// included.
    ///
    /// Dovecot 2.4 has no such section and does not start: see [`Self::driver`], [`Self::kafka`]
    /// and [`Self::field`].
    #[must_use]
    pub fn plugin_setting(self, key: &str, value: &str) -> Self {
        self.any_plugin_setting(key, value, false)
    }

    /// As [`Self::plugin_setting`], but Dovecot expands `%` variables (`%u`, `%{userdb:tenant}`).
    #[must_use]
    pub fn plugin_setting_raw(self, key: &str, value: &str) -> Self {
        self.any_plugin_setting(key, value, true)
    }

    fn any_plugin_setting(mut self, key: &str, value: &str, expands_variables: bool) -> Self {
        let setting = PluginSetting {
            key: key.to_owned(),
            value: value.to_owned(),
            expands_variables,
        };
        self.settings.plugin_section.push(setting);
        self
    }

    /// A user with extra userdb fields, which plugins see exactly as they are given here, `%`
    /// included.
    ///
    /// The name must not hold `:` or TAB, fields no blanks. Dovecot 2.3 makes `yes` of an empty
    /// value, 2.4 leaves it empty.
    #[must_use]
    pub fn user(mut self, name: &str, fields: &[(&str, &str)]) -> Self {
        let fields = fields
            .iter()
            .map(|(field, value)| ((*field).to_owned(), (*value).to_owned()))
            .collect();
        self.settings.users.push(User {
            fields,
            ..User::new(name)
        });
        self
    }

    /// A user whose mail belongs to a user id of its own: mail processes have that id while they
    /// serve this user.
    #[must_use]
    pub fn user_with_uid(mut self, name: &str, uid: u32) -> Self {
        self.settings.users.push(User {
            uid,
            ..User::new(name)
        });
        self
    }

    /// The format of the mailboxes (default Maildir).
    #[must_use]
    pub fn mail_format(mut self, format: MailFormat) -> Self {
        self.settings.mail_format = format;
        self
    }

    /// `mailbox_list_index`. Default: no for Maildir, where Dovecot together with a driver that
    /// asks for `MailboxCreate` changes UIDVALIDITY of autocreated mailboxes; yes, Dovecot's own
    /// default, for sdbox.
    #[must_use]
    pub fn mailbox_list_index(mut self, used: bool) -> Self {
        self.settings.mailbox_list_index = Some(used);
        self
    }

    /// `default_vsz_limit`, the bound on a process's address space (`256 M` is Dovecot's own).
    #[must_use]
    pub fn vsz_limit(mut self, limit: &str) -> Self {
        self.settings.vsz_limit = Some(limit.to_owned());
        self
    }

    /// Whether LMTP and LDA run the user's `~/.dovecot.sieve`; see [`Dovecot::write_sieve`].
    #[must_use]
    pub fn lmtp_sieve(mut self, used: bool) -> Self {
        self.settings.lmtp_sieve = used;
        self
    }

    /// Mails get keywords by their attachments as Dovecot does it by default; otherwise, here, none
    /// do.
    #[must_use]
    pub fn default_attachment_keywords(mut self) -> Self {
        self.settings.default_attachment_keywords = true;
        self
    }

    /// Whether Drafts, Junk, Sent and Trash are created by themselves; otherwise only INBOX is.
    #[must_use]
    pub fn special_use_mailboxes(mut self, created: bool) -> Self {
        self.settings.special_use_mailboxes = created;
        self
    }

    /// `recipient_delimiter`; empty, the default here, makes `alice+tag` a user of its own.
    #[must_use]
    pub fn recipient_delimiter(mut self, delimiter: &str) -> Self {
        delimiter.clone_into(&mut self.settings.recipient_delimiter);
        self
    }

    /// Whether user names become lower case, as by Dovecot's own default; here they do not by
    /// default.
    #[must_use]
    pub fn lowercase_user_names(mut self, lowercase: bool) -> Self {
        self.settings.lowercase_user_names = lowercase;
        self
    }

    /// An environment variable of all of Dovecot's processes.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.settings
            .environment
            .push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives an environment variable of this process to Dovecot's processes, if it is set here.
    #[must_use]
    pub fn import(mut self, name: &str) -> Self {
        self.settings.imported.push(name.to_owned());
        self
    }

    /// Appends lines to the configuration as they are; the only part of a test that knows Dovecot's
    /// version.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.settings.appended.push_str(text);
        self.settings.appended.push('\n');
        self
    }

    /// Writes the configuration and starts Dovecot; returns when it answers IMAP.
    pub fn start(self) -> Result<Dovecot> {
        let Self {
            installation,
            mut settings,
        } = self;
        let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
        ensure!(is_root, "Dovecot has to be started as root");
        installation.check()?;

        let temp = tempfile::Builder::new()
            .prefix("dc.")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(installation.temp_parent())
            .with_context(|| {
                format!(
                    "no private directory in `{}`",
                    installation.temp_parent().display()
                )
            })?;
        if let Some(library) = clock::shifting_library() {
            settings.files.push(library);
            settings
                .imported
                .extend(clock::VARIABLES.map(str::to_owned));
        }
        let layout = installation.layout(temp.path());
        let address = loopback::unique_address();
        if settings.relay {
            settings.kafka.extend(relay_settings(&layout.inside()));
        }
        prepare::prepare(&layout, installation, &settings, address)
            .with_context(|| format!("cannot prepare `{}`", temp.path().display()))?;
        Dovecot::start(installation, temp, layout, address, settings.environment)
    }
}

/// The general settings for [`Builder::relay`], for a Dovecot that knows its files by this layout.
fn relay_settings(inside: &Layout) -> [(String, String); 3] {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    [
        ("transport", "relay".to_owned()),
        ("relay_socket", path(inside.relay_socket())),
        ("relay_spill_dir", path(inside.spill_dir())),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}
