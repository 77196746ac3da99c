//! What the builder is told, as Dovecot and its plugins see it.

use anyhow::{Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, Series};

use crate::{MAIL, SENDER, SOON, cases, doveadm_output, on, stop_cleanly, with_dlog};

cases![
    settings_reach_plugins_as_they_were_written,
    fields_are_seen_by_every_user_who_has_none_of_their_own,
    settings_reach_dovecot,
    a_wrong_configuration_is_an_error_that_says_what_is_wrong,
];

/// What `doveadm user` says about a userdb field: what plugins get as well.
fn userdb_field(dovecot: &Dovecot, user: &str, field: &str) -> Result<String> {
    Ok(doveadm_output(dovecot, &["user", "-f", field, user])?
        .trim_end_matches('\n')
        .to_owned())
}

/// A Lua driver that writes the settings and the environment that a plugin sees into the log.
///
/// Dovecot 2.4 hands a script its settings at the start, 2.3 lets it ask for any.
const SHOW_SETTINGS: &str = r#"
function script_init(settings)
  for key, value in pairs(settings or {}) do dovecot.i_info(key .. "=[" .. value .. "]") end
  return 0
end
function dovecot_lua_notify_begin_txn(user)
  for _, key in ipairs(user.plugin_getenv and {"odd", "blank", "file", "expanded", "tenant"} or {}) do
    dovecot.i_info(key .. "=[" .. tostring(user:plugin_getenv(key)) .. "]")
  end
  dovecot.i_info("environment=[" .. tostring(os.getenv("TESTKIT_SET")) .. "][" .. tostring(os.getenv("PATH")) .. "]")
  return {}
end
function dovecot_lua_notify_event_message_append(context, event) end
function dovecot_lua_notify_end_txn(context, success) end
"#;

fn settings_reach_plugins_as_they_were_written(installation: Installation) -> Result<()> {
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let script = tempfile::Builder::new()
        .prefix("dc.")
        .suffix(".lua")
        .permissions(readable)
        .tempfile_in("/tmp")?;
    std::fs::write(script.path(), SHOW_SETTINGS)?;
    let odd = r#"#'one'"two"\three\$four$ENV:PATH100%%u%%{user}%{user}{}ünf<"#;
    let variable = r"100%\%{user} $ENV:PATH '#";
    let driver = format!("lua:file={}", script.path().display());
    let builder = on(installation)
        .extra_mail_plugins("mail_lua push_notification_lua")
        .file(script.path())
        .env("TESTKIT_SET", variable)
        .import("PATH");
    let (builder, more): (_, &[&str]) = if installation.series() == Series::V2_3 {
        let builder = builder
            .driver(&driver)
            .field("odd", odd)
            .plugin_setting("file", "<5")
            .plugin_setting_raw("expanded", "name=%u")
            .user("alice", &[("tenant", "50%u%{user}")]);
        let more = &["file=[<5]", "expanded=[name=alice]", "tenant=[50%u%{user}]"];
        (builder, more)
    } else {
        let options = format!("{driver} settings/odd={odd} settings/empty=");
        (builder.driver(&options), &["empty=[]"])
    };
    let dovecot = builder.start()?;
    dovecot.login("alice")?.append("INBOX", "", None, MAIL)?;
    dovecot.wait_for_log(&format!("odd=[{odd}]"), SOON)?;
    dovecot.wait_for_log(&format!("environment=[{variable}][/"), SOON)?;
    for line in more {
        dovecot.wait_for_log(line, SOON)?;
    }
    stop_cleanly(dovecot)
}

fn fields_are_seen_by_every_user_who_has_none_of_their_own(
    installation: Installation,
) -> Result<()> {
    let odd = r#" # 'one' "two" \three\ $four 100% %u %%{user} %{user} ünf < "#;
    let dovecot = on(installation)
        .field("odd", odd)
        .field("file", "<5")
        .field("empty", "")
        .field("tenant", "everybody")
        .user("alice", &[("tenant", "50%u%{user}")])
        .start()?;
    // In Dovecot 2.3 they are settings, which doveadm does not show; there the case before has seen
    // them.
    if installation.series() != Series::V2_3 {
        for user in ["alice", "bob"] {
            assert_eq!(userdb_field(&dovecot, user, "odd")?, odd);
            assert_eq!(userdb_field(&dovecot, user, "file")?, "<5");
            assert_eq!(userdb_field(&dovecot, user, "empty")?, "");
        }
        assert_eq!(userdb_field(&dovecot, "alice", "tenant")?, "50%u%{user}");
        assert_eq!(userdb_field(&dovecot, "bob", "tenant")?, "everybody");
    }
    dovecot.login("bob")?.append("INBOX", "", None, MAIL)?;
    stop_cleanly(dovecot)
}

fn settings_reach_dovecot(installation: Installation) -> Result<()> {
    // Without our plugin and its settings module those of the driver kafka must not be in the way.
    let dovecot = with_dlog(installation)
        .kafka("kafka_brokers", "broker.example")
        .kafka("settings.linger.ms", "5")
        .user("alice", &[("tenant", "acme")])
        .user("o\"neil smi'th", &[("tenant", "a:b"), ("other", "x")])
        .vsz_limit("512 M")
        .recipient_delimiter("+")
        .lowercase_user_names(true)
        .config("protocol imap {\n  mail_max_userip_connections = 1\n}")
        .start()?;
    assert_eq!(userdb_field(&dovecot, "ALICE", "tenant")?, "acme");
    assert_eq!(userdb_field(&dovecot, "o\"neil smi'th", "tenant")?, "a:b");
    assert_eq!(
        userdb_field(&dovecot, "alice", "home")?,
        dovecot.inside(&dovecot.home("alice")).display().to_string()
    );
    dovecot.lmtp()?.deliver_ok(SENDER, &["Alice+tag"], MAIL)?;

    let mut session = dovecot.login("Alice")?;
    assert!(
        session
            .ok("STATUS INBOX (MESSAGES)")?
            .find("MESSAGES 1")
            .is_some()
    );
    assert!(dovecot.login("alice").is_err());
    let pid = dovecot.pids("imap")?[0];
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    assert!(
        limits.contains("Max address space         536870912"),
        "{limits}"
    );
    stop_cleanly(dovecot)
}

fn a_wrong_configuration_is_an_error_that_says_what_is_wrong(
    installation: Installation,
) -> Result<()> {
    let error = on(installation)
        .config("no_such_setting = 1")
        .start()
        .expect_err("an error");
    assert!(
        format!("{error:#}").contains("no_such_setting"),
        "{error:#}"
    );
    let error = on(installation)
        .user("a", &[("b", "c d")])
        .start()
        .expect_err("an error");
    assert!(
        format!("{error:#}").contains("userdb field `b`"),
        "{error:#}"
    );
    if installation.series() != Series::V2_3 {
        let error = on(installation).plugin_setting("a", "b").start();
        let error = error.expect_err("an error");
        assert!(format!("{error:#}").contains("plugin section"), "{error:#}");
    }
    let error = on(installation)
        .plugin("/missing.so")
        .start()
        .expect_err("an error");
    ensure!(format!("{error:#}").contains("/missing.so"), "{error:#}");
    Ok(())
}
