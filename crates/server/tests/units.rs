//! The systemd units, as systemd reads them.

use std::fs;
use std::io::Write;
use std::process::Command;

use dovecast_testkit::workspace;

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        // A test whose output nobody takes has nobody to tell.
        let _ = writeln!(std::io::stderr(), "skipped: there is no systemd-analyze");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let units = ["dovecast.service", "dovecast-relay.socket"];
    for unit in units {
        let text = fs::read_to_string(workspace::root().join("packaging/systemd").join(unit));
        // The binary is not installed here.
        let text = text
            .expect(unit)
            .replace("/usr/bin/dovecast", env!("CARGO_BIN_EXE_dovecast"));
        fs::write(dir.path().join(unit), text).expect("write");
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no"]);
    let output = verify
        .args(units.map(|unit| dir.path().join(unit)))
        .output()
        .expect("systemd-analyze");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // Units of this machine that are not ours are nothing to us.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("dovecast"))
        .collect();
    assert_eq!(ours, [""; 0]);
    assert!(output.status.success(), "{said}");
}

/// Lines of a file of the repository.
fn lines(path: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace::root().join(path)).expect(path);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn the_service_leaves_no_memory_behind_and_has_no_rights() {
    let unit = lines("packaging/systemd/dovecast.service");
    for expected in [
        "LimitCORE=0",
        "UMask=0077",
        "User=dovecast",
        "AmbientCapabilities=",
        "CapabilityBoundingSet=",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
    ] {
        assert!(unit.iter().any(|line| line == expected), "no `{expected}`");
    }
}

#[test]
fn packages_are_built_of_what_the_lock_file_names() {
    let mut builds = 0;
    for entry in fs::read_dir(workspace::root().join("packaging")).expect("packaging") {
        let entry = entry.expect("an entry");
        if !entry.file_type().expect("a type").is_file() {
            continue;
        }
        let path = format!("packaging/{}", entry.file_name().to_string_lossy());
        for line in lines(&path) {
            if line.trim_start().starts_with("cargo build ") {
                assert!(line.contains(" --locked "), "{path}: {line}");
                builds += 1;
            }
        }
    }
    // Two of the plugin's package, and the server's.
    assert!(builds >= 3, "{builds} builds");
}
