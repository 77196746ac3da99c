//! One script in a real Dovecot's own driver, and in ours: what it sees is the same.
//!
//! Ours is handed what the plugin sends of that session with `detail=full`. What differs, and is
//! left out here, docs/drivers/lua.md says: calls for flags that do not change, `\Recent`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use dovecast_testkit::dovecot::Dovecot;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::script::{Script, event, run};

const NAME: &str = "dovecot::a_script_sees_what_it_sees_in_dovecot";
const USER: &str = "alice@example.com";
const MAIL: &[u8] = b"From: =?utf-8?q?Bob_=C3=84?= <bob@example.org>\r\n\
    To: alice <alice@example.com>, x@y.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\
    Date: Fri, 20 Nov 2026 12:34:56 +0100\r\nMessage-ID: <1@example.org>\r\n\r\n\
    Shall we meet at noon?\r\n";

/// Shows everything but what is not the same in two runs.
const SCRIPT: &str = "
local function shown(value)
  if type(value) ~= 'table' then return tostring(value) end
  return '{' .. table.concat(value, ',') .. '}'
end
local function fields(of)
  local all = {}
  for key, value in pairs(of) do
    if key ~= 'uid_validity' and key ~= 'item' then all[#all + 1] = key .. '=' .. shown(value) end
  end
  table.sort(all)
  return table.concat(all, ' ')
end
local function names(of)
  local all = {}
  for key in pairs(of) do all[#all + 1] = key end
  table.sort(all)
  return table.concat(all, ' ')
end
local function show(user, event)
  say(fields(event))
  if event.name ~= 'MessageNew' then return end
  local mailbox = user:mailbox(event.mailbox)
  mailbox:sync()
  local status = mailbox:status(dovecot.storage.STATUS_MESSAGES, dovecot.storage.STATUS_UNSEEN,
    dovecot.storage.STATUS_UIDNEXT)
  say('status', names(status), status.mailbox, status.messages, status.unseen, status.uidnext)
  say('mailbox', mailbox, fields(mailbox))
  mailbox:free()
  say('user', user, names(user), user.service, user.admin, type(user.uid))
  say('storage', fields(dovecot.storage))
  say('dovecot', names(dovecot))
  say('env', user:plugin_getenv('tenant'), user:plugin_getenv('none'))
  say('expanded', user:var_expand('%u %n %d %{service} %Un %{nonsense}'))
  local client = dovecot.http.client({connect_timeout_msecs = 1000, max_attempts = 1})
  local response = client:request({url = 'http://127.0.0.1:1/'}):submit()
  say('refused', response:status(), response:payload(), response:header('x'))
  say('prefix', pcall(user.metadata_get, user, '/x/y'))
  local function first_line(ok, text) return ok, (tostring(text):match('[^\\n]*')) end
  say('number', (first_line(pcall(dovecot.event().add_int, dovecot.event(), 'a', 'x'))))
end
function dovecot_lua_notify_begin_txn(user) say_into(user) say('begin', user) return user end
function dovecot_lua_notify_end_txn(user, success) say('end', user, success) end
for _, name in ipairs({'flags_clear', 'flags_set', 'mailbox_create', 'mailbox_delete',
  'mailbox_rename', 'mailbox_subscribe', 'mailbox_unsubscribe', 'message_append',
  'message_expunge', 'message_new', 'message_read', 'message_trash'}) do
  _G['dovecot_lua_notify_event_' .. name] = show
end
";

/// Where there has to be a Dovecot, there is one.
pub(crate) fn cases() -> Vec<Trial> {
    let is_wanted = std::env::var("DOVECAST_TESTS").is_ok_and(|tests| tests == "all");
    let trial = Trial::test(NAME, || run(a_script_sees_what_it_sees_in_dovecot()));
    vec![trial.with_ignored_flag(!is_wanted)]
}

async fn a_script_sees_what_it_sees_in_dovecot() -> Result<()> {
    let script = Script::with("dovecot", SCRIPT, |options| {
        options
            .plugin
            .insert("tenant".to_owned(), "acme".to_owned());
    })?;
    let theirs = script.dir.path().join("theirs");
    session(&script.dir.path().join("push.lua"), &theirs)?;
    for events in transactions() {
        script.done(&events).await?;
    }
    assert_eq!(script.said()?, comparable(&fs::read_to_string(theirs)?));
    Ok(())
}

/// What Dovecot's driver has called for nothing is left out.
fn comparable(text: &str) -> Vec<String> {
    let is_empty = |line: &&str| line.starts_with("flags={} ") && line.contains(" keywords={} ");
    let lines = text.lines().filter(|line| !is_empty(line));
    lines
        .map(|line| line.replace(",\\Recent", "").replace("\\Recent", ""))
        .collect()
}

/// The session in a real Dovecot, whose driver writes to this file.
fn session(script: &Path, out: &Path) -> Result<()> {
    let dir = script.parent().context("no directory")?;
    // Mail processes are other users.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o644))?;
    fs::write(out, "")?;
    fs::set_permissions(out, fs::Permissions::from_mode(0o666))?;
    let mut dovecot = Dovecot::builder()
        .extra_mail_plugins("mail_lua push_notification_lua")
        .driver(&format!("lua:file={}", script.display()))
        .plugin_setting("out", &out.display().to_string())
        .plugin_setting("tenant", "acme")
        .start()?;
    let mut lmtp = dovecot.lmtp()?;
    lmtp.lhlo("test")?;
    lmtp.deliver_ok("bob@example.org", &[USER], MAIL)?;
    lmtp.quit()?;
    let mut imap = dovecot.login(USER)?;
    imap.ok("SELECT INBOX")?;
    for command in [
        "STORE 1 +FLAGS (\\Flagged $a)",
        "STORE 1 -FLAGS (\\Flagged $a)",
        "STORE 1 +FLAGS (\\Seen)",
        "CREATE A",
        "SUBSCRIBE A",
        "RENAME A B",
        "UNSUBSCRIBE A",
    ] {
        imap.ok(command)?;
    }
    imap.append(
        "B",
        "\\Seen $k",
        None,
        b"From: a@b.example\r\nSubject: x\r\n\r\nbody\r\n",
    )?;
    for command in ["DELETE B", "STORE 1 +FLAGS (\\Deleted)", "EXPUNGE"] {
        imap.ok(command)?;
    }
    imap.logout()?;
    dovecot.stop()?;
    Ok(())
}

/// The session as the plugin tells it, and with it `dovecast-txn`.
fn transactions() -> Vec<Vec<Value>> {
    let of = |kind: &str, mailbox: &str, more: Value| {
        let mut event = event(kind, mailbox, json!({"uidvalidity": 1, "uid": 1}));
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    };
    let one = |kind: &str, mailbox: &str| event(kind, mailbox, json!({"uidvalidity": 1}));
    let new = json!({"date": "2026-11-20T12:34:56+01:00", "tz": 60, "messages": 1, "unseen": 1,
        "uidnext": 2, "from": "=?utf-8?q?Bob_=C3=84?= <bob@example.org>",
        "fromAddress": "bob@example.org", "fromDisplayName": "Bob Ä",
        "to": "alice <alice@example.com>, x@y.example", "toAddress": "alice@example.com",
        "toDisplayName": "alice", "subjectDecoded": "Grüße", "snippet": "Shall we meet at noon?",
        "messageID": "<1@example.org>", "userdb": {"uid": "5000", "gid": "5000", "home": "/x"}});
    let append = json!({"from": "a@b.example", "fromAddress": "a@b.example", "subjectDecoded": "x",
        "snippet": "body", "flags": ["\\Seen"], "keywords": ["$k"]});
    let change = json!({"flags": ["\\Flagged"], "keywords": ["$a"]});
    let back = json!({"flags": ["\\Flagged"], "keywords": ["$a"], "oldFlags": ["\\Flagged"],
        "oldKeywords": ["$a"]});
    let flags = |flag: &str| json!({"flags": [flag], "keywords": []});
    let rename = json!({"oldMailbox": "A"});
    vec![
        vec![one("MailboxCreate", "INBOX")],
        vec![of("MessageNew", "INBOX", new)],
        vec![of("FlagsSet", "INBOX", change)],
        vec![of("FlagsClear", "INBOX", back)],
        vec![
            of("FlagsSet", "INBOX", flags("\\Seen")),
            of("MessageRead", "INBOX", json!({})),
        ],
        vec![one("MailboxCreate", "A")],
        vec![one("MailboxSubscribe", "A")],
        vec![event("MailboxRename", "B", rename)],
        vec![one("MailboxUnsubscribe", "A")],
        vec![of("MessageAppend", "B", append)],
        vec![of("MessageExpunge", "B", json!({}))],
        vec![one("MailboxDelete", "B")],
        vec![
            of("FlagsSet", "INBOX", flags("\\Deleted")),
            of("MessageTrash", "INBOX", json!({})),
        ],
        vec![of("MessageExpunge", "INBOX", json!({}))],
    ]
}
