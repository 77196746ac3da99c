//! The clock that a whole run of the suite can be given: `scripts/at-test-clock`.

use std::path::Path;
use std::process::Command;

use dovecast_testkit::clock;

/// A program at another day; what it prints.
fn at(day: &str, program: &[&str]) -> String {
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/at-test-clock");
    let mut command = Command::new(runner);
    command.args(program).env("DOVECAST_TEST_CLOCK", day);
    // The suite may itself be run at another day.
    let output = clock::true_time(&mut command).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("a text")
}

#[test]
fn a_program_and_what_it_starts_are_at_that_day_and_so_are_their_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    let file = file.to_str().expect("a path");
    let script = r#"date +%Y; touch "$0"; date --reference="$0" +%Y; TZ=UTC date -d @0 +%Y"#;
    assert_eq!(
        at("2100-06-01", &["sh", "-c", script, file]),
        "2100\n2100\n1970\n"
    );
}

#[test]
fn a_program_is_at_its_own_day_without_one() {
    assert_eq!(at("", &["sh", "-c", "echo $LD_PRELOAD"]), "\n");
}
