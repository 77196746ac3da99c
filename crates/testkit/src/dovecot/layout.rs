//! Where one Dovecot's files are in its private directory. Paths are short, because unix sockets live below them.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
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

    pub(super) fn modules(&self) -> PathBuf {
        self.root.join("modules")
    }

    pub(super) fn plugin(&self) -> PathBuf {
        self.modules()
            .join("lib22_push_notification_kafka_plugin.so")
    }

    pub(super) fn homes(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(super) fn home(&self, user: &str) -> PathBuf {
        self.homes().join(user)
    }
}
