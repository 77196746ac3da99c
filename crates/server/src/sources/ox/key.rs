//! The key that ids of mails are made with, so that nobody can know one before: whoever may write
//! to the log could have it there already, and the mail would be taken for one that is told of
//! again.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// Length of a key, in bytes: that of the hash.
const KEY_BYTES: usize = 32;

/// Makes ids.
#[derive(Clone)]
pub(crate) struct IdKey(Hmac<Sha256>);

impl IdKey {
    /// Reads the key, or makes one where there is none.
    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::read(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Self::make(path)?;
                Self::read(&fs::read_to_string(path)?)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the file, unless another server that shares the directory has made it meanwhile.
    fn make(path: &Path) -> io::Result<()> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        let mut text = String::new();
        for byte in bytes {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        // Under another name first: a half key would be one for good. Nobody but the server may
        // read it, which is the mode of temporary files.
        let dir = path.parent().filter(|dir| *dir != Path::new(""));
        let mut file = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
        writeln!(file, "{text}")?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
            _ => Ok(()),
        }
    }

    fn read(text: &str) -> io::Result<Self> {
        Self::parse(text.trim()).ok_or_else(|| {
            let text = format!("expected {KEY_BYTES} bytes in hexadecimal digits");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let (digits, []) = text.as_bytes().as_chunks::<2>() else {
            return None;
        };
        let byte = |pair: &[u8; 2]| {
            let is_hex = pair.iter().all(u8::is_ascii_hexdigit);
            let pair = str::from_utf8(pair).ok().filter(|_| is_hex)?;
            u8::from_str_radix(pair, 16).ok()
        };
        let bytes: Vec<u8> = digits.iter().map(byte).collect::<Option<_>>()?;
        Some(Self::of(&<[u8; KEY_BYTES]>::try_from(bytes).ok()?))
    }

    pub(super) fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        // A short key is filled up to a block with zeros (RFC 2104 section 2).
        let mut block = [0; 64];
        block[..KEY_BYTES].copy_from_slice(bytes);
        Self(Hmac::new(&block.into()))
    }

    /// The id of what these parts name together, of version 8 (RFC 9562): clients of the relay
    /// cannot use such.
    pub(super) fn id(&self, parts: &[&[u8]]) -> Uuid {
        let mut hash = self.0.clone();
        for part in parts {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hash.update(&length.to_be_bytes());
            hash.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize().into_bytes()[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "ox.key";

    #[test]
    fn a_key_is_made_once_and_is_another_on_each_server_that_is_given_none() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
        let load = |dir: &tempfile::TempDir| IdKey::load(&dir.path().join(FILE)).expect("a key");
        let id = |key: &IdKey| key.id(&[b"alice", b"INBOX"]);
        let ids = [&dirs[0], &dirs[0], &dirs[1]].map(|dir| id(&load(dir)));
        assert_eq!(ids[0], ids[1]);
        assert_ne!(ids[0], ids[2]);
        fs::copy(dirs[0].path().join(FILE), dirs[2].path().join(FILE)).expect("a copy");
        assert_eq!(id(&load(&dirs[2])), ids[0]);
        assert_eq!(ids[0].get_version_num(), 8);
        let there = fs::metadata(dirs[0].path().join(FILE)).expect("a file");
        assert_eq!(there.permissions().mode() & 0o777, 0o600);
        assert_ne!(load(&dirs[0]).id(&[b"aliceI", b"NBOX"]), ids[0]);
    }

    #[test]
    fn servers_that_share_a_file_and_start_together_have_one_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        let ids: Vec<Uuid> = std::thread::scope(|scope| {
            let load = || IdKey::load(&path).expect("a key").id(&[b"alice"]);
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            let ids = threads.into_iter();
            ids.map(|thread| thread.join().expect("an id")).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let files = fs::read_dir(dir.path()).expect("a directory");
        assert_eq!(files.count(), 1);
    }

    #[test]
    fn what_is_no_key_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        for text in ["", "00", "zz", &"0".repeat(63), &"+1".repeat(32)] {
            fs::write(&path, text).expect("its own");
            assert!(IdKey::load(&path).is_err(), "{text:?}");
            assert_eq!(fs::read_to_string(&path).expect("a file"), text);
        }
    }
}
