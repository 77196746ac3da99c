//! A script as a block of the configuration: what the dispatcher delivers to it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_dispatch::driver::{Delivery, Outcome, Part};
use dovecast_drivers::configured::{Block, ConfiguredDriver, LUA_ATTEMPT_LIMIT, Surroundings};
use dovecast_drivers::http::sockets::Sockets;
use dovecast_notification::{Notification, NotificationId};
use uuid::Uuid;

use crate::cases;
use crate::script::mail;

cases!(
    an_end_that_is_told_alone_ends_what_has_begun,
    what_takes_longer_than_an_attempt_is_handed_over_again_in_several,
);

/// Writes what it is called for to the file `out` of its directory.
const SCRIPT: &str = "
local function say(what)
  local file = assert(io.open('DIR/out', 'a'))
  file:write(what, '\\n')
  file:close()
end
function dovecot_lua_notify_begin_txn(user) say('begin') return user.username end
function dovecot_lua_notify_event_message_new(user, event) say('mail') end
function dovecot_lua_notify_end_txn(user, success) say('end ' .. user .. ' ' .. tostring(success)) end
";
const BEGUN: Part = Part {
    is_last: false,
    ..Part::WHOLE
};

fn driver(dir: &Path) -> Result<ConfiguredDriver> {
    driver_of(dir, SCRIPT, LUA_ATTEMPT_LIMIT)
}

fn driver_of(dir: &Path, script: &str, attempt_limit: Duration) -> Result<ConfiguredDriver> {
    let text = script.replace("DIR", &dir.display().to_string());
    let script = dir.join("push.lua");
    fs::write(&script, text)?;
    let block = Block {
        name: "block".to_owned(),
        driver: format!("lua:file={}", script.display()),
        options: BTreeMap::new(),
        plugin: BTreeMap::new(),
        settings: None,
    };
    let surroundings = Surroundings {
        sockets: Sockets::default(),
        lua_host: vec![std::env::current_exe()?.into(), "lua-host".into()],
        lua_script_file: None,
        lua_attempt_limit: attempt_limit,
    };
    Ok(block.make(&surroundings)?)
}

fn delivery(part: Part) -> Delivery {
    let notification = Notification {
        id: NotificationId(Uuid::nil()),
        application: "dovecot".into(),
        event_type: "MessageNew".into(),
        level: None,
        account: "a".into(),
        timestamp: "null".into(),
        message: mail(1).to_string().into(),
        key: None,
        headers: Vec::new(),
    };
    Delivery {
        note: String::new(),
        id: "msg_1".to_owned(),
        number: 1,
        notifications: vec![Arc::new(notification)],
        part,
    }
}

async fn an_end_that_is_told_alone_ends_what_has_begun() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let driver = driver(dir.path())?;
    let mut courier = Arc::clone(&driver.target).open();
    for part in [BEGUN, Part::LOST_END] {
        let made = courier.deliver(&delivery(part)).await;
        assert_eq!(made.outcome, Outcome::Delivered);
    }
    let said = || fs::read_to_string(dir.path().join("out")).context("what it has said");
    let calls = "begin\nmail\nend alice@example.com false\n";
    assert_eq!(said()?, calls);
    // What has ended, or was begun by a process that is gone, is nothing to begin again.
    let made = courier.deliver(&delivery(Part::LOST_END)).await;
    assert_eq!(
        (made.outcome, said()?),
        (Outcome::Delivered, calls.to_owned())
    );
    driver.target.close().await;
    Ok(())
}

/// A script whose process ends once, before the last of many parts.
const SLOW: &str = "
local parts = 0
local function say(what)
  local file = assert(io.open('DIR/out', 'a'))
  file:write(what, ' ')
  file:close()
end
function dovecot_lua_notify_begin_txn(user) say('begin') end
function dovecot_lua_notify_event_message_new(ctx, event)
  parts = parts + 1
  if parts == 7 then
    local file = io.open('DIR/ended')
    if not file then
      assert(io.open('DIR/ended', 'w')):close()
      os.exit(1)
    end
  end
  if io.open('DIR/ended') then io.popen('sleep 1'):close() end
  say(parts)
end
function dovecot_lua_notify_end_txn() say('end') end
";

async fn what_takes_longer_than_an_attempt_is_handed_over_again_in_several() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Six parts of a second each.
    let driver = driver_of(dir.path(), SLOW, Duration::from_secs(5))?;
    let mut courier = Arc::clone(&driver.target).open();
    let middle = Part {
        is_first: false,
        ..BEGUN
    };
    for part in [BEGUN, middle, middle, middle, middle, middle] {
        let made = courier.deliver(&delivery(part)).await;
        assert_eq!(made.outcome, Outcome::Delivered);
    }
    let last = Part {
        is_last: true,
        ..middle
    };
    let mut attempts = Vec::new();
    while attempts.last() != Some(&Outcome::Delivered) {
        let made = courier.deliver(&delivery(last)).await;
        let is_over = matches!(made.outcome, Outcome::Refused { .. });
        assert!(!is_over && attempts.len() < 50, "{attempts:?}: {made:?}");
        attempts.push(made.outcome);
    }
    let goes_on = attempts.iter().filter(
        |outcome| matches!(outcome, Outcome::Failed { reason, .. } if reason.contains("goes on")),
    );
    assert!(goes_on.count() > 0, "{attempts:?}");
    let said = fs::read_to_string(dir.path().join("out"))?;
    let (_, again) = said.rsplit_once("begin").context("no beginning")?;
    assert_eq!(again.trim(), "1 2 3 4 5 6 7 end", "{attempts:?}");
    Ok(())
}
