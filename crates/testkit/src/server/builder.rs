//! What a server is to be, before it is started.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Server, build};

/// 32 bytes in base64.
const SHARED_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// What is to be started.
#[derive(Debug, Default)]
pub struct Builder {
    roles: Option<String>,
    config: String,
    http: String,
    binary: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    relay: Option<(PathBuf, PathBuf)>,
    environment: Vec<(String, PathBuf)>,
    release: bool,
}

impl Builder {
    /// The binary as operators get it; otherwise cargo builds it with its dev profile.
    #[must_use]
    pub fn release(mut self) -> Self {
        self.release = true;
        self
    }

    /// What it does; otherwise everything.
    #[must_use]
    pub fn roles(mut self, roles: &[&str]) -> Self {
        self.roles = Some(format!("roles = {roles:?}\n"));
        self
    }

    /// A variable of the server's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<PathBuf>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// More of the configuration: TOML that begins inside `[relay]`, where only socket and
    /// directory are set.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Self {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// More of the section `[http]`, where only the address is set.
    #[must_use]
    pub fn http(mut self, toml: &str) -> Self {
        self.http.push_str(toml);
        self.http.push('\n');
        self
    }

    /// Keys of secrets that all servers share which are built so, as on nodes that share a
    /// database.
    #[must_use]
    pub fn shared_keys(self) -> Self {
        self.config("[secrets]\nkeys = 'env:DOVECAST_TEST_KEYS'")
            .env("DOVECAST_TEST_KEYS", SHARED_KEY)
    }

    /// A binary that is built already; otherwise cargo builds it.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// The data directory; otherwise one that is removed in the end.
    #[must_use]
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// The socket of mail processes and the directory of their spill files; otherwise in the data
    /// directory.
    #[must_use]
    pub fn relay(mut self, socket: impl Into<PathBuf>, spill_dir: impl Into<PathBuf>) -> Self {
        self.relay = Some((socket.into(), spill_dir.into()));
        self
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Result<Server> {
        let mut server = self.prepare()?;
        server.start_again()?;
        Ok(server)
    }

    /// Everything but the start.
    pub fn prepare(self) -> Result<Server> {
        let dir = TempDir::new().context("cannot make a directory")?;
        // Mail processes go through it to the socket.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711))
            .context("cannot open the directory to mail processes")?;
        let config_file = dir.path().join("dovecast.toml");
        let data_dir = self.data_dir.unwrap_or_else(|| dir.path().join("data"));
        let in_data_dir = || (data_dir.join("relay.sock"), data_dir.join("spill"));
        let (relay_socket, spill_dir) = self.relay.unwrap_or_else(in_data_dir);
        let config = format!(
            "{}[http]\nlisten = \"127.0.0.1:0\"\n{}[relay]\nsocket = '{}'\nspill_dir = '{}'\n{}",
            self.roles.unwrap_or_default(),
            self.http,
            relay_socket.display(),
            spill_dir.display(),
            self.config
        );
        fs::write(&config_file, config).context("cannot write the configuration")?;
        Ok(Server {
            binary: match self.binary {
                Some(binary) => binary,
                None => build(self.release)?,
            },
            data_dir,
            relay_socket,
            spill_dir,
            config_file,
            log_file: dir.path().join("server.log"),
            output_file: dir.path().join("server.out"),
            running: None,
            environment: self.environment,
            _dir: dir,
        })
    }
}
