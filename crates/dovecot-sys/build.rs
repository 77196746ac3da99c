//! Finds Dovecot's headers and compiles the C shim against them.
//!
//! `DOVECOT_CONFIG` names the file `dovecot-config` of the installation to build for; `DOVECOT_SYSROOT` a tree of
//! unpacked packages that holds one. Without either the system's own is taken.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const LIB_DIRS: [&str; 4] = ["usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64"];
const SHIM: [&str; 3] = ["driver.c", "host.c", "details.c"];

fn main() {
    println!("cargo:rerun-if-env-changed=DOVECOT_CONFIG");
    println!("cargo:rerun-if-env-changed=DOVECOT_SYSROOT");
    println!("cargo:rerun-if-changed=shim");

    let sysroot = env::var_os("DOVECOT_SYSROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let include = include_dir(&sysroot);
    let config_h = include.join("config.h");
    println!("cargo:rerun-if-changed={}", config_h.display());
    let header = read(&config_h);
    let version = (
        define(&header, &config_h, "DOVECOT_VERSION_MAJOR"),
        define(&header, &config_h, "DOVECOT_VERSION_MINOR"),
    );
    assert!(
        version == ("2", "3"),
        "Dovecot {}.{} at {} is not supported: this plugin builds against 2.3",
        version.0,
        version.1,
        include.display()
    );
    let abi = define(&header, &config_h, "DOVECOT_ABI_VERSION");
    println!("cargo:abi_version={}", abi.trim_matches('"'));

    cc::Build::new()
        .files(SHIM.map(|file| Path::new("shim").join(file)))
        .flag("-isystem")
        .flag(include.to_str().expect("the include directory is UTF-8"))
        .define("HAVE_CONFIG_H", None)
        .std("gnu11")
        .extra_warnings(true)
        .compile("dovecast_shim");
}

/// `dovecot_pkgincludedir` of the installation, below the sysroot.
fn include_dir(sysroot: &Path) -> PathBuf {
    let config = env::var_os("DOVECOT_CONFIG").map_or_else(|| find_config(sysroot), PathBuf::from);
    println!("cargo:rerun-if-changed={}", config.display());
    let text = read(&config);
    let dir = text
        .lines()
        .find_map(|line| line.strip_prefix("dovecot_pkgincludedir="))
        .unwrap_or_else(|| panic!("{} has no line `dovecot_pkgincludedir=`", config.display()));
    sysroot.join(dir.trim_matches('"').trim_start_matches('/'))
}

fn find_config(sysroot: &Path) -> PathBuf {
    LIB_DIRS
        .iter()
        .map(|dir| sysroot.join(dir).join("dovecot/dovecot-config"))
        .find(|path| path.exists())
        .unwrap_or_else(|| {
            panic!(
                "no dovecot-config below {}: install Dovecot's headers (Debian: apt-get install dovecot-dev), \
                 or set DOVECOT_SYSROOT or DOVECOT_CONFIG",
                sysroot.display()
            )
        })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn define<'h>(header: &'h str, path: &Path, name: &str) -> &'h str {
    header
        .lines()
        .find_map(|line| {
            line.strip_prefix("#define ")?
                .strip_prefix(name)?
                .strip_prefix(' ')
        })
        .unwrap_or_else(|| panic!("{} does not define {name}", path.display()))
        .trim()
}
