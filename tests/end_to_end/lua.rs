//! Scripts of push notifications in Dovecot's own driver `lua` and in that of `dovecast serve`,
//! side by side on one session: what is called with what, in which order, is the same. And what an
//! operator imports of a Dovecot's configuration runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Builder, Dovecot, Installation, Series};
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use tempfile::TempDir;

use crate::case::cases;
use crate::relay::server_for;
use crate::setup::{ARRIVAL, deliver_all, with_plugin};

cases![
    a_script_is_called_as_dovecots_driver_calls_it,
    what_was_imported_of_a_dovecot_runs_its_script,
];

/// What the plugin has to be told for scripts.
pub(crate) const PLUGIN: &str = "kafka:keyword_prefix= userdb=uid,gid,home detail=full metadata=/private/vendor/vendor.dovecot/http-notify";

/// Writes down each call with all that it is given, but for what differs between two runs, and
/// `keywords_old`, which Dovecot's driver leaves out beside another driver. Where a
/// Dovecot has two drivers, keywords are there once for each.
const RECORDER: &str = "
local function line(...)
  local file = assert(io.open(OUT, 'a'))
  local all = {...}
  for at = 1, #all do all[at] = tostring(all[at]) end
  file:write((table.concat(all, ' '):gsub('[\\r\\n]', '~')), '\\n')
  file:close()
end
local function shown(value)
  if type(value) ~= 'table' then return tostring(value) end
  local once, seen = {}, {}
  for _, one in ipairs(value) do
    if not seen[one] and one ~= '\\\\Recent' then seen[one] = true once[#once + 1] = one end
  end
  return '{' .. table.concat(once, ',') .. '}'
end
local function fields(of)
  local all = {}
  for key, value in pairs(of) do
    if key ~= 'uid_validity' and key ~= 'item' and key ~= 'keywords_old' then all[#all + 1] = key .. '=' .. shown(value) end
  end
  table.sort(all)
  return table.concat(all, ' ')
end
function script_init() return 0 end
function script_deinit() end
function dovecot_lua_notify_begin_txn(user)
  line('begin', user.username, user.uid, user.gid)
  return {user = user, mails = 0}
end
local function note(ctx, event)
  line(fields(event))
  if event.name == 'MessageNew' then
    ctx.mails = ctx.mails + 1
    local box = ctx.user:mailbox(event.mailbox)
    box:sync()
    local status = box:status(dovecot.storage.STATUS_MESSAGES, dovecot.storage.STATUS_UNSEEN)
    box:free()
    line(status.mailbox, status.messages, status.unseen)
  end
end
function dovecot_lua_notify_end_txn(ctx, success) line('end', ctx.mails, success) end
for _, name in ipairs({'flags_clear', 'flags_set', 'mailbox_create', 'mailbox_delete',
  'mailbox_rename', 'mailbox_subscribe', 'mailbox_unsubscribe', 'message_append',
  'message_expunge', 'message_new', 'message_read', 'message_trash'}) do
  _G['dovecot_lua_notify_event_' .. name] = note
end
";

const MAILS: [&[u8]; 3] = [
    b"From: =?utf-8?q?B=C3=B6b?= <bob@sender.example>\r\nTo: alice <alice@example.com>\r\nSubject: =?utf-8?b?w7w=?= one\r\nMessage-ID: <1@sender.example>\r\nDate: Fri, 20 Nov 2026 12:34:56 +0530\r\n\r\nHello \"there\".\r\n",
    b"From: Carol <carol@sender.example>\r\nSubject: a\\b\r\n\r\nSecond line.\r\n",
    b"From: \r\nSubject: \r\n\r\nx\r\n",
];

/// A directory with a script and the file that it writes, for whoever runs it.
pub(crate) struct Script {
    dir: TempDir,
}

impl Script {
    /// The text of the script finds the path of its file in `OUT`.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
        let script = Self { dir };
        fs::write(script.out(), "")?;
        fs::set_permissions(script.out(), fs::Permissions::from_mode(0o666))?;
        script.write(text)?;
        Ok(script)
    }

    /// Writes the script anew, as an editor does: another file takes its name. It was written a
    /// moment ago, so that it is loaded at once.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        let new = self.dir.path().join("push.lua.new");
        let text = format!("local OUT = '{}'\n{text}", self.out().display());
        fs::write(&new, text)?;
        let file = fs::File::options().append(true).open(&new)?;
        file.set_modified(SystemTime::now() - Duration::from_secs(2))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
        fs::rename(new, self.path())?;
        Ok(())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("push.lua")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// Lines that were written.
    pub(crate) fn said(&self) -> Vec<String> {
        // What is not there yet was not written yet.
        let text = fs::read(self.out()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until so many lines are this one.
    pub(crate) fn says(&self, line: &str, count: usize) -> Result<Vec<String>> {
        let said = || {
            let said = self.said();
            let found = said.iter().filter(|one| *one == line).count();
            (found >= count).then_some(said)
        };
        let waited = process::poll_until(ARRIVAL, said);
        waited.with_context(|| format!("not {count} of `{line}` in {:#?}", self.said()))
    }
}

/// A Dovecot that has the driver `lua` with this script.
pub(crate) fn with_their_driver(builder: Builder, script: &Script) -> Builder {
    let driver = format!("lua:file={}", script.path().display());
    with_their_plugins(builder, script).driver(&driver)
}

fn with_their_plugins(builder: Builder, script: &Script) -> Builder {
    builder
        .extra_mail_plugins("mail_lua push_notification_lua")
        .file(script.path())
        .file(script.out())
}

/// A setting that a script reads, and its value.
const SETTING: (&str, &str) = ("push_lua_word", "told-by-dovecot");

/// [`RECORDER`] that writes down the setting, too, as either Dovecot has scripts read it.
fn reader() -> String {
    let (name, _) = SETTING;
    let init = format!(
        "local word\nfunction script_init(settings) word = settings and settings.{name} return 0 end"
    );
    let script = RECORDER.replace("function script_init() return 0 end", &init);
    let read = format!("user.gid, word or user:plugin_getenv('{name}'))");
    script.replace("user.gid)", &read)
}

/// A Dovecot that has the driver `lua` with this script, and the setting.
fn with_their_setting(on: Installation, builder: Builder, script: &Script) -> Builder {
    let (name, value) = SETTING;
    match on.series() {
        Series::V2_3 => with_their_driver(builder, script).plugin_setting(name, value),
        Series::V2_4 => {
            let block = format!(
                "push_notification script {{\n  driver = lua\n  lua_file = {}\n  lua_settings {{\n    {name} = {value}\n  }}\n}}",
                script.path().display()
            );
            with_their_plugins(builder, script).config(&block)
        }
    }
}

/// What Dovecot's driver has written, which may be in a chroot.
fn theirs(dovecot: &Dovecot, script: &Script) -> Result<Vec<String>> {
    let (dir, inside) = (dovecot.dir(), dovecot.inside(dovecot.dir()));
    let (dir, inside) = (dir.display().to_string(), inside.display().to_string());
    let root = dir.strip_suffix(&inside).context("no directory")?;
    let out = script.out();
    let out = Path::new(root).join(out.strip_prefix("/").unwrap_or(&out));
    let out = if root.is_empty() { script.out() } else { out };
    let text = fs::read(&out).with_context(|| format!("cannot read `{}`", out.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(text.lines().map(str::to_owned).collect())
}

/// Transactions without what makes no event, and once each: where there are two drivers Dovecot
/// calls some functions for each.
fn comparable(lines: Vec<String>) -> Vec<String> {
    let is_empty = |line: &String| line.starts_with("flags={} ") && line.contains(" keywords={} ");
    let mut lines: Vec<String> = lines.into_iter().filter(|line| !is_empty(line)).collect();
    lines.dedup();
    let mut kept: Vec<String> = Vec::new();
    for line in lines {
        let is_end = line.starts_with("end ");
        if is_end && kept.last().is_some_and(|last| last.starts_with("begin ")) {
            kept.pop();
        } else {
            kept.push(line);
        }
    }
    kept
}

/// A session over LMTP, LDA and IMAP that makes events of all twelve kinds.
fn session(dovecot: &Dovecot) -> Result<()> {
    deliver_all(dovecot, &MAILS)?;
    let lda = dovecot.lda("alice", MAILS[0], &[])?;
    ensure!(lda.status.success(), "dovecot-lda: {lda:?}");
    let mut imap = dovecot.login("alice")?;
    for command in [
        "SELECT INBOX",
        "STORE 1 +FLAGS (\\Flagged $label1 plain)",
        "STORE 1 -FLAGS (\\Flagged $label1)",
        "STORE 1:2 +FLAGS (\\Seen)",
        "CREATE box",
        "SUBSCRIBE box",
        "RENAME box crate",
        "UNSUBSCRIBE box",
    ] {
        imap.ok(command)?;
    }
    imap.append("crate", "\\Seen $k", None, MAILS[0])?;
    for command in [
        "COPY 2 crate",
        "STORE 2 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "DELETE crate",
    ] {
        imap.ok(command)?;
    }
    imap.logout()?;
    Ok(())
}

fn block(script: &Script) -> String {
    let script = script.path();
    format!(
        "[push_notification.script]\ndriver = 'lua:file={}'",
        script.display()
    )
}

/// What a [`session`] ends with, but for the end of the transaction.
const LAST: &str = "mailbox=crate name=MailboxDelete";

/// Waits until our driver has called a script as often as Dovecot's has, and compares.
fn agree(theirs: Vec<String>, script: &Script, server: &Server) -> Result<()> {
    let expected = comparable(theirs);
    script.says(LAST, 1)?;
    script.says("end 0 true", 1)?;
    let ours = || comparable(script.said());
    process::poll_until(ARRIVAL, || (ours().len() >= expected.len()).then_some(()));
    let ours = ours();
    ensure!(expected.iter().any(|line| line == LAST), "{expected:#?}");
    ensure!(
        expected == ours,
        "Dovecot's: {expected:#?}\nours: {ours:#?}\n{}",
        server.server_log()
    );
    Ok(())
}

fn a_script_is_called_as_dovecots_driver_calls_it(on: Installation) -> Result<()> {
    let (of_theirs, of_ours) = (Script::new(RECORDER)?, Script::new(RECORDER)?);
    let builder = with_plugin(on, Build::Dev)?.relay().driver(PLUGIN);
    let dovecot = with_their_driver(builder, &of_theirs).start()?;
    let server = server_for(&dovecot).config(&block(&of_ours)).start()?;
    session(&dovecot)?;
    of_ours.says(LAST, 1)?;
    agree(theirs(&dovecot, &of_theirs)?, &of_ours, &server)
}

/// What `dovecast import-dovecot` prints of the configuration of a Dovecot that runs this script:
/// of a file, and of standard input.
fn imported(on: Installation, dovecot: &Dovecot, server: &Server) -> Result<String> {
    let printed = dovecot.dir().join("doveconf.txt");
    fs::write(&printed, dovecot.doveconf()?)?;
    let toml = server.run(["import-dovecot", &printed.display().to_string()])?;
    ensure!(toml.contains("driver = \"lua"), "{on:?}: {toml}");
    for arguments in [&["import-dovecot", "-"][..], &["import-dovecot"]] {
        let mut command = server.command(arguments);
        let output = command.stdin(fs::File::open(&printed)?).output()?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        let read = String::from_utf8(output.stdout)?;
        ensure!(read == toml, "{arguments:?}: {read}\nthe file: {toml}");
    }
    Ok(toml)
}

fn what_was_imported_of_a_dovecot_runs_its_script(on: Installation) -> Result<()> {
    let script = Script::new(&reader())?;
    let builder = with_plugin(on, Build::Dev)?.relay().driver(PLUGIN);
    let mut dovecot = with_their_setting(on, builder, &script).start()?;
    let plain = server_for(&dovecot).prepare()?;
    let toml = imported(on, &dovecot, &plain)?;
    if on.series() == Series::V2_3 {
        ensure!(toml.contains("userdb=uid,gid,home"), "{toml}");
    }
    session(&dovecot)?;
    dovecot.stop()?;
    let expected = theirs(&dovecot, &script)?;
    let (_, value) = SETTING;
    ensure!(
        expected.iter().any(|line| line.ends_with(value)),
        "{expected:#?}"
    );
    drop(dovecot);
    // Where Dovecot is in no chroot it has written where ours writes.
    fs::write(script.out(), "")?;
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver(PLUGIN)
        .start()?;
    let server = server_for(&dovecot).config(&toml).start()?;
    // Dovecot's driver is not there any more.
    session(&dovecot)?;
    agree(expected, &script, &server)
}
