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
