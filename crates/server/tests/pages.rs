//! What packages have to read: a manual page for each command, and pages whose links lead
//! somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

#[test]
fn each_command_has_a_manual_page_with_its_options() {
    let dir = TempDir::new().expect("a directory");
    let made = dir.path().join("man1");
    let dovecast = || Command::new(env!("CARGO_BIN_EXE_dovecast"));
    let status = dovecast().arg("manual").arg(&made).status();
    assert!(status.expect("dovecast").success());
    let help = dovecast().arg("--help").output().expect("help");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    let mut count = 0;
    for line in commands.lines().take_while(|line| line.starts_with("  ")) {
        // What goes on in the next line is indented more.
        let Some(name) = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))
        else {
            continue;
        };
        let name = name.split_whitespace().next().expect("a name");
        if name == "help" {
            continue;
        }
        let page = made.join(format!("dovecast-{name}.1"));
        let page = fs::read_to_string(&page).unwrap_or_else(|_| panic!("no page of {name}"));
        assert!(page.starts_with(".TH DOVECAST"), "{page}");
        count += 1;
    }
    assert!(count > 15, "{help}");
    for (page, options) in [
        (
            "dovecast-tail.1",
            &["\\-\\-until\\-end", "\\-\\-count <N>", "default: pretty"][..],
        ),
        ("dovecast-endpoints-add.1", &["\\-\\-account\\-id <NUMBER>"]),
        (
            "dovecast-redeliver.1",
            &["<ENDPOINT> \\-\\-all", "\\-\\-since <TIME>"],
        ),
        ("dovecast-tail.1", &[".TP\n2\nthe command line is wrong\n"]),
        (
            "dovecast-doctor.1",
            &[
                ".TP\n2\nthere are problems\n",
                ".TP\n3\nnothing could be checked, or the command line is wrong\n",
            ],
        ),
        (
            "dovecast-pushusers.1",
            &[
                ".TP\n1\nfailed, or the command line is wrong\n",
                ".TP\n255\n",
            ],
        ),
    ] {
        let text = fs::read_to_string(made.join(page)).expect(page);
        for option in options {
            assert!(text.contains(option), "{page} has no {option}: {text}");
        }
    }
}

#[test]
fn packages_have_every_page_that_their_pages_link_to() {
    let dir = TempDir::new().expect("a directory");
    let script = format!(
        "doc={}; . packaging/common.sh; install_pages",
        dir.path().display()
    );
    let mut bash = Command::new("bash");
    let status = bash.args(["-euc", &script]).current_dir(WORKSPACE).status();
    assert!(status.expect("bash").success());
    let mut pages = Vec::new();
    collect(dir.path(), &mut pages);
    assert!(pages.len() > 10, "{pages:?}");
    for page in pages {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap_or_default();
            if link.is_empty() || link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let target = page.parent().expect("a directory").join(link);
            assert!(target.exists(), "{}: {link}", page.display());
        }
    }
    for script in ["build-deb", "build-deb-server"] {
        let script = Path::new(WORKSPACE).join("packaging").join(script);
        let text = fs::read_to_string(&script).expect("a script");
        assert!(text.contains("\ninstall_pages\n"), "{}", script.display());
    }
}

fn collect(dir: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, pages);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path);
        }
    }
}

/// Each command, and each code that one ends with, is in the manual page that is written by hand.
#[test]
fn the_manual_page_of_the_program_names_each_command() {
    let page = Path::new(WORKSPACE).join("packaging/debian/dovecast.1");
    let page = fs::read_to_string(page).expect("a page");
    let help = Command::new(env!("CARGO_BIN_EXE_dovecast"))
        .arg("--help")
        .output();
    let help = String::from_utf8_lossy(&help.expect("help").stdout).into_owned();
    let (_, rest) = help.split_once("Commands:\n").expect("commands");
    let commands = rest.lines().take_while(|line| line.starts_with("  "));
    let names = commands.filter(|line| !line.starts_with("   "));
    let (_, told) = page.split_once(".SH COMMANDS\n").expect("commands");
    let (told, _) = told.split_once(".SH OPTIONS\n").expect("options");
    for name in names.filter_map(|line| line.split_whitespace().next()) {
        let name = name.replace('-', "\\-");
        let is_told = told.lines().any(|line| {
            let mut words = line.split([' ', '"', ',']);
            line.starts_with(".B") && words.any(|word| word == name)
        });
        assert!(is_told || name == "help", "no word of {name}");
    }
    for code in ["3 nothing could be checked", "255"] {
        assert!(page.contains(code), "no word of {code}");
    }
}

/// Names of metrics in a text.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(move |c: char| !is_part(c));
    words.filter(|word| word.starts_with("dovecast_") || word.starts_with("process_"))
}

#[test]
fn each_metric_is_in_a_page() {
    let sources = Path::new(WORKSPACE).join("crates/server/src");
    let mut files = vec![sources.join("exposition.rs")];
    let others = fs::read_dir(sources.join("exposition")).expect("a directory");
    files.extend(others.map(|file| file.expect("a file").path()));
    let mut pages = Vec::new();
    collect(&Path::new(WORKSPACE).join("docs"), &mut pages);
    pages.retain(|page| {
        !page
            .components()
            .any(|part| part.as_os_str() == "decisions")
    });
    let pages: Vec<String> = pages
        .iter()
        .map(|page| fs::read_to_string(page).expect("a page"))
        .collect();
    let told: BTreeSet<&str> = pages.iter().flat_map(|page| metrics(page)).collect();
    let mut count = 0;
    for file in files {
        let source = fs::read_to_string(&file).expect("a source");
        // Every second part of the text is in quotes.
        let texts = source.split('"').skip(1).step_by(2);
        let names = texts.filter(|text| metrics(text).next() == Some(*text));
        for name in names {
            assert!(told.contains(name), "no page says what `{name}` is");
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}
