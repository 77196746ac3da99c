//! Scripts that fail, hang, eat memory or end: what they cost, and what comes after.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dovecast_drivers::lua::{Handled, LuaOptions, Transaction};
use dovecast_host_process::child::{read_frame, write_frame};
use dovecast_lua_host::wire::{Answer, MAX_ANSWER_BYTES, Request, Start};
use tokio::process::Command;

use crate::cases;
use crate::script::{Script, mail, transaction};

cases!(
    an_error_is_told_with_its_traceback_and_the_others_are_called,
    an_error_in_the_beginning_ends_the_transaction,
    what_fails_before_its_last_part_is_ended,
    an_endless_loop_is_killed_and_the_next_one_says_where_it_is,
    loops_that_catch_errors_and_patterns_without_end_are_killed,
    what_a_script_has_started_is_killed_with_its_process,
    what_a_script_has_started_ends_with_the_server,
    memory_is_bounded,
    a_script_that_keeps_too_much_is_started_again,
    a_script_that_ends_its_process_is_started_again,
    a_transaction_ends_with_its_process,
    what_takes_longer_than_there_is_time_is_killed,
    a_process_waits_before_it_is_started_again,
    nothing_of_the_server_is_inherited,
);

const END: &str = "function dovecot_lua_notify_end_txn() say('end') end\n";
const BEGIN: &str = "function dovecot_lua_notify_begin_txn(user) say_into(user) end\n";

async fn an_error_is_told_with_its_traceback_and_the_others_are_called() -> Result<()> {
    let script = Script::new(
        "error",
        &format!(
            "{BEGIN}
local function deep(event) if event.uid == 2 then error('no ' .. event.uid) end end
function dovecot_lua_notify_event_message_new(ctx, event) deep(event) say(event.uid) end
function dovecot_lua_notify_end_txn(ctx, success) say('end', success) end
"
        ),
    )?;
    let (reason, retry_after) = script.fails(&[mail(1), mail(2), mail(3)]).await?;
    assert_eq!(script.said()?, ["1.0", "3.0", "end true"]);
    assert_eq!(retry_after, None);
    assert!(
        reason.starts_with("`dovecot_lua_notify_event_message_new`: "),
        "{reason}"
    );
    assert!(
        reason.contains("no 2.0") && reason.contains("stack traceback"),
        "{reason}"
    );
    assert!(reason.contains("push.lua:"), "{reason}");
    assert!(script.log().contains("stack traceback"));
    let stats = script.target.stats();
    // The process stays, and so does what the script has.
    assert_eq!((stats.errors, stats.deaths, stats.starts), (1, 0, 1));
    script.done(&[mail(1)]).await
}

async fn an_error_in_the_beginning_ends_the_transaction() -> Result<()> {
    let script = Script::new(
        "beginning",
        &format!(
            "{END}
function dovecot_lua_notify_begin_txn(user) say_into(user) say('begin') user.none() end
function dovecot_lua_notify_event_message_new(ctx, event) say(event.uid) end
"
        ),
    )?;
    let (reason, _) = script.fails(&[mail(1)]).await?;
    assert!(
        reason.contains("dovecot_lua_notify_begin_txn") && reason.contains("nil"),
        "{reason}"
    );
    assert_eq!(script.said()?, ["begin"]);
    Ok(())
}

async fn what_fails_before_its_last_part_is_ended() -> Result<()> {
    let script = Script::new(
        "cut",
        &format!(
            "{BEGIN}
function dovecot_lua_notify_event_message_new() error('no') end
function dovecot_lua_notify_end_txn(ctx, success) say('end', success) end
"
        ),
    )?;
    let first = Transaction {
        is_last: false,
        ..transaction("t", &[mail(1)])
    };
    let handled = script.part(&first).await;
    assert!(matches!(handled, Handled::Failed { .. }), "{handled:?}");
    assert_eq!(script.said()?, ["end false"]);
    Ok(())
}

/// A script whose function for MessageNew is this, with a limit for its time.
fn hasty(name: &str, event: &str, limit: Duration) -> Result<Script> {
    let text = format!(
        "{BEGIN}{END}function dovecot_lua_notify_event_message_new(ctx, event)\n{event}\nend\n"
    );
    Script::with(name, &text, |options| options.time_limit = limit)
}

/// A script whose function for MessageNew is this.
fn with_event(name: &str, event: &str) -> Result<Script> {
    hasty(name, event, LuaOptions::TIME_LIMIT)
}

/// Soon enough for a test, and long enough for a busy machine.
const SOON: Duration = Duration::from_secs(1);

const WELL: &str = "
function dovecot_lua_notify_begin_txn(user) say_into(user) end
function dovecot_lua_notify_event_message_new() say('well') end
function dovecot_lua_notify_end_txn() end
";

/// Kills what hangs, and works again as soon as the script is mended.
async fn check_killed(script: &Script) -> Result<()> {
    let (reason, retry_after) = script.fails(&[mail(1)]).await?;
    let is_named = reason.contains("`dovecot_lua_notify_event_message_new` takes longer than");
    assert!(is_named && reason.contains("signal: 9"), "{reason}");
    assert_eq!(retry_after, Some(Duration::from_secs(1)));
    let stats = script.target.stats();
    assert_eq!((stats.deaths, stats.late), (1, 1));
    // No process for a while, but for a script that was mended.
    let (reason, _) = script.fails(&[mail(1)]).await?;
    assert!(reason.contains("has no process"), "{reason}");
    script.write(WELL)?;
    script.done(&[mail(1)]).await?;
    assert_eq!(script.said()?, ["well"]);
    Ok(())
}

async fn an_endless_loop_is_killed_and_the_next_one_says_where_it_is() -> Result<()> {
    let text = "local function turn() while true do end end turn()";
    let script = hasty("loop", text, SOON)?;
    let (reason, _) = script.fails(&[mail(1)]).await?;
    assert!(reason.contains("takes longer than"), "{reason}");
    // The same again, as another file: nothing is waited for. It says where it is, and goes on.
    let same = std::fs::read_to_string(script.dir.path().join("push.lua"))?;
    script.write(&same)?;
    let (reason, _) = script.fails(&[mail(1)]).await?;
    assert!(
        reason.contains("too long") || reason.contains("takes longer"),
        "{reason}"
    );
    let log = script.log();
    assert!(
        log.contains("a function of the script takes too long"),
        "{log}"
    );
    assert!(
        log.contains("in local 'turn'") || log.contains("in upvalue 'turn'"),
        "{log}"
    );
    Ok(())
}

async fn loops_that_catch_errors_and_patterns_without_end_are_killed() -> Result<()> {
    let caught = "while true do pcall(function() while true do end end) end";
    check_killed(&hasty("pcall", caught, SOON)?).await?;
    let pattern = "(('a'):rep(10000)):find(('.-'):rep(30) .. 'b')";
    check_killed(&hasty("pattern", pattern, SOON)?).await?;
    let collected = "setmetatable({}, {__gc = function() while true do end end}) collectgarbage()";
    check_killed(&hasty("gc", collected, SOON)?).await
}

/// Waits until no process has this argument.
async fn is_gone(argument: &str) -> Result<()> {
    let is_running = || {
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut commands = processes.filter_map(|it| std::fs::read(it.path().join("cmdline")).ok());
        commands.any(|command| String::from_utf8_lossy(&command).contains(argument))
    };
    let gone = async {
        while is_running() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), gone).await;
    waited.with_context(|| format!("a process of `{argument}` is left"))
}

async fn what_a_script_has_started_is_killed_with_its_process() -> Result<()> {
    let seconds = format!("1000.1{}", std::process::id());
    let text = format!("os.execute('sleep {seconds}')");
    let script = hasty("children", &text, SOON)?;
    let (reason, _) = script.fails(&[mail(1)]).await?;
    assert!(reason.contains("takes longer than"), "{reason}");
    is_gone(&seconds).await
}

async fn what_a_script_has_started_ends_with_the_server() -> Result<()> {
    let seconds = format!("1000.2{}", std::process::id());
    let script = Script::new("orphans", &format!("child = io.popen('sleep {seconds}')"))?;
    let start = Request::Start(Start {
        script: script.dir.path().join("push.lua"),
        time_limit_ms: 30_000,
        memory_limit_bytes: LuaOptions::MEMORY_LIMIT_BYTES,
        settings: None,
        plugin: BTreeMap::new(),
        is_traced: false,
    });
    let mut host = Command::new(std::env::current_exe()?)
        .arg("lua-host")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (input, output) = (host.stdin.take(), host.stdout.take());
    let (input, output) = input.zip(output).context("pipes")?;
    let mut input = File::from(input.into_owned_fd()?);
    let mut output = File::from(output.into_owned_fd()?);
    write_frame(&mut input, &serde_json::to_vec(&start)?)?;
    output.read_exact(&mut [0])?;
    let answer = read_frame(&mut output, MAX_ANSWER_BYTES)?.context("an answer")?;
    let answer = serde_json::from_slice(&answer)?;
    assert!(matches!(answer, Answer::Started { .. }), "{answer:?}");
    drop(input);
    let ended = tokio::time::timeout(Duration::from_secs(20), host.wait()).await;
    ended.context("the process does not end")??;
    is_gone(&seconds).await
}

async fn memory_is_bounded() -> Result<()> {
    for (name, bomb) in [
        (
            "table",
            "local all = {} while true do all[#all + 1] = ('x'):rep(1000) .. #all end",
        ),
        (
            "text",
            "local text = 'x' while true do text = text .. text end",
        ),
    ] {
        let text =
            format!("{BEGIN}{END}function dovecot_lua_notify_event_message_new()\n{bomb}\nend\n");
        let script = Script::with(name, &text, |options| {
            options.memory_limit_bytes = 16 * 1024 * 1024;
        })?;
        let (reason, _) = script.fails(&[mail(1)]).await?;
        assert!(reason.contains("not enough memory"), "{reason}");
        // What an error has freed is there again.
        script.write(WELL)?;
        script.done(&[mail(1)]).await?;
        assert!(script.target.stats().memory_bytes < 16 * 1024 * 1024);
    }
    Ok(())
}

async fn a_script_that_keeps_too_much_is_started_again() -> Result<()> {
    // One that gets the errors, and one that catches them.
    for (name, keeps) in [
        ("keeps", "kept[#kept + 1] = ('x'):rep(2 ^ 20) .. #kept"),
        (
            "catches",
            "pcall(function() for i = 1, 8 do kept[#kept + 1] = ('x'):rep(2 ^ 17) .. #kept end end)",
        ),
    ] {
        let text = format!(
            "kept = {{}}\n{BEGIN}{END}function dovecot_lua_notify_event_message_new()\n{keeps}\nend\n"
        );
        let script = Script::with(name, &text, |options| {
            options.memory_limit_bytes = 16 * 1024 * 1024;
        })?;
        let mut failures = 0;
        for _ in 0..50 {
            while let Handled::Failed { retry_after, .. } = script.handle(&[mail(1)]).await {
                failures += 1;
                assert!(failures < 20, "{name}: {}", script.log());
                tokio::time::sleep(retry_after.unwrap_or_default()).await;
            }
        }
        assert!(script.target.stats().starts > 2, "{name}: it is never full");
    }
    Ok(())
}

async fn a_script_that_ends_its_process_is_started_again() -> Result<()> {
    let script = with_event("exit", "os.exit(7)")?;
    let (reason, retry_after) = script.fails(&[mail(1)]).await?;
    assert!(
        reason.contains("ended without an answer (exit status: 7)"),
        "{reason}"
    );
    assert_eq!(retry_after, Some(Duration::from_secs(1)));
    script.write(WELL)?;
    script.done(&[mail(1)]).await?;
    let stats = script.target.stats();
    assert_eq!((stats.deaths, stats.starts), (1, 2));
    Ok(())
}

async fn a_transaction_ends_with_its_process() -> Result<()> {
    let script = with_event(
        "gone",
        "if event.uid == 2 then os.exit(0) end say(event.uid)",
    )?;
    let part = |uid, is_first, is_last| Transaction {
        is_first,
        is_last,
        ..transaction("t", &[mail(uid)])
    };
    assert_eq!(script.part(&part(1, true, false)).await, Handled::Done);
    // Nothing is loaded again while a transaction is open.
    let other = WELL.replace("say('well')", "say(event)");
    let mended = script.write(&other.replace("()", "(ctx, event)"));
    mended?;
    let handled = script.part(&part(2, false, true)).await;
    assert!(matches!(handled, Handled::Failed { .. }), "{handled:?}");
    // From its first part on.
    script.said()?;
    script.write(WELL)?;
    let handled = script.part(&part(3, false, true)).await;
    assert_eq!(handled, Handled::NotBegun);
    script.done(&[mail(1)]).await
}

async fn what_takes_longer_than_there_is_time_is_killed() -> Result<()> {
    // No function is late: there is less time for all of them.
    let script = with_event("together", "while true do end")?;
    let whole = transaction("t", &[mail(1)]);
    // It is loaded, and not called for what it may not end in time.
    let handled = script
        .target
        .handle(&whole, Instant::now() + SOON * 10)
        .await;
    assert!(
        matches!(
            &handled,
            Handled::Failed {
                was_called: false,
                retry_after: Some(Duration::ZERO),
                ..
            }
        ),
        "{handled:?}"
    );
    let load = script.part(&transaction("t", &[])).await;
    assert_eq!(load, Handled::Done);
    let handled = script.target.handle(&whole, Instant::now() + SOON).await;
    let Handled::Failed {
        reason,
        was_called: true,
        ..
    } = handled
    else {
        bail!("{handled:?}");
    };
    assert!(reason.contains("take too long together"), "{reason}");
    let stats = script.target.stats();
    assert_eq!((stats.deaths, stats.late), (1, 1));
    script.write("while true do end")?;
    // Nor is one waited for longer that is being started.
    let handled = script.target.handle(&whole, Instant::now() + SOON).await;
    assert!(
        matches!(&handled, Handled::Failed { reason, was_called: false, .. } if reason == "the script is not loaded in time"),
        "{handled:?}"
    );
    assert_eq!(script.target.stats().load_failures, 1);
    script.write(WELL)?;
    script.done(&[mail(1)]).await
}

async fn a_process_waits_before_it_is_started_again() -> Result<()> {
    let script = with_event("waits", "os.exit(1)")?;
    script.fails(&[mail(1)]).await?;
    let (_, left) = script.fails(&[mail(1)]).await?;
    let left = left.ok_or_else(|| anyhow::anyhow!("nothing is waited for"))?;
    tokio::time::sleep(left + Duration::from_millis(10)).await;
    let (reason, again) = script.fails(&[mail(1)]).await?;
    assert!(reason.contains("exit status: 1"), "{reason}");
    assert_eq!(again, Some(Duration::from_secs(2)));
    assert_eq!(script.target.stats().starts, 2);
    Ok(())
}

async fn nothing_of_the_server_is_inherited() -> Result<()> {
    let script = with_event(
        "inherits",
        "say(os.getenv('PATH'), os.getenv('HOME'), io.read())",
    )?;
    script.done(&[mail(1)]).await?;
    assert_eq!(script.said()?, ["nil nil nil", "end"]);
    Ok(())
}
