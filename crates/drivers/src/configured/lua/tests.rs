//! Blocks of scripts in both spellings of Dovecot, and what is wrong with some.

use std::collections::BTreeMap;
use std::fs;

use crate::configured::tests::block;
use crate::configured::{Block, ConfiguredDriver, Surroundings};
use crate::http::sockets::Sockets;
use crate::lua::{Flavour, LuaOptions};

use super::*;

fn surroundings(script_of_all: Option<&str>) -> Surroundings {
    Surroundings {
        sockets: Sockets::default(),
        lua_host: Vec::new(),
        lua_script_file: script_of_all.map(str::to_owned),
        lua_attempt_limit: crate::configured::LUA_ATTEMPT_LIMIT,
    }
}

fn options_of(block: &Block, script_of_all: Option<&str>) -> Result<LuaOptions, String> {
    let behind = block.driver.split_once(':').map(|(_, behind)| behind);
    let options = Options::read(block, "lua", OPTIONS, behind);
    let read = options.and_then(|options| read(&options, &surroundings(script_of_all)));
    read.map_err(|error| error.to_string())
}

fn made(block: &Block) -> Result<ConfiguredDriver, String> {
    let made = block.make(&surroundings(None));
    made.map_err(|error| error.to_string())
}

#[test]
fn options_are_known_by_their_names_in_both_spellings() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("push.lua").display().to_string();
    fs::write(&script, "").expect("a script");
    let as_in_2_3 = format!("lua:file={script}");
    let with_settings = |mut block: Block| {
        let settings = [("url".to_owned(), "u".to_owned())];
        block.settings = Some(settings.into());
        block
    };
    let of_2_4 = |settings: &[(&str, &str)]| {
        let settings = settings.iter();
        let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Flavour::Dovecot24(settings.collect())
    };
    for (block, flavour) in [
        (block(&as_in_2_3, &[]), Flavour::Dovecot23),
        (block(&as_in_2_3, &[("dovecot", "2.4")]), of_2_4(&[])),
        (block("lua", &[("file", &script)]), Flavour::Dovecot23),
        (block("lua", &[("lua_file", &script)]), of_2_4(&[])),
        (
            block("lua", &[("push_notification_lua_file", &script)]),
            of_2_4(&[]),
        ),
        (
            block("lua", &[("lua_file", &script), ("dovecot", "2.3")]),
            Flavour::Dovecot23,
        ),
        (
            with_settings(block("lua", &[("lua_file", &script)])),
            of_2_4(&[("url", "u")]),
        ),
        (
            block("lua", &[("push_notification_lua_script_file", &script)]),
            Flavour::Dovecot23,
        ),
    ] {
        let read = options_of(&block, None).expect("options");
        assert_eq!(read.script, PathBuf::from(&script));
        assert_eq!(read.flavour, flavour, "{block:?}");
        assert_eq!(read.time_limit, LuaOptions::TIME_LIMIT);
        let made = made(&block).expect("a driver");
        assert_eq!(
            (made.kind, made.serving.expect("a serving").concurrency),
            ("lua", 1)
        );
    }
    let bounds = [
        ("lua_time_limit_seconds", "5"),
        ("lua_memory_limit_mb", "16"),
    ];
    let read = options_of(&block(&as_in_2_3, &bounds), None).expect("options");
    assert_eq!(read.time_limit, Duration::from_secs(5));
    assert_eq!(read.memory_limit_bytes, 16 * 1024 * 1024);
}

#[test]
fn a_transaction_is_kept_for_a_day_and_never_left_alone_for_long() {
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("push.lua").display().to_string();
    fs::write(&script, "").expect("a script");
    let made = made(&block("lua", &[("lua_file", &script)])).expect("a driver");
    let schedule = made.serving.expect("a serving").schedule;
    let without_jitter = u64::from(JITTER_PERCENT);
    let delays = (1..).map_while(|failures| schedule.delay(failures, None, without_jitter));
    let delays: Vec<Duration> = delays.collect();
    assert!(delays.iter().sum::<Duration>() >= Duration::from_hours(24));
    assert_eq!(delays.iter().max(), Some(&Duration::from_mins(1)));
    // What the script itself fails with is refused soon.
    let until_refused = delays.iter().take(3).sum::<Duration>();
    assert_eq!((TRIES, until_refused), (4, Duration::from_secs(21)));
}

#[test]
fn a_block_without_a_script_has_that_of_all() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name).display().to_string();
    for name in ["all.lua", "plugin.lua"] {
        fs::write(path(name), "").expect("a script");
    }
    let mut block = block("lua", &[]);
    let all = path("all.lua");
    let read = options_of(&block, Some(&all)).expect("options");
    assert_eq!(read.script, PathBuf::from(&all));
    let of_plugin = [(FALLBACK.to_owned(), path("plugin.lua"))];
    block.plugin = BTreeMap::from(of_plugin);
    let read = options_of(&block, Some(&all)).expect("options");
    assert_eq!(read.script, PathBuf::from(path("plugin.lua")));
}

#[test]
fn what_is_wrong_with_a_script_is_named() {
    for (driver, options, expected) in [
        (
            "lua",
            &[][..],
            "[push_notification.one] file: No file in config and no push_notification_lua_script_file set",
        ),
        (
            "lua",
            &[("file", "")],
            "[push_notification.one] file: No file in config and no push_notification_lua_script_file set",
        ),
        (
            "lua:file=/nowhere/push.lua",
            &[],
            "[push_notification.one] file: Lua script '/nowhere/push.lua': cannot open /nowhere/push.lua: No such file or directory (os error 2)",
        ),
        (
            "lua",
            &[("lua_file", "/")],
            "[push_notification.one] lua_file: Lua script '/': cannot open /: it is not a file",
        ),
        (
            "lua:file=/dev/null",
            &[("lua_timeout", "1")],
            "[push_notification.one] lua_timeout: unknown option, expected one of `file`, `script_file`, `time_limit_seconds`, `memory_limit_mb`, `dovecot`",
        ),
    ] {
        let error = made(&block(driver, options)).expect_err(expected);
        assert_eq!(error, expected);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let script = dir.path().join("push.lua").display().to_string();
    fs::write(&script, "").expect("a script");
    for (key, value, expected) in [
        (
            "lua_time_limit_seconds",
            "46",
            "a function may take 1 to 45 seconds",
        ),
        (
            "lua_memory_limit_mb",
            "0",
            "a script may have 1 to 16384 MiB",
        ),
        (
            "dovecot",
            "2.2",
            "`2.2` is not known, expected `2.3` or `2.4`",
        ),
    ] {
        let error = made(&block("lua", &[("file", &script), (key, value)]));
        let error = error.expect_err(expected);
        assert_eq!(error, format!("[push_notification.one] {key}: {expected}"));
    }
    let mut other = block("dlog", &[]);
    other.settings = Some(BTreeMap::new());
    let error = made(&other).expect_err("no script");
    assert!(
        error.contains("lua_settings: unknown option, `dlog` has no script"),
        "{error}"
    );
}
