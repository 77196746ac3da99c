//! A power cut: what is left of a directory when everything that was not synced is gone.
//!
//! A recorder is preloaded into the process under test and writes down each operation on the files
//! below a directory ([`Recorder::environment`]). Afterwards [`Recorder::restore`] plays the record
//! into an empty directory, as a disk may have it after the cut: what was synced is there, of the
//! rest any part or nothing.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::clock;

const SOURCE: &str = include_str!("power_cut/recorder.c");
/// Kind, lengths of path and data, offset.
const ENTRY_HEAD_BYTES: usize = 17;

/// What happens to writes that were not synced when the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// None of them has reached the disk.
    Gone,
    /// Some have, in any order, some only in part; which ones follows from the number.
    Some(u64),
}

/// Records what a process does to the files below a directory.
pub struct Recorder {
    temp: TempDir,
    watched: PathBuf,
}

impl Recorder {
    /// Watches `directory`, which has to be there and empty.
    pub fn new(directory: &Path) -> Result<Self> {
        let watched = fs::canonicalize(directory)
            .with_context(|| format!("no directory `{}`", directory.display()))?;
        let temp = tempfile::tempdir().context("no directory for the recorder")?;
        let source = temp.path().join("recorder.c");
        fs::write(&source, SOURCE)?;
        let library = temp.path().join("recorder.so");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .output()
            .context("cannot run `cc`")?;
        ensure!(
            output.status.success(),
            "the recorder does not compile: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Self { temp, watched })
    }

    fn trace(&self) -> PathBuf {
        self.temp.path().join("trace")
    }

    /// What the process has to have in its environment.
    pub fn environment(&self) -> [(&'static str, PathBuf); 3] {
        let mut preloaded = self.temp.path().join("recorder.so").into_os_string();
        if let Some(library) = clock::shifting_library() {
            preloaded.push(":");
            preloaded.push(library);
        }
        [
            ("LD_PRELOAD", preloaded.into()),
            ("POWER_CUT_DIR", self.watched.clone()),
            ("POWER_CUT_TRACE", self.trace()),
        ]
    }

    /// Writes into `directory` what the disk has after the cut; the process has to be gone.
    pub fn restore(&self, directory: &Path, unsynced: Unsynced) -> Result<()> {
        let trace = fs::read(self.trace()).context("nothing was recorded")?;
        let mut disk = Disk::default();
        let mut rest = trace.as_slice();
        while let Some((entry, behind)) = read_entry(rest)? {
            disk.apply(&entry)?;
            rest = behind;
        }
        disk.cut(unsynced);
        for (path, file) in disk.files.iter().filter(|(_, file)| file.exists) {
            let relative = Path::new(path).strip_prefix(&self.watched)?;
            let path = directory.join(relative);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            // The mode is not recorded; the server reads keys from a file of its owner alone.
            fs::write(&path, &file.synced)
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o600)))
                .with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(())
    }
}

struct Entry<'t> {
    kind: u8,
    path: &'t str,
    data: &'t [u8],
    offset: usize,
}

/// `None`: the trace ends here, perhaps within an entry.
fn read_entry(bytes: &[u8]) -> Result<Option<(Entry<'_>, &[u8])>> {
    let Some((head, rest)) = bytes.split_first_chunk::<ENTRY_HEAD_BYTES>() else {
        return Ok(None);
    };
    let number = |at: usize| -> Result<usize> {
        let bytes = <[u8; 4]>::try_from(&head[at..at + 4])?;
        Ok(usize::try_from(u32::from_ne_bytes(bytes))?)
    };
    let (path_bytes, data_bytes) = (number(1)?, number(5)?);
    let offset = usize::try_from(u64::from_ne_bytes(<[u8; 8]>::try_from(&head[9..])?))?;
    if rest.len() < path_bytes + data_bytes {
        return Ok(None);
    }
    let (path, rest) = rest.split_at(path_bytes);
    let (data, rest) = rest.split_at(data_bytes);
    let entry = Entry {
        kind: head[0],
        path: std::str::from_utf8(path)?,
        data,
        offset,
    };
    Ok(Some((entry, rest)))
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<String, Content>,
}

#[derive(Default)]
struct Content {
    exists: bool,
    synced: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => {
                let end = offset + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(data);
            }
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }
}

impl Disk {
    fn apply(&mut self, entry: &Entry<'_>) -> Result<()> {
        let file = self.files.entry(entry.path.to_owned()).or_default();
        match entry.kind {
            b'W' => {
                file.exists = true;
                file.pending.push(Change::Write {
                    offset: entry.offset,
                    data: entry.data.to_vec(),
                });
            }
            b'T' => {
                file.exists = true;
                file.pending.push(Change::Truncate(entry.offset));
            }
            b'S' => file.sync(),
            b'U' => *file = Content::default(),
            b'R' => {
                let moved = std::mem::take(file);
                let to = std::str::from_utf8(entry.data)?.to_owned();
                self.files.insert(to, moved);
            }
            kind => bail!("the trace has an entry of the unknown kind {kind}"),
        }
        Ok(())
    }

    fn cut(&mut self, unsynced: Unsynced) {
        let Unsynced::Some(seed) = unsynced else {
            return;
        };
        let mut random = Random(seed | 1);
        for file in self.files.values_mut() {
            for change in std::mem::take(&mut file.pending) {
                match change {
                    Change::Write { offset, data } if random.next().is_multiple_of(2) => {
                        // A disk writes sectors: a write may end within itself.
                        let sectors = data.len().div_ceil(512) as u64;
                        let kept = usize::try_from(random.next() % (sectors + 1)).unwrap_or(0);
                        let data = data[..data.len().min(kept * 512)].to_vec();
                        Change::Write { offset, data }.apply(&mut file.synced);
                    }
                    Change::Truncate(_) if random.next().is_multiple_of(2) => {
                        change.apply(&mut file.synced);
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Content {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            change.apply(&mut self.synced);
        }
    }
}

/// xorshift64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a C program under the recorder leaves behind in its directory, after a cut.
    fn after_cut(statements: &str, unsynced: Unsynced) -> BTreeMap<String, String> {
        let [watched, restored, built] = [0; 3].map(|_| tempfile::tempdir().expect("a directory"));
        let source = built.path().join("program.c");
        let text = format!(
            "#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\nint main(void) {{ {statements} return 0; }}\n"
        );
        fs::write(&source, text).expect("the source");
        let program = built.path().join("program");
        let mut cc = Command::new("cc");
        cc.args(["-w", "-o"]).arg(&program).arg(&source);
        assert!(cc.status().expect("cc").success());
        let recorder = Recorder::new(watched.path()).expect("a recorder");
        let status = Command::new(program)
            .current_dir(watched.path())
            .envs(recorder.environment())
            .status();
        assert!(status.expect("the program").success());
        recorder
            .restore(restored.path(), unsynced)
            .expect("a trace");
        let files = fs::read_dir(restored.path()).expect("the directory");
        files
            .map(|file| {
                let path = file.expect("a file").path();
                let name = path.file_name().expect("a name").to_string_lossy();
                let text = fs::read_to_string(&path).expect("text");
                (name.into_owned(), text)
            })
            .collect()
    }

    #[test]
    fn what_was_synced_is_there_and_what_was_not_is_gone() {
        let program = r#"
            int f = open("a", O_CREAT | O_RDWR, 0600);
            write(f, "one", 3);
            fsync(f);
            write(f, "two", 3);
            pwrite(f, "O", 1, 0);
            int g = open("b", O_CREAT | O_RDWR, 0600);
            write(g, "x", 1);
            fdatasync(g);
            ftruncate(g, 0);
            rename("b", "c");
            close(open("d", O_CREAT | O_RDWR, 0600));
            int h = open("e", O_CREAT | O_RDWR, 0600);
            write(h, "y", 1);
            fsync(h);
            linkat(AT_FDCWD, "e", AT_FDCWD, "f", 0);
            unlink("e");
        "#;
        let expected = [("a", "one"), ("c", "x"), ("f", "y")];
        let expected: BTreeMap<String, String> = expected
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into();
        assert_eq!(after_cut(program, Unsynced::Gone), expected);
        let some = after_cut(program, Unsynced::Some(7));
        assert!(some["a"].len() >= 3, "what was synced is lost: {some:?}");
    }
}
