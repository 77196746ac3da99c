//! Finds Dovecot's headers and compiles the C shim against them.
//!
//! `DOVECOT_CONFIG` names the file `dovecot-config` of the installation to build for;
//! `DOVECOT_SYSROOT` a tree of unpacked packages that holds one. Without either the system's own is
//! taken.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

const LIB_DIRS: [&str; 4] = ["usr/lib", "usr/lib64", "usr/local/lib", "usr/local/lib64"];
const SHIM: [&str; 3] = ["driver.c", "host.c", "details.c"];
const SHIM_2_3: [&str; 1] = ["settings_2_3.c"];
const SHIM_2_4: [&str; 2] = ["settings_2_4.c", "settings_info_2_4.c"];
const SETTINGS_MODULE: [&str; 2] = ["settings_module_2_4.c", "settings_info_2_4.c"];

fn main() {
    println!("cargo:rerun-if-env-changed=DOVECOT_CONFIG");
    println!("cargo:rerun-if-env-changed=DOVECOT_SYSROOT");
    println!("cargo:rerun-if-changed=shim");
    println!("cargo:rustc-check-cfg=cfg(dovecot_2_4)");

    let sysroot = env::var_os("DOVECOT_SYSROOT").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let include = include_dir(&sysroot);
    let config_h = include.join("config.h");
    println!("cargo:rerun-if-changed={}", config_h.display());
    let header = read(&config_h);
    let version = ["DOVECOT_VERSION_MAJOR", "DOVECOT_VERSION_MINOR"]
        .map(|name| define(&header, &config_h, name));
    let abi = define(&header, &config_h, "DOVECOT_ABI_VERSION").trim_matches('"');
    println!("cargo:abi_version={abi}");
    println!("cargo:rustc-env=DOVECOT_ABI_VERSION={abi}");

    let specific: &[&str] = match version {
        ["2", "3"] => &SHIM_2_3,
        ["2", "4"] => {
            println!("cargo:rustc-cfg=dovecot_2_4");
            link_settings_module(&include, abi);
            &SHIM_2_4
        }
        [major, minor] => panic!(
            "Dovecot {major}.{minor} at {} is not supported: this plugin builds against 2.3 and 2.4",
            include.display()
        ),
    };
    compiler(&include, abi)
        .files(
            SHIM.iter()
                .chain(specific)
                .map(|file| Path::new("shim").join(file)),
        )
        .compile("dovecast_shim");
}

/// Tells modules with other settings apart: FNV-1a of what the settings are made of.
fn settings_build(abi: &str) -> String {
    let sources = ["options.def", "settings_2_4.h", "settings_info_2_4.c"];
    let text: String = sources
        .iter()
        .map(|file| read(&Path::new("shim").join(file)))
        .collect();
    let hash = text
        .bytes()
        .chain(abi.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("\"{hash:016x}\"")
}

fn compiler(include: &Path, abi: &str) -> cc::Build {
    let mut build = cc::Build::new();
    build
        .flag("-isystem")
        .flag(include.to_str().expect("the include directory is UTF-8"))
        .define("HAVE_CONFIG_H", None)
        .define("DOVECAST_SETTINGS_BUILD", settings_build(abi).as_str())
        .std("gnu11")
        .extra_warnings(true);
    harden(&mut build);
    build
}

/// What Debian compiles Dovecot itself with.
fn harden(build: &mut cc::Build) {
    for flag in ["-fstack-protector-strong", "-Werror=format-security"] {
        build.flag(flag);
    }
    for flag in ["-fstack-clash-protection", "-fcf-protection"] {
        build.flag_if_supported(flag);
    }
    // The checks are made of what the optimiser knows; without one the header warns.
    if env::var("OPT_LEVEL").is_ok_and(|level| level != "0") {
        build.flag("-U_FORTIFY_SOURCE").flag("-D_FORTIFY_SOURCE=2");
    }
}

/// Dovecot 2.4 reads the plugin's settings from a module of their own: plain C, put where cargo
/// puts the plugin.
fn link_settings_module(include: &Path, abi: &str) {
    let out = out_dir();
    let profile = out
        .ancestors()
        .nth(3)
        .expect("OUT_DIR is PROFILE/build/PACKAGE/out");
    let module = profile.join("libpush_notification_kafka_settings.so");
    // Gone from there, it is made anew.
    println!("cargo:rerun-if-changed={}", module.display());
    let status = compiler(include, abi)
        .get_compiler()
        .to_command()
        .args(["-shared", "-fPIC", "-Wl,-z,now,-z,relro", "-o"])
        .arg(&module)
        .args(SETTINGS_MODULE.map(|file| Path::new("shim").join(file)))
        .status()
        .expect("the C compiler runs");
    assert!(
        status.success(),
        "cannot link {}: {status}",
        module.display()
    );
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"))
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
