//! A key of this server in a file of its own: made where there is none, the same for all servers
//! that share the file.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Length of a key, in bytes: that of SHA-256.
pub(crate) const KEY_BYTES: usize = 32;

/// Reads the key, or makes one where there is none.
pub(crate) fn load(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    match fs::read_to_string(path) {
        Ok(text) => read(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(path)?;
            read(&fs::read_to_string(path)?)
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

fn read(text: &str) -> io::Result<[u8; KEY_BYTES]> {
    parse(text.trim()).ok_or_else(|| {
        let text = format!("expected {KEY_BYTES} bytes in hexadecimal digits");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

fn parse(text: &str) -> Option<[u8; KEY_BYTES]> {
    let (digits, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| {
        let is_hex = pair.iter().all(u8::is_ascii_hexdigit);
        let pair = str::from_utf8(pair).ok().filter(|_| is_hex)?;
        u8::from_str_radix(pair, 16).ok()
    };
    let bytes: Vec<u8> = digits.iter().map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FILE: &str = "a.key";

    #[test]
    fn a_key_is_made_once_and_is_another_on_each_server_that_is_given_none() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
        let key = |dir: &tempfile::TempDir| load(&dir.path().join(FILE)).expect("a key");
        let keys = [&dirs[0], &dirs[0], &dirs[1]].map(key);
        assert_eq!(keys[0], keys[1]);
        assert_ne!(keys[0], keys[2]);
        fs::copy(dirs[0].path().join(FILE), dirs[2].path().join(FILE)).expect("a copy");
        assert_eq!(key(&dirs[2]), keys[0]);
        let there = fs::metadata(dirs[0].path().join(FILE)).expect("a file");
        assert_eq!(there.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn servers_that_share_a_file_and_start_together_have_one_key() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        let keys: Vec<_> = std::thread::scope(|scope| {
            let load = || load(&path).expect("a key");
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            let keys = threads.into_iter();
            keys.map(|thread| thread.join().expect("a key")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
        let files = fs::read_dir(dir.path()).expect("a directory");
        assert_eq!(files.count(), 1);
    }

    #[test]
    fn what_is_no_key_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        for text in ["", "00", "zz", &"0".repeat(63), &"+1".repeat(32)] {
            fs::write(&path, text).expect("its own");
            assert!(load(&path).is_err(), "{text:?}");
            assert_eq!(fs::read_to_string(&path).expect("a file"), text);
        }
    }
}
