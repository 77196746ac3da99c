//! Functions that Dovecot 2.4 has for scripts, besides those of 2.3.

use anyhow::Result;

use crate::cases;
use crate::script::{Script, mail};

cases!(
    functions_of_2_4_do_what_they_do_there,
    lines_of_an_event_with_forced_debug_are_shown,
    global_variables_are_restricted_when_the_script_says_so,
);

async fn functions_of_2_4_do_what_they_do_there() -> Result<()> {
    let script = Script::new(
        "functions",
        "
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  say(dovecot.base64.encode('Gr\\195\\188\\0'), dovecot.base64.decode('Zm9v') .. '|')
  say(dovecot.tabunescape(dovecot.tabescape('a\\tb')) == 'a\\tb', dovecot.tabescape('\\t') == '\\1t')
  local parts = dovecot.split_tabescaped('a\\1tb\\t\\tc')
  say(#parts, parts[1] == 'a\\tb', parts[2] == '', parts[3], #dovecot.split_tabescaped(''))
  say(dovecot.net_ip_family('::1'), dovecot.net_ip_family('[::1]'), dovecot.net_ip_family('10.0.0.1'),
    dovecot.net_ip_family('example.org'))
  local now = dovecot.gettimeofday()
  local seconds = dovecot.nanoseconds() // 1000000000 - now.tv_sec
  say(seconds >= 0 and seconds < 60, now.tv_usec < 1000000, dovecot.microseconds() >= now.tv_sec * 1000000)
  say(dovecot.var_expand('%{system:os | upper}'))
  local _, error = pcall(dovecot.var_expand, '%{user}')
  say((error:match('[^\\n]*')))
end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
",
    )?;
    script.done(&[mail(1)]).await?;
    assert_eq!(
        script.said()?,
        [
            "R3LDvAA= foo|",
            "true true",
            "3 true true c 0",
            "6 6 4 0",
            "true true true",
            "LINUX",
            "failed to expand '%{user}': Unknown variable 'user'",
        ]
    );
    Ok(())
}

async fn lines_of_an_event_with_forced_debug_are_shown() -> Result<()> {
    let script = Script::new(
        "debugging",
        "
function dovecot_lua_notify_begin_txn(user)
  local event = dovecot.event()
  event:log_debug('before'):set_forced_debug():log_debug('forced')
  dovecot.event(event):log_debug('of a child')
  event:unset_forced_debug():log_debug('after')
end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
",
    )?;
    script.done(&[mail(1)]).await?;
    let log = script.log();
    let level_of = |text: &str| {
        let line = log.lines().find(|line| line.contains(text));
        line.map(|line| line.contains(" INFO "))
    };
    for (text, is_shown) in [
        ("before", false),
        ("forced", true),
        ("of a child", true),
        ("after", false),
    ] {
        assert_eq!(level_of(text), Some(is_shown), "{text} in {log}");
    }
    Ok(())
}

async fn global_variables_are_restricted_when_the_script_says_so() -> Result<()> {
    let script = Script::new(
        "globals",
        "
declared = 1
dovecot.restrict_global_variables(true)
function declared_later() end
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  local function try(call) say((select(2, pcall(call)))) end
  declared = declared + 1
  say(declared, type(declared_later))
  try(function() misspelt = 1 end)
  try(function() return misspelt end)
  dovecot.restrict_global_variables(false)
  misspelt = 2
  say(misspelt, nothing)
end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
",
    )?;
    script.done(&[mail(1)]).await?;
    let said = script.said()?;
    assert_eq!((&*said[0], &*said[3]), ("2 function", "2 nil"), "{said:?}");
    for (said, expected) in said[1..].iter().zip(["write to", "read"]) {
        let expected = format!("attempt to {expected} undeclared global variable misspelt");
        assert!(said.ends_with(&expected), "{said}");
    }
    Ok(())
}
