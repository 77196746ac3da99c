//! What a test says about the Dovecot it wants, in words that no Dovecot version owns.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Dovecot, Installation, MAIL_UID, layout::Layout};
use crate::loopback;

/// The format of the mailboxes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum MailFormat {
    /// `maildir:~/Maildir`.
    #[default]
    Maildir,
    /// `sdbox:~/sdbox`.
    Sdbox,
}

/// A user with userdb fields of their own. Everybody else exists, too, without such fields.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) fields: Vec<(String, String)>,
}

/// A line of the plugin's settings.
#[derive(Clone, Debug)]
pub(super) struct PluginSetting {
    pub(super) key: String,
    pub(super) value: String,
    /// Whether `%` in the value starts one of Dovecot's variables.
    pub(super) expands_variables: bool,
}

/// Everything an [`Installation`] writes its configuration from.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, as in Dovecot's own configuration"
)]
pub(super) struct Settings {
    pub(super) framework: bool,
    pub(super) plugin: Option<PathBuf>,
    pub(super) extra_mail_plugins: Vec<String>,
    pub(super) plugin_section: Vec<PluginSetting>,
    pub(super) users: Vec<User>,
    pub(super) mail_format: MailFormat,
    pub(super) mailbox_list_index: Option<bool>,
    pub(super) vsz_limit: Option<String>,
    pub(super) lmtp_sieve: bool,
    pub(super) special_use_mailboxes: bool,
    pub(super) recipient_delimiter: String,
    pub(super) lowercase_user_names: bool,
    /// Variables set for Dovecot's processes.
    pub(super) environment: Vec<(String, String)>,
    /// Variables of this process that Dovecot's processes get as well.
    pub(super) imported: Vec<String>,
    /// Verbatim text at the end of the configuration.
    pub(super) appended: String,
}

/// Makes a [`Dovecot`]. Without further words: Maildir, the push-notification framework without any driver.
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

    /// Loads a copy of this shared object as the plugin `push_notification_kafka`, with the framework.
    #[must_use]
    pub fn plugin(mut self, shared_object: impl Into<PathBuf>) -> Self {
        self.settings.plugin = Some(shared_object.into());
        self.settings.framework = true;
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

    /// A setting of the `plugin` section that plugins see exactly as it is given here, `%` included.
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

    /// A user with extra userdb fields, which plugins see exactly as they are given here, `%` included.
    ///
    /// The name must not hold `:` or TAB, fields no blanks. Dovecot 2.3 makes `yes` of an empty value.
    #[must_use]
    pub fn user(mut self, name: &str, fields: &[(&str, &str)]) -> Self {
        let fields = fields
            .iter()
            .map(|(field, value)| ((*field).to_owned(), (*value).to_owned()))
            .collect();
        self.settings.users.push(User {
            name: name.to_owned(),
            fields,
        });
        self
    }

    /// The format of the mailboxes (default Maildir).
    #[must_use]
    pub fn mail_format(mut self, format: MailFormat) -> Self {
        self.settings.mail_format = format;
        self
    }

    /// `mailbox_list_index`. Default: no for Maildir, where Dovecot together with a driver that asks for `MailboxCreate`
    /// changes UIDVALIDITY of autocreated mailboxes; yes, Dovecot's own default, for sdbox.
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

    /// Whether user names become lower case, as by Dovecot's own default; here they do not by default.
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

    /// Appends lines to the configuration as they are; the only part of a test that knows Dovecot's version.
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
            settings,
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
        let layout = Layout::new(temp.path());
        let address = loopback::unique_address();
        prepare(&layout, installation, &settings, address)
            .with_context(|| format!("cannot prepare `{}`", temp.path().display()))?;
        Dovecot::start(installation, temp, layout, address, settings.environment)
    }
}

/// Lays out the private directory: configuration, users, logs, plugins and the parent of all homes.
fn prepare(
    layout: &Layout,
    installation: Installation,
    settings: &Settings,
    address: Ipv4Addr,
) -> Result<()> {
    for directory in [
        layout.run(),
        layout.state(),
        layout.modules(),
        layout.homes(),
    ] {
        fs::create_dir(&directory)
            .with_context(|| format!("cannot create `{}`", directory.display()))?;
    }
    chown(layout.homes(), Some(MAIL_UID), Some(MAIL_UID))
        .context("cannot give the homes to the mail user")?;
    // Dovecot's processes open the logs as root, dovecot-lda as the mail user.
    for log in [layout.log(), layout.debug_log()] {
        fs::write(&log, "")?;
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?;
    }
    link_modules(&installation.modules(), &layout.modules())?;
    if let Some(plugin) = &settings.plugin {
        // A copy: a build that replaces the file must not change what is mapped, and the mail user can read it.
        fs::copy(plugin, layout.plugin())
            .with_context(|| format!("cannot copy the plugin `{}`", plugin.display()))?;
        fs::set_permissions(layout.plugin(), fs::Permissions::from_mode(0o755))?;
    }
    for (path, text) in installation.render(settings, layout, address)? {
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// Makes a `mail_plugin_dir` that a plugin can be added to without touching the installed one.
fn link_modules(installed: &Path, private: &Path) -> Result<()> {
    for entry in
        fs::read_dir(installed).with_context(|| format!("cannot list `{}`", installed.display()))?
    {
        let entry = entry.with_context(|| format!("cannot list `{}`", installed.display()))?;
        std::os::unix::fs::symlink(entry.path(), private.join(entry.file_name()))
            .with_context(|| format!("cannot link `{}`", entry.path().display()))?;
    }
    Ok(())
}
