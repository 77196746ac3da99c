//! Scripts as files: those that cannot be loaded, those that change, their beginning and end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use dovecast_drivers::lua::Flavour;

use crate::cases;
use crate::script::{Script, mail};

cases!(
    what_cannot_be_loaded_says_why,
    a_script_that_changes_is_loaded_again_between_transactions,
    a_script_that_is_just_being_written_is_not_loaded,
    a_script_without_a_beginning_takes_the_place_of_none,
    settings_of_dovecot_2_4_go_to_script_init,
    what_script_init_returns_means_nothing_in_2_4,
    a_script_is_ended_when_the_server_ends,
);

const FUNCTIONS: &str = "
function dovecot_lua_notify_begin_txn(user) say_into(user) end
function dovecot_lua_notify_event_message_new() say('new') end
function dovecot_lua_notify_end_txn() end
";

async fn what_cannot_be_loaded_says_why() -> Result<()> {
    let script = Script::new("loading", FUNCTIONS)?;
    for (text, expected) in [
        ("function (", "<name> expected near '('"),
        ("error('not today')", "not today"),
        (
            "function script_init() return -1 end",
            "Script init failed: script_init() returned -1",
        ),
        (
            "function script_init() return 1 end",
            "Script init failed: script_init() returned 1",
        ),
        (
            "function script_init() none() end",
            "attempt to call a nil value (global 'none')",
        ),
        (
            "require 'no.such.module'",
            "module 'no.such.module' not found",
        ),
    ] {
        script.write(text)?;
        let error = script.target.check().await.expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
        assert!(
            error.contains("push.lua") || text.contains("return"),
            "{text}: {error}"
        );
        assert!(script.log().contains(expected), "{text}");
    }
    std::fs::remove_file(script.dir.path().join("push.lua"))?;
    let error = script.target.check().await.expect_err("no file");
    assert!(error.contains("cannot be read: No such file"), "{error}");
    assert_eq!(script.target.stats().load_failures, 7);
    // As soon as it is mended it works.
    for text in [
        "",
        "function script_init() return 0 end",
        "function script_init() end",
    ] {
        script.write(&format!("{FUNCTIONS}{text}"))?;
        script.done(&[mail(1)]).await?;
        assert_eq!(script.said()?, ["new"]);
    }
    Ok(())
}

async fn a_script_that_changes_is_loaded_again_between_transactions() -> Result<()> {
    let script = Script::new(
        "changes",
        &format!("{FUNCTIONS}function script_deinit() say('deinit of the first') end"),
    )?;
    script.done(&[mail(1)]).await?;
    script.done(&[mail(2)]).await?;
    script.write(&FUNCTIONS.replace("say('new')", "say('newer')"))?;
    script.done(&[mail(3)]).await?;
    assert_eq!(
        script.said()?,
        ["new", "new", "deinit of the first", "newer"]
    );
    let stats = script.target.stats();
    assert_eq!((stats.reloads, stats.starts, stats.deaths), (1, 2, 0));
    Ok(())
}

async fn a_script_that_is_just_being_written_is_not_loaded() -> Result<()> {
    let script = Script::new("being_written", FUNCTIONS)?;
    script.done(&[mail(1)]).await?;
    // What writes it in place has made it empty.
    script.write_in_place("")?;
    script.done(&[mail(2)]).await?;
    assert_eq!(script.said()?, ["new", "new"]);
    assert_eq!(script.target.stats().reloads, 0);
    // Where there is no process it is waited for.
    script.target.close().await;
    script.write_in_place("")?;
    let (reason, retry_after) = script.fails(&[mail(3)]).await?;
    assert!(reason.contains("its file has just changed"), "{reason}");
    assert!(retry_after.is_some_and(|after| after <= Duration::from_secs(1)));
    script.write(FUNCTIONS)?;
    script.done(&[mail(3)]).await?;
    assert_eq!(script.said()?, ["new"]);
    Ok(())
}

async fn a_script_without_a_beginning_takes_the_place_of_none() -> Result<()> {
    let script = Script::new("beginless", FUNCTIONS)?;
    script.done(&[mail(1)]).await?;
    for _ in 0..2 {
        script.write("")?;
        let (reason, _) = script.fails(&[mail(2)]).await?;
        let expected = "cannot be loaded: Missing function dovecot_lua_notify_begin_txn";
        assert!(reason.contains(expected), "{reason}");
    }
    assert_eq!(script.target.stats().load_failures, 2);
    script.write(FUNCTIONS)?;
    script.done(&[mail(2)]).await?;
    assert_eq!(script.said()?, ["new", "new"]);
    Ok(())
}

async fn settings_of_dovecot_2_4_go_to_script_init() -> Result<()> {
    let text = format!(
        "local settings
function script_init(given) settings = given return 0 end
{}",
        FUNCTIONS.replace("say('new')", "say(settings and settings.api_url)")
    );
    let old = Script::new("init_2_3", &text)?;
    old.done(&[mail(1)]).await?;
    assert_eq!(old.said()?, ["nil"]);
    let new = Script::with("init_2_4", &text, |options| {
        let settings = [("api_url".to_owned(), "http://127.0.0.1/".to_owned())];
        options.flavour = Flavour::Dovecot24(BTreeMap::from(settings));
    })?;
    new.done(&[mail(1)]).await?;
    assert_eq!(new.said()?, ["http://127.0.0.1/"]);
    Ok(())
}

async fn what_script_init_returns_means_nothing_in_2_4() -> Result<()> {
    let text = format!("{FUNCTIONS}function script_init() return -1 end");
    let script = Script::with("init_returns", &text, |options| {
        options.flavour = Flavour::Dovecot24(BTreeMap::new());
    })?;
    script.done(&[mail(1)]).await?;
    assert_eq!(script.said()?, ["new"]);
    Ok(())
}

async fn a_script_is_ended_when_the_server_ends() -> Result<()> {
    let text = format!("{FUNCTIONS}function script_deinit() say('deinit') error('and fails') end");
    let script = Script::new("ends", &text)?;
    script.done(&[mail(1)]).await?;
    script.target.close().await;
    assert_eq!(script.said()?, ["new", "deinit"]);
    assert!(script.log().contains("and fails"));
    Ok(())
}
