//! Trees of directories: packages into a root, and a root into a private one.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Directories at the top of the root that are links into /usr, as Debian has them.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Directory of /usr/share that Dovecot reads.
const KEPT_SHARE: &str = "dovecot";
/// What is only there to install packages, and as many files as all the others.
const NOT_UNPACKED: &str = "perl-base_";
/// Device nodes and their major and minor numbers.
const DEVICES: [(&str, &str, &str); 4] = [
    ("null", "1", "3"),
    ("zero", "1", "5"),
    ("random", "1", "8"),
    ("urandom", "1", "9"),
];
/// The users that Dovecot asks for by name; mail belongs to a number.
const PASSWD: &str = "\
root:x:0:0::/root:/bin/sh
dovecot:x:901:901::/:/bin/false
dovenull:x:902:902::/:/bin/false
";
const GROUP: &str = "root:x:0:\ndovecot:x:901:\ndovenull:x:902:\n";

/// Unpacks one package.
pub(super) fn unpack(package: &Path, directory: &Path) -> Result<()> {
    run(Command::new("dpkg-deb")
        .arg("-x")
        .arg(package)
        .arg(directory))
}

/// Makes a tree that Dovecot can run in from the packages in `debs`.
pub(super) fn make_root(debs: &Path, root: &Path) -> Result<()> {
    make_directory(&root.join("usr"), 0o755)?;
    for name in MERGED {
        make_directory(&root.join("usr").join(name), 0o755)?;
        let link = root.join(name);
        symlink(format!("usr/{name}"), &link)
            .with_context(|| format!("cannot link `{}`", link.display()))?;
    }
    let context = || format!("cannot list `{}`", debs.display());
    for entry in fs::read_dir(debs).with_context(context)? {
        let entry = entry.with_context(context)?;
        if !entry
            .file_name()
            .to_string_lossy()
            .starts_with(NOT_UNPACKED)
        {
            unpack(&entry.path(), root)?;
        }
    }
    drop_unread(&root.join("usr/share"))?;
    for name in ["dev", "etc", "proc", "run"] {
        make_directory(&root.join(name), 0o755)?;
    }
    make_directory(&root.join("tmp"), 0o1777)?;
    for (name, major, minor) in DEVICES {
        let node = root.join("dev").join(name);
        run(Command::new("mknod")
            .args(["-m", "666"])
            .arg(node)
            .args(["c", major, minor]))?;
    }
    for (name, text) in [("passwd", PASSWD), ("group", GROUP)] {
        let path = root.join("etc").join(name);
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// Drops the documentation and the like from /usr/share.
fn drop_unread(share: &Path) -> Result<()> {
    remove_where(share, |name| name != KEPT_SHARE)
}

/// Removes what is in `directory` under a name with this beginning.
pub(super) fn remove_all(directory: &Path, prefix: &str) -> Result<()> {
    remove_where(directory, |name| name.starts_with(prefix))
}

fn remove_where(directory: &Path, unwanted: impl Fn(&str) -> bool) -> Result<()> {
    let context = || format!("cannot list `{}`", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let entry = entry.with_context(context)?;
        if unwanted(&entry.file_name().to_string_lossy()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes a directory with this mode, whatever the umask; one that is there gets the mode.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<()> {
    let context = || format!("cannot create `{}`", path.display());
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(context)
}

/// Copies a tree into the directory `to`: directories of its own, hard links to files, links and
/// devices.
pub(super) fn hard_link(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("cannot list `{}`", from.display());
    for entry in fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().with_context(context)?.is_dir() {
            let mode = entry.metadata().with_context(context)?.permissions().mode();
            make_directory(&copy, mode)?;
            hard_link(&source, &copy)?;
        } else {
            fs::hard_link(&source, &copy).with_context(|| {
                format!("cannot link `{}` to `{}`", copy.display(), source.display())
            })?;
        }
    }
    Ok(())
}

/// Lets processes in `root` find hosts as the others of this machine do; the files are copies.
pub(super) fn add_name_resolution(root: &Path) -> Result<()> {
    for name in ["hosts", "nsswitch.conf", "resolv.conf"] {
        let (source, copy) = (Path::new("/etc").join(name), root.join("etc").join(name));
        // Removed first, because a copy would write into the shared file.
        remove(&copy)?;
        if source.exists() {
            fs::copy(&source, &copy)
                .with_context(|| format!("cannot copy `{}`", source.display()))?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_replaced_in_a_copy_stays_as_it_was_in_the_original() {
        let directory = tempfile::tempdir().expect("a directory");
        let (original, copy) = (directory.path().join("a"), directory.path().join("b"));
        fs::create_dir_all(original.join("sub")).expect("directories");
        fs::create_dir(&copy).expect("a directory");
        fs::write(original.join("sub/file"), "shared").expect("a file");
        symlink("file", original.join("sub/link")).expect("a link");
        hard_link(&original, &copy).expect("a copy");
        fs::write(copy.join("new"), "private").expect("a file");
        fs::rename(copy.join("new"), copy.join("sub/file")).expect("renamed");
        let text = |path: &str| fs::read_to_string(directory.path().join(path)).expect("a text");
        assert_eq!(
            (text("a/sub/link"), text("b/sub/link")),
            ("shared".into(), "private".into())
        );
    }
}
