//! What is called, in which order, with what.

use anyhow::Result;
use dovecast_drivers::lua::{Handled, Transaction};
use serde_json::json;

use crate::cases;
use crate::script::{Script, event, mail, transaction};

cases!(
    a_transaction_is_called_from_its_beginning_to_its_end,
    each_kind_has_the_fields_that_dovecot_gives_it,
    the_user_has_its_fields_settings_and_mailboxes,
    what_is_not_known_is_absent_and_said,
    lines_of_the_log_have_their_level_and_fields,
    too_many_lines_are_dropped_and_counted,
    parts_are_one_transaction,
    constants_have_the_values_of_dovecot,
    a_script_without_functions_is_not_called,
);

async fn a_transaction_is_called_from_its_beginning_to_its_end() -> Result<()> {
    let script = Script::new(
        "order",
        "
local transactions = 0
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  transactions = transactions + 1
  say('begin', user.username, transactions)
  return {n = 0}
end
function dovecot_lua_notify_event_message_new(ctx, event, ...)
  ctx.n = ctx.n + 1
  say(event.name, event.uid, ctx.n, select('#', ...))
end
function dovecot_lua_notify_event_message_read(ctx, event)
  ctx.n = ctx.n + 1
  say(event.name, event.uid, ctx.n)
end
function dovecot_lua_notify_end_txn(ctx, success, ...) say('end', ctx.n, success, select('#', ...)) end
",
    )?;
    let read = event("MessageRead", "INBOX", json!({"uidvalidity": 1, "uid": 2}));
    let gone = event(
        "MessageExpunge",
        "INBOX",
        json!({"uidvalidity": 1, "uid": 2}),
    );
    script.done(&[mail(1), read, gone]).await?;
    let expected = [
        "begin alice@example.com 1",
        "MessageNew 1.0 1 0",
        "MessageRead 2.0 2",
        "end 2 true 0",
    ];
    assert_eq!(script.said()?, expected);
    // The script keeps what it has between transactions.
    script.done(&[mail(2)]).await?;
    let expected = [
        "begin alice@example.com 2",
        "MessageNew 2.0 1 0",
        "end 1 true 0",
    ];
    assert_eq!(script.said()?, expected);
    let stats = script.target.stats();
    assert_eq!((stats.transactions, stats.starts, stats.calls), (2, 1, 7));
    Ok(())
}

async fn each_kind_has_the_fields_that_dovecot_gives_it() -> Result<()> {
    let script = Script::new(
        "fields",
        "
local function shown(value)
  if type(value) ~= 'table' then return tostring(value) end
  return '{' .. table.concat(value, ',') .. '}'
end
local function show(_, event)
  local fields = {}
  for key, value in pairs(event) do fields[#fields + 1] = key .. '=' .. shown(value) end
  table.sort(fields)
  say(table.concat(fields, ' '))
  if event.keywords_set then say('set', shown(event.keywords_set)) end
  if event.keywords_clear then say('clear', shown(event.keywords_clear)) end
  assert(event.user.username == 'alice@example.com')
end
function dovecot_lua_notify_begin_txn(user) say_into(user) end
function dovecot_lua_notify_end_txn(ctx) say('end', ctx) end
for _, name in ipairs({'flags_clear', 'flags_set', 'mailbox_create', 'mailbox_delete',
  'mailbox_rename', 'mailbox_subscribe', 'mailbox_unsubscribe', 'message_append',
  'message_expunge', 'message_new', 'message_read', 'message_trash'}) do
  _G['dovecot_lua_notify_event_' .. name] = show
end
",
    )?;
    let id = json!({"uidvalidity": 7, "uid": 1});
    let with = |more: serde_json::Value| {
        let mut all = id.clone();
        if let (Some(all), serde_json::Value::Object(more)) = (all.as_object_mut(), more) {
            all.extend(more);
        }
        all
    };
    let set = json!({"flags": ["\\Seen"], "keywords": ["$a", "$b"]});
    let clear =
        json!({"flags": ["\\Seen"], "oldFlags": ["\\Flagged", "\\Seen"], "oldKeywords": []});
    script
        .done(&[
            mail(1),
            event(
                "MessageAppend",
                "Sent",
                with(json!({"from": "b@x.example", "snippet": "Hi"})),
            ),
            event("FlagsSet", "INBOX", with(set)),
            event("FlagsClear", "INBOX", with(clear)),
            event("MessageRead", "INBOX", id.clone()),
            event("MessageTrash", "INBOX", id.clone()),
            event("MessageExpunge", "INBOX", id.clone()),
            event("MailboxCreate", "日本語/メール", json!({"uidvalidity": 5})),
            event("MailboxRename", "New", json!({"oldMailbox": "Old"})),
            event("MailboxDelete", "New", json!({})),
            event("MailboxSubscribe", "A", json!({})),
            event("MailboxUnsubscribe", "A", json!({})),
        ])
        .await?;
    let expected = [
        "date=1795174496.0 flags={} from==?utf-8?q?Bob_=C3=84?= <bob@example.org> \
            from_address=bob@example.org from_display_name=Bob Ä keywords={$label1} mailbox=INBOX \
            message_id=<1@example.org> name=MessageNew snippet=Shall we meet at noon? \
            subject=Grüße to=alice@example.com to_address=alice@example.com to_display_name= \
            tz=60.0 uid=1.0 uid_validity=1795210528.0",
        "date=0.0 flags={} from=b@x.example from_address= from_display_name= keywords={} mailbox=Sent \
            name=MessageAppend snippet=Hi to= to_address= to_display_name= tz=0.0 uid=1.0 \
            uid_validity=7.0",
        "flags={\\Seen} keywords={$a,$b} mailbox=INBOX name=FlagsSet uid=1.0 uid_validity=7.0",
        "set {$a,$b}",
        "flags={\\Seen} flags_old={\\Flagged,\\Seen} keywords={} keywords_old={} mailbox=INBOX \
            name=FlagsClear uid=1.0 uid_validity=7.0",
        "clear {}",
        "mailbox=INBOX name=MessageRead uid=1.0 uid_validity=7.0",
        "mailbox=INBOX name=MessageTrash uid=1.0 uid_validity=7.0",
        "mailbox=INBOX name=MessageExpunge uid=1.0 uid_validity=7.0",
        "mailbox=日本語/メール name=MailboxCreate",
        "mailbox=New mailbox_old=Old name=MailboxRename",
        "mailbox=New name=MailboxDelete",
        "mailbox=A name=MailboxSubscribe",
        "mailbox=A name=MailboxUnsubscribe",
        "end nil",
    ];
    assert_eq!(script.said()?, expected);
    Ok(())
}

async fn the_user_has_its_fields_settings_and_mailboxes() -> Result<()> {
    let script = Script::with(
        "user",
        "
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  local names = {}
  for key in pairs(user) do names[#names + 1] = key end
  table.sort(names)
  say(table.concat(names, ' '))
  say(user, user.uid, user.gid, user.home, user.service, user.session_id, user.anonymous)
  say(user:plugin_getenv('url'), user:plugin_getenv('tenant'), user:plugin_getenv('none'))
  say(user:var_expand('%Lu %d %h %{service}'))
  local status = user:mailbox('INBOX'):status(dovecot.storage.STATUS_UNSEEN)
  say(user:metadata_get('/private/vendor/vendor.dovecot/http-notify'), status.unseen)
  return user
end
function dovecot_lua_notify_event_message_new(user, event)
  local mailbox = user:mailbox(event.mailbox)
  mailbox:open()
  mailbox:sync()
  local status = mailbox:status(dovecot.storage.STATUS_UNSEEN, dovecot.storage.STATUS_RECENT)
  mailbox:close()
  mailbox:free()
  say(mailbox, mailbox.name, mailbox.vname, mailbox == user:mailbox('INBOX'))
  say(status.mailbox, status.messages, status.recent, status.unseen, status.uidnext,
    status.highest_modseq, status.uidvalidity)
  say(user:metadata_get('/private/vendor/vendor.dovecot/http-notify', '/private/none'))
  say(pcall(user.metadata_set, user, '/private/a', 'b'))
end
function dovecot_lua_notify_end_txn() end
",
        |options| {
            let plugin = &mut options.plugin;
            plugin.insert("url".to_owned(), "http://127.0.0.1:1/".to_owned());
            // A field of the user's goes before a setting.
            plugin.insert("tenant".to_owned(), "other".to_owned());
        },
    )?;
    script.done(&[mail(1)]).await?;
    let said = script.said()?;
    let expected = [
        "admin anonymous autocreated dsyncing fuzzy_search gid home item mail_debug nonexistent \
            service session_create_time session_id session_restored uid username",
        "alice@example.com 5000.0 5001.0 /home/alice lmtp abc false",
        "http://127.0.0.1:1/ acme nil",
        "alice@example.com example.com /home/alice lmtp",
        "user=11@3 2.0",
        "INBOX INBOX INBOX true",
        "INBOX 3.0 1.0 2.0 9.0 77.0 1795210528.0",
        "user=11@3 nil",
    ];
    assert_eq!(said[..8], expected);
    assert!(said[8].contains("metadata_set is not possible outside of Dovecot"));
    Ok(())
}

async fn what_is_not_known_is_absent_and_said() -> Result<()> {
    let script = Script::new(
        "compat",
        "
function dovecot_lua_notify_begin_txn(user) say_into(user) return user end
function dovecot_lua_notify_event_message_new(user, event)
  say(event.subject, event.message_id, event.from_address, user.uid, user.session_id)
  local status = user:mailbox(event.mailbox):status(dovecot.storage.STATUS_UNSEEN)
  say(status.mailbox, status.unseen)
end
function dovecot_lua_notify_end_txn() end
",
    )?;
    let compat = json!({"user": "alice@example.com", "mailbox": "INBOX", "event": "MessageNew",
        "uidvalidity": 1, "uid": 1, "subject": "=?utf-8?q?raw?="});
    script.done(&[compat]).await?;
    assert_eq!(
        script.said()?,
        ["=?utf-8?q?raw?= nil  nil nil", "INBOX nil"]
    );
    script.logs("the plugin needs detail=full").await
}

async fn lines_of_the_log_have_their_level_and_fields() -> Result<()> {
    let script = Script::new(
        "lines",
        "
print('printed by the script itself')
function dovecot_lua_notify_begin_txn(user)
  dovecot.i_debug('a debug line')
  dovecot.i_info('an info line')
  dovecot.i_warning('a warning line')
  dovecot.i_error('an error line')
  return dovecot.event()
end
function dovecot_lua_notify_event_message_new(ctx, event)
  ctx:set_name('own'):add_str('mailbox', event.mailbox):add_int('uid', event.uid)
  local child = dovecot.event(ctx)
  child:set_name('child'):inc_int('uid', 2):append_log_prefix('p: '):log_info('from the child')
  ctx:passthrough_event():add_str('more', 'x'):log_warning('passed through')
end
function dovecot_lua_notify_end_txn(ctx) ctx:log_error('from the parent') end
",
    )?;
    script.done(&[mail(4)]).await?;
    script.logs("printed by the script itself").await?;
    let log = script.log();
    for (level, text) in [
        ("DEBUG", "a debug line"),
        ("INFO", "an info line"),
        ("WARN", "a warning line"),
        ("ERROR", "an error line"),
        ("INFO", "p: from the child"),
        ("WARN", "passed through"),
        ("ERROR", "from the parent"),
    ] {
        let is_line = |line: &&str| line.contains(&format!(" {level} lua: {text}"));
        assert!(
            log.lines().any(|line| is_line(&line)),
            "no {level} {text} in\n{log}"
        );
    }
    assert!(
        log.contains("event=\"child\" fields=\"mailbox=INBOX uid=6\""),
        "{log}"
    );
    assert!(
        log.contains("fields=\"mailbox=INBOX more=x uid=4\""),
        "{log}"
    );
    assert!(
        log.contains("event=\"own\" fields=\"mailbox=INBOX uid=4\""),
        "{log}"
    );
    Ok(())
}

async fn too_many_lines_are_dropped_and_counted() -> Result<()> {
    let script = Script::new(
        "flood",
        "
function dovecot_lua_notify_begin_txn() for i = 1, 1500 do dovecot.i_info('line ' .. i) end end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() dovecot.i_info(('x'):rep(100000)) end
",
    )?;
    script.done(&[mail(1)]).await?;
    assert_eq!(script.target.stats().dropped_lines, 501);
    assert!(script.log().contains("line 1000") && !script.log().contains("line 1001"));
    Ok(())
}

async fn parts_are_one_transaction() -> Result<()> {
    let script = Script::new(
        "parts",
        "
function dovecot_lua_notify_begin_txn(user) say_into(user) return {} end
function dovecot_lua_notify_event_message_new(ctx, event) ctx[#ctx + 1] = event.uid end
function dovecot_lua_notify_end_txn(ctx, success) say(table.concat(ctx, ','), success) end
",
    )?;
    let part = |uids: &[u32], is_first, is_last, success| {
        let events: Vec<_> = uids.iter().map(|uid| mail(*uid)).collect();
        Transaction {
            is_first,
            is_last,
            success,
            ..transaction("long", &events)
        }
    };
    assert_eq!(
        script.part(&part(&[1, 2], true, false, true)).await,
        Handled::Done
    );
    // Another one comes between.
    script.done(&[mail(9)]).await?;
    assert_eq!(
        script.part(&part(&[3], false, false, true)).await,
        Handled::Done
    );
    assert_eq!(script.said()?, ["9.0 true"]);
    // It was cut off: nothing comes any more.
    assert_eq!(
        script.part(&part(&[], false, true, false)).await,
        Handled::Done
    );
    assert_eq!(script.said()?, ["1.0,2.0,3.0 false"]);
    assert_eq!(script.target.stats().transactions, 2);
    let unknown = script.part(&part(&[4], false, true, true)).await;
    assert!(matches!(&unknown, Handled::NotBegun), "{unknown:?}");
    Ok(())
}

async fn constants_have_the_values_of_dovecot() -> Result<()> {
    let script = Script::new(
        "constants",
        "
function dovecot_lua_notify_begin_txn(user)
  say_into(user)
  local names = {}
  for name, value in pairs(dovecot.storage) do names[#names + 1] = name .. '=' .. value end
  table.sort(names)
  say(table.concat(names, ' '))
  say(dovecot.has_flag(5, 4), dovecot.set_flag(1, 4), dovecot.clear_flag(5, 4))
end
function dovecot_lua_notify_event_message_new() end
function dovecot_lua_notify_end_txn() end
",
    )?;
    script.done(&[mail(1)]).await?;
    let expected = [
        "MAILBOX_ATTRIBUTE_PREFIX_DOVECOT=vendor/vendor.dovecot/ \
            MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT=vendor/vendor.dovecot/pvt/ \
            MAILBOX_ATTRIBUTE_PREFIX_DOVECOT_PVT_SERVER=vendor/vendor.dovecot/pvt/server/ \
            MAILBOX_FLAG_DROP_RECENT=4.0 MAILBOX_FLAG_IGNORE_ACLS=256.0 \
            MAILBOX_FLAG_KEEP_LOCKED=32.0 MAILBOX_FLAG_NO_INDEX_FILES=16.0 \
            MAILBOX_FLAG_READONLY=1.0 MAILBOX_FLAG_SAVEONLY=2.0 MAILBOX_SYNC_FLAG_EXPUNGE=128.0 \
            MAILBOX_SYNC_FLAG_FAST=4.0 MAILBOX_SYNC_FLAG_FIX_INCONSISTENT=64.0 \
            MAILBOX_SYNC_FLAG_FORCE_RESYNC=256.0 MAILBOX_SYNC_FLAG_FULL_READ=1.0 \
            MAILBOX_SYNC_FLAG_FULL_WRITE=2.0 MAILBOX_SYNC_FLAG_NO_EXPUNGES=8.0 \
            STATUS_FIRST_RECENT_UID=1024.0 STATUS_FIRST_UNSEEN_SEQ=32.0 STATUS_HIGHESTMODSEQ=128.0 \
            STATUS_HIGHESTPVTMODSEQ=8192.0 STATUS_KEYWORDS=64.0 STATUS_MESSAGES=1.0 \
            STATUS_PERMANENT_FLAGS=512.0 STATUS_RECENT=2.0 STATUS_UIDNEXT=4.0 \
            STATUS_UIDVALIDITY=8.0 STATUS_UNSEEN=16.0",
        "true 5 1",
    ];
    assert_eq!(script.said()?, expected);
    Ok(())
}

async fn a_script_without_functions_is_not_called() -> Result<()> {
    let begins = "function dovecot_lua_notify_begin_txn() error('called') end";
    let script = Script::new("empty", begins)?;
    script.done(&[mail(1)]).await?;
    let never_begins = "function dovecot_lua_notify_event_message_new() error('called') end";
    let script = Script::new("never_begins", never_begins)?;
    script.done(&[mail(1)]).await?;
    let log = script.log();
    assert!(
        log.contains("Missing function dovecot_lua_notify_begin_txn"),
        "{log}"
    );
    Ok(())
}
