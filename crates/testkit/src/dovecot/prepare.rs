//! Lays out the private directory before Dovecot starts: configuration, users, logs, plugins, the
//! parent of all homes.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::layout::Layout;
use super::settings::Settings;
use super::{Installation, MAIL_UID};

pub(super) fn prepare(
    layout: &Layout,
    installation: Installation,
    settings: &Settings,
    address: Ipv4Addr,
) -> Result<()> {
    installation.lay_out(layout)?;
    for directory in [layout.run(), layout.state(), layout.homes()] {
        fs::create_dir(&directory)
            .with_context(|| format!("cannot create `{}`", directory.display()))?;
    }
    chown(layout.homes(), Some(MAIL_UID), Some(MAIL_UID))
        .context("cannot give the homes to the mail user")?;
    for user in settings.users.iter().filter(|user| user.uid != MAIL_UID) {
        let home = layout.home(&user.name);
        fs::create_dir(&home)?;
        chown(home, Some(user.uid), Some(MAIL_UID))
            .with_context(|| format!("cannot give `{}` a home", user.name))?;
    }
    if settings.relay {
        // As a package makes it: every mail process may write, only the relay may look.
        fs::create_dir(layout.relay())?;
        fs::create_dir(layout.spill_dir())?;
        fs::set_permissions(layout.spill_dir(), fs::Permissions::from_mode(0o3733))?;
    }
    // Dovecot's processes open the logs as root, dovecot-lda as the mail user.
    for log in [layout.log(), layout.debug_log()] {
        fs::write(&log, "")?;
        fs::set_permissions(&log, fs::Permissions::from_mode(0o666))?;
    }
    if let Some(plugin) = &settings.plugin {
        copy_module(plugin, &layout.plugin())?;
    }
    if let Some(module) = &settings.config_module
        && installation.has_settings_modules()
    {
        copy_module(module, &layout.settings_module())?;
    }
    for file in &settings.files {
        show(file, layout)?;
    }
    for (path, text) in installation.render(settings, layout, address)? {
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// A copy: a build that replaces the file must not change what is mapped, and the mail user can
/// read it.
fn copy_module(shared_object: &Path, copy: &Path) -> Result<()> {
    fs::copy(shared_object, copy)
        .with_context(|| format!("cannot copy the plugin `{}`", shared_object.display()))?;
    fs::set_permissions(copy, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot make `{}` executable", copy.display()))
}

/// Gives Dovecot's processes a file by the path it has for everybody else.
fn show(file: &Path, layout: &Layout) -> Result<()> {
    let context = || format!("cannot show `{}` to Dovecot", file.display());
    ensure!(
        file.is_absolute(),
        "`{}` is not an absolute path",
        file.display()
    );
    let metadata = fs::metadata(file).with_context(context)?;
    let copy = layout.path_outside(file);
    if copy == file {
        return Ok(());
    }
    let parent = copy.parent().with_context(context)?;
    fs::create_dir_all(parent).with_context(context)?;
    // Renamed into place: what is there may be one file with that of other Dovecots.
    let new = tempfile::NamedTempFile::new_in(parent).with_context(context)?;
    fs::copy(file, new.path()).with_context(context)?;
    chown(new.path(), Some(metadata.uid()), Some(metadata.gid())).with_context(context)?;
    new.persist(&copy).with_context(context)?;
    Ok(())
}
