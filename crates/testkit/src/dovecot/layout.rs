//! Where one Dovecot's files are in its private directory. Paths are short as Dovecot sees them,
//! because unix sockets live below them.
//!
//! A Dovecot in a chroot has its own name for every file; [`Layout::inside`] has these.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// What is `/` to Dovecot.
    chroot: PathBuf,
    root: PathBuf,
    modules: PathBuf,
}

impl Layout {
    /// Everything in one directory, for a Dovecot that sees the whole machine.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            chroot: PathBuf::from("/"),
            root: root.to_owned(),
            modules: root.join("modules"),
        }
    }

    /// A tree to chroot to, where the mail plugins are in the directory that Dovecot knows itself.
    pub(super) fn in_chroot(chroot: &Path) -> Self {
        Self {
            chroot: chroot.to_owned(),
            root: chroot.join("t"),
            modules: chroot.join("usr/lib/dovecot/modules"),
        }
    }

    /// Layout with the paths that Dovecot's processes know the files by.
    pub(super) fn inside(&self) -> Self {
        Self {
            chroot: PathBuf::from("/"),
            root: self.path_inside(&self.root),
            modules: self.path_inside(&self.modules),
        }
    }

    /// The path that Dovecot's processes know a file by; one outside the chroot is left as it is.
    pub(super) fn path_inside(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.chroot)
            .map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    }

    /// The path that everybody else knows a file of Dovecot's processes by.
    pub(super) fn path_outside(&self, inside: &Path) -> PathBuf {
        let relative = inside.strip_prefix("/").unwrap_or(inside);
        self.chroot.join(relative)
    }

    pub(super) fn chroot(&self) -> &Path {
        &self.chroot
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn config(&self) -> PathBuf {
        self.root.join("dovecot.conf")
    }

    /// The passwd-file of the users with fields of their own.
    pub(super) fn users(&self) -> PathBuf {
        self.root.join("users")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.root.join("dovecot.log")
    }

    pub(super) fn debug_log(&self) -> PathBuf {
        self.root.join("dovecot-debug.log")
    }

    /// What the master says before it has a log: complaints about the configuration.
    pub(super) fn stderr(&self) -> PathBuf {
        self.root.join("stderr.log")
    }

    pub(super) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub(super) fn modules(&self) -> &Path {
        &self.modules
    }

    pub(super) fn plugin(&self) -> PathBuf {
        self.modules.join("lib22_push_notification_kafka_plugin.so")
    }

    /// What tells Dovecot 2.4 the settings of our plugin; Dovecot 2.3 has nothing like it.
    pub(super) fn settings_module(&self) -> PathBuf {
        self.modules
            .join("settings/libpush_notification_kafka_settings.so")
    }

    /// What mail processes and a relay have in common.
    pub(super) fn relay(&self) -> PathBuf {
        self.root.join("relay")
    }

    pub(super) fn relay_socket(&self) -> PathBuf {
        self.relay().join("relay.sock")
    }

    pub(super) fn spill_dir(&self) -> PathBuf {
        self.relay().join("spill")
    }

    pub(super) fn homes(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(super) fn home(&self, user: &str) -> PathBuf {
        self.homes().join(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_path_outside_and_one_inside() {
        let layout = Layout::in_chroot(Path::new("/cache/x"));
        assert_eq!(layout.home("a"), Path::new("/cache/x/t/home/a"));
        assert_eq!(layout.inside().home("a"), Path::new("/t/home/a"));
        assert_eq!(
            layout.path_outside(Path::new("/t/a")),
            Path::new("/cache/x/t/a")
        );
        let layout = Layout::new(Path::new("/tmp/x"));
        assert_eq!(layout.inside().run(), layout.run());
        assert_eq!(
            layout.path_outside(Path::new("/tmp/x/a")),
            Path::new("/tmp/x/a")
        );
    }
}
