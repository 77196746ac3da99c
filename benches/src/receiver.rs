//! Receivers behind a server, of the drivers that are Dovecot's own: a script that works, and ones
//! that are slow, dead, sleep or loop, which mail must not notice.

use std::fmt::{self, Write as _};
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result};
use dovecast_testkit::dovecot::Dovecot;
use dovecast_testkit::endpoint::{HookEndpoint, Reply};
use dovecast_testkit::loopback;
use tempfile::NamedTempFile;

/// METADATA with which a user asks for the driver `ox`.
const ENTRY: &str = "/private/vendor/vendor.dovecot/http-notify";
/// How long a slow end-point takes for each answer.
const SLOW: Duration = Duration::from_secs(5);
/// A script that never comes back from the first event.
const LOOPS: &str = "\
function dovecot_lua_notify_begin_txn(user) return {} end
function dovecot_lua_notify_event_message_new(ctx, event) while true do end end
function dovecot_lua_notify_end_txn(ctx, success) end
";

/// A script that sleeps at each mail, for as long as a slow end-point takes.
const SLEEPS: &str = "\
function dovecot_lua_notify_begin_txn(user) return {} end
function dovecot_lua_notify_event_message_new(ctx, event) os.execute('sleep 5') end
function dovecot_lua_notify_end_txn(ctx, success) end
";

/// A script that does what such scripts do: it keeps what it gets of a transaction, and makes text
/// of it in the end.
pub(crate) const WORKS: &str = r#"
function dovecot_lua_notify_begin_txn(user)
  return { user = user, messages = {} }
end
function dovecot_lua_notify_event_message_new(ctx, event)
  local fields = { "from", "subject", "snippet", "mailbox" }
  local parts = {}
  for _, name in ipairs(fields) do
    local value = tostring(event[name] or ""):gsub("[%c\"]", " ")
    parts[#parts + 1] = string.format("%s=%q", name, value)
  end
  table.insert(ctx.messages, table.concat(parts, " ") .. " uid=" .. event.uid)
end
function dovecot_lua_notify_end_txn(ctx, success)
  local text = table.concat(ctx.messages, "\n")
  assert(#text > 0)
end
"#;

/// What the server behind the plugin delivers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// Nothing: what the others are compared with.
    Nobody,
    /// An OX end-point that takes long for each answer.
    SlowOx,
    /// An OX end-point that nobody listens at.
    DeadOx,
    /// A Lua script that loops for ever.
    LoopingScript,
    /// A Lua script that sleeps at each mail.
    SleepingScript,
    /// A Lua script that works.
    Script,
}

/// A receiver's section of the configuration, and what lives as long as the server.
pub(crate) struct Started {
    pub(crate) config: String,
    _script: Option<NamedTempFile>,
}

impl fmt::Display for Receiver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nobody => "relay, full, no receiver",
            Self::SlowOx => "relay, full, ox that takes 5 s",
            Self::DeadOx => "relay, full, ox that is dead",
            Self::LoopingScript => "relay, full, lua that loops",
            Self::SleepingScript => "relay, full, lua that sleeps 5 s",
            Self::Script => "relay, full, lua",
        })
    }
}

impl Receiver {
    /// Receivers that mail must not notice, and nobody.
    pub(crate) const MEASURED: [Self; 5] = [
        Self::Nobody,
        Self::SlowOx,
        Self::DeadOx,
        Self::LoopingScript,
        Self::SleepingScript,
    ];

    /// Options of the plugin's driver instance that all drivers are content with.
    pub(crate) fn plugin_options() -> String {
        format!("detail=full keyword_prefix= metadata={ENTRY}")
    }

    pub(crate) fn start(self) -> Result<Started> {
        let ox = |url: &str| format!("[push_notification.ox]\ndriver = 'ox'\nox_url = '{url}'");
        Ok(match self {
            Self::Nobody => Started {
                config: String::new(),
                _script: None,
            },
            Self::SlowOx => {
                let end_point = HookEndpoint::answering(|_| {
                    std::thread::sleep(SLOW);
                    Reply {
                        status: 200,
                        body: String::new(),
                    }
                })?;
                Started {
                    config: ox(&end_point.url()),
                    _script: None,
                }
            }
            Self::DeadOx => Started {
                config: ox(&format!("http://{}:1/notify", loopback::unique_address())),
                _script: None,
            },
            Self::LoopingScript => lua(LOOPS)?,
            Self::SleepingScript => lua(SLEEPS)?,
            Self::Script => lua(WORKS)?,
        })
    }
}

/// The driver `lua` with a script.
fn lua(text: &str) -> Result<Started> {
    let script = script(text)?;
    let path = script.path().display();
    Ok(Started {
        config: format!("[push_notification.script]\ndriver = 'lua:file={path}'"),
        _script: Some(script),
    })
}

/// A script in a file that everybody may read.
pub(crate) fn script(text: &str) -> Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .suffix(".lua")
        .permissions(Permissions::from_mode(0o644))
        .tempfile()
        .context("no file for a Lua script")?;
    file.write_all(text.as_bytes())
        .context("cannot write a Lua script")?;
    Ok(file)
}

/// A script that asks for all events and does nothing with them.
pub(crate) fn empty_script() -> Result<NamedTempFile> {
    let events = [
        "mailbox_create",
        "mailbox_delete",
        "mailbox_rename",
        "mailbox_subscribe",
        "mailbox_unsubscribe",
        "message_new",
        "message_append",
        "message_expunge",
        "message_read",
        "message_trash",
        "flags_set",
        "flags_clear",
    ];
    let mut text = String::from("function dovecot_lua_notify_begin_txn(user) return nil end\n");
    for event in events {
        writeln!(
            text,
            "function dovecot_lua_notify_event_{event}(ctx, event) end"
        )?;
    }
    text.push_str("function dovecot_lua_notify_end_txn(ctx, success) end\n");
    script(&text)
}

/// A user asks for the driver `ox`.
pub(crate) fn ask_for_ox(dovecot: &Dovecot, user: &str) -> Result<()> {
    let mut imap = dovecot.login(user)?;
    imap.ok(&format!(r#"SETMETADATA "" ({ENTRY} "user=11@3")"#))?;
    imap.logout()?;
    Ok(())
}
