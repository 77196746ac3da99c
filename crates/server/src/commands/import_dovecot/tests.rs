//! What is printed of configurations of both Dovecots: it always is one of ours that starts.

use dovecast_drivers::http::sockets::Sockets;

use super::imported;
use crate::config::Config;

/// What is printed, and the kinds of the drivers that a server has with it. Scripts are those of a
/// directory that has them.
fn started(doveconf: &str) -> (String, Vec<&'static str>) {
    let dir = tempfile::tempdir().expect("a directory");
    for script in ["push.lua", "all.lua", "my \"push\".lua"] {
        std::fs::write(dir.path().join(script), "").expect("a script");
    }
    let printed = imported(doveconf);
    let here = printed.replace("/etc/dovecot/", &format!("{}/", dir.path().display()));
    let config = Config::parse(&here);
    let config = config.unwrap_or_else(|error| panic!("{error}:\n{printed}"));
    let drivers = config.configured_drivers(&Sockets::default());
    let drivers = drivers.unwrap_or_else(|error| panic!("{error}:\n{printed}"));
    let kinds = drivers.iter().map(|driver| driver.kind).collect();
    (printed, kinds)
}

fn check(doveconf: &str, kinds: &[&str], expected: &[&str]) {
    let (printed, found) = started(doveconf);
    assert_eq!(found, kinds, "{printed}");
    for expected in expected {
        assert!(printed.contains(expected), "no `{expected}` in\n{printed}");
    }
}

#[test]
fn drivers_of_2_3_become_blocks() {
    check(
        "# 2.3.19.1: /etc/dovecot/dovecot.conf
mail_plugins = notify push_notification
plugin {
  push_lua_url = http://login:p%%40ss@h/%u
  push_notification_driver = ox:url=http://login:p%%40ss@h:8009/n user_from_metadata=no timeout_msecs=5000
  push_notification_driver2 = lua:file=/etc/dovecot/push.lua
  push_notification_driver3 = kafka:topic=a
  push_notification_driver4 = DLOG
  push_notification_driver5 = mine:x
}
protocol lmtp {
  mail_plugins = notify
}
",
        &["dlog", "lua", "ox"],
        &[
            "[push_notification.ox1]\ndriver = \"ox\"\nurl = \"http://login:p%40ss@h:8009/n\"\nuser_from_metadata = true\ntimeout_msecs = \"5000\"\n",
            "[push_notification.lua2]\ndriver = \"lua\"\nfile = \"/etc/dovecot/push.lua\"\n",
            "# push_lua_url: `%u` is a variable of Dovecot's, which is not replaced here.\nplugin = { \"push_lua_url\" = \"http://login:p%40ss@h/%u\" }",
            "# kafka3: the driver `kafka` is dovecast's own plugin, it stays in Dovecot.\n",
            "# mine5: there is no driver `mine` here, it stays in Dovecot.\n",
            "#     push_notification_driver = kafka:detail=full keyword_prefix= userdb=uid,gid,home metadata=/private/vendor/vendor.dovecot/http-notify\n",
        ],
    );
}

#[test]
fn blocks_of_2_4_become_blocks() {
    check(
        r#"# 2.4.1
push_notification ox1 {
  driver = ox
  ox_url = http://h/n
  push_notification_ox_cache_ttl = 10 secs
}
push_notification dlog {
}
push_notification other {
  driver = mine
}
push_notification "my script" {
  driver = lua
  lua_file = "/etc/dovecot/my \"push\".lua"
  lua_settings {
    web.url = http://h/
  }
}
"#,
        &["dlog", "lua", "ox"],
        &[
            "[push_notification.ox1]\ndriver = \"ox\"\nox_url = \"http://h/n\"\nox_cache_ttl = \"10 secs\"\n",
            "[push_notification.dlog]\ndriver = \"dlog\"\n",
            "# other: there is no driver `mine` here, it stays in Dovecot.\n",
            "[push_notification.\"my script\"]\ndriver = \"lua\"\nlua_file = \"/etc/dovecot/my \\\"push\\\".lua\"\nlua_settings = { \"web.url\" = \"http://h/\" }\n",
            "#   push_notification dovecast {\n#     driver = kafka\n#     kafka_transport = relay\n#     kafka_detail = full\n#     kafka_keyword_prefix = \"\"\n#     kafka_userdb = uid,gid,home\n#     kafka_metadata = /private/vendor/vendor.dovecot/http-notify\n#   }\n",
        ],
    );
    assert!(imported("mail_plugins = x\n").starts_with("# There is no driver"));
}

#[test]
fn short_names_of_2_4_are_those_of_the_driver() {
    check(
        "push_notification_ox_url = http://all/n
push_notification ox {
  url = http://own/n
  user_from_metadata = yes
  cache_ttl = 10s
}
push_notification lua {
  file = /etc/dovecot/push.lua
}
push_notification later {
  url = http://later/n
  driver = OX
}
push_notification other {
  driver = dlog
  cache_ttl = 10s
}
",
        &["ox", "lua", "dlog", "ox"],
        &[
            "[push_notification.ox]\ndriver = \"ox\"\nox_url = \"http://own/n\"\nox_user_from_metadata = \"yes\"\nox_cache_ttl = \"10s\"\n",
            "[push_notification.lua]\ndriver = \"lua\"\nlua_file = \"/etc/dovecot/push.lua\"\n",
            "[push_notification.later]\ndriver = \"ox\"\nox_url = \"http://later/n\"\n",
            "# cache_ttl = 10s is not taken over: unknown option, `dlog` has none\n",
        ],
    );
    check(
        "push_notification_ox {
  url = http://all/n
}
push_notification one {
  driver = ox
}
",
        &["ox"],
        &["driver = \"ox\"\nox_url = \"http://all/n\"\n"],
    );
}

#[test]
fn settings_outside_of_blocks_go_into_those_they_are_for() {
    check(
        "push_notification_ox_url = http://all/n
http_client_request_timeout = 5s
http_client_rawlog_dir = /tmp
ssl_client_ca_file = /nowhere/ca.pem
lua_file = /etc/dovecot/all.lua
lua_settings {
  a = b
}
push_notification ox {
}
push_notification own {
  driver = ox
  ox_url = http://own/n
}
push_notification secure {
  driver = ox
  ox_url = https://own/n
}
push_notification lua {
}
",
        &["lua", "ox", "ox", "ox"],
        &[
            "[push_notification.ox]\ndriver = \"ox\"\nhttp_client_request_timeout = \"5s\"\nox_url = \"http://all/n\"\n",
            "ox_url = \"http://own/n\"\nhttp_client_request_timeout = \"5s\"\n",
            "# http_client_rawlog_dir = /tmp is not taken over: unknown option",
            "# ssl_client_ca_file = /nowhere/ca.pem is not taken over: cannot read `/nowhere/ca.pem`",
            "lua_file = \"/etc/dovecot/all.lua\"\nlua_settings = { \"a\" = \"b\" }\n",
        ],
    );
    check(
        "push_notification_lua_script_file = /etc/dovecot/all.lua
ssl_client {
  ca_file = /nowhere/all.pem
}
push_notification_ox {
  http_client_request_max_attempts = 4
}
push_notification one {
  driver = ox
  push_notification_ox_url = https://h/
}
push_notification two {
  driver = lua
}
",
        &["ox", "lua"],
        &[
            "http_client_request_max_attempts = \"4\"",
            "# ssl_client_ca_file = /nowhere/all.pem is not taken over: cannot read",
            "lua_file = \"/etc/dovecot/all.lua\"",
        ],
    );
}

#[test]
fn the_script_of_2_3_is_the_one_that_dovecot_runs() {
    check(
        "plugin {
  mail_lua_script = /etc/dovecot/push.lua
  push_notification_driver = lua
}
",
        &["lua"],
        &[
            "# No file is named: Dovecot uses the script of its plugin mail_lua (mail_lua_script).\n[push_notification.lua1]\ndriver = \"lua\"\nfile = \"/etc/dovecot/push.lua\"\n",
        ],
    );
    check(
        "plugin {
  mail_lua_script = /etc/dovecot/push.lua
  push_notification_lua_script_file = /etc/dovecot/all.lua
  push_notification_driver = lua:file=/etc/dovecot/push.lua
}
",
        &["lua"],
        &[
            "# file=/etc/dovecot/push.lua is not what Dovecot runs: push_notification_lua_script_file goes first.\n",
            "file = \"/etc/dovecot/all.lua\"\n",
        ],
    );
    check(
        "plugin {\n  push_notification_driver = lua\n}\n",
        &[],
        &["# [push_notification.lua1] is left out: file: No file in config and no"],
    );
}

#[test]
fn drivers_that_dovecot_does_not_come_to_are_named() {
    check(
        "plugin {
  push_notification_driver = dlog
  push_notification_driver1 = dlog
  push_notification_driver3 = ox:url=http://h/
}
protocol lmtp {
  plugin {
    push_notification_driver = dlog
  }
}
",
        &["dlog"],
        &[
            "# push_notification_driver1 is not taken over: Dovecot does not come to it, there is no push_notification_driver2.\n",
            "# push_notification_driver3 is not taken over: Dovecot does not come to it, there is no push_notification_driver2.\n",
            "# push_notification_driver of `protocol lmtp` is not taken over: here drivers get the events of all.\n",
        ],
    );
    // The older name of the setting.
    check(
        "plugin {\n  push_notification_backend = ox:url=http://h/\n  push_notification_backend2 = dlog\n}\n",
        &["dlog", "ox"],
        &["[push_notification.ox1]", "[push_notification.dlog2]"],
    );
}

#[test]
fn a_password_that_doveconf_hides_is_asked_for() {
    check(
        "plugin {
  push_lua_url = http://#hidden_use-P_to_show#@127.0.0.1/
  push_lua_password = # hidden, use -P to show it
  a = b
  push_notification_driver = ox:url=http://#hidden_use-P_to_show#@h/n
  push_notification_driver2 = lua:file=/etc/dovecot/push.lua
}
",
        &["lua"],
        &[
            "# [push_notification.ox1] is left out: url: doveconf hides a password in it, `doveconf -nP` shows it\n",
            "# push_lua_password is left out: doveconf hides a password in it, `doveconf -nP` shows it\n# push_lua_url is left out: doveconf hides a password in it, `doveconf -nP` shows it\nplugin = { \"a\" = \"b\" }\n",
        ],
    );
    check(
        "push_notification script {
  driver = lua
  lua_file = /etc/dovecot/push.lua
  lua_settings {
    api_password = # hidden, use -P to show it
    url = http://#hidden_use-P_to_show#@h/
    user = dovecot
  }
}
lua_settings {
  api_secret = # hidden, use -P to show it
}
push_notification second {
  driver = lua
  lua_file = /etc/dovecot/push.lua
}
ssl_client_key_password = # hidden, use -P to show it
push_notification third {
  driver = ox
  ox_url = http://h/
}
",
        &["lua", "lua", "ox"],
        &[
            "# ssl_client_key_password is left out: doveconf hides a password in it, `doveconf -nP` shows it\n[push_notification.third]\n",
            "# api_password is left out: doveconf hides a password in it, `doveconf -nP` shows it\n# url is left out: doveconf hides a password in it, `doveconf -nP` shows it\n[push_notification.script]\n",
            "lua_settings = { \"user\" = \"dovecot\" }\n",
            "# api_secret is left out: doveconf hides a password in it, `doveconf -nP` shows it\n[push_notification.second]\n",
        ],
    );
}

#[test]
fn two_drivers_of_one_name_are_two_blocks() {
    check(
        "push_notification a {
  driver = dlog
}
protocol lmtp {
  push_notification a {
    driver = ox
    ox_url = http://h/
  }
}
",
        &["dlog", "ox"],
        &[
            "# In Dovecot it is in `protocol lmtp`; here it gets the events of all.\n# Another driver is called a, too.\n[push_notification.a_2]\n",
        ],
    );
}

#[test]
fn what_the_server_would_refuse_is_a_comment() {
    check(
        "plugin {
  push_notification_driver = ox:url=http://u:s3cret@h/?of=%u%%20 cache_lifetime=0 max_retries=x url2=y max_retries=3 nonsense
  push_notification_driver2 = ox:url=ftp://u:s3cret@h/
  push_notification_driver3 = dlog:x=y
}
",
        &["dlog", "ox"],
        &[
            "# url: `%u` is a variable of Dovecot's, which is not replaced here.\n",
            "# max_retries is there twice, the last one counts.\n",
            "# cache_lifetime = 0 is not taken over: push_notification_ox_cache_ttl must not be 0\n",
            "# url2 = y is not taken over: unknown option",
            "# nonsense is not taken over: unknown option",
            "[push_notification.ox1]\ndriver = \"ox\"\nurl = \"http://u:s3cret@h/?of=%u%20\"\nmax_retries = \"3\"\n",
            "# [push_notification.ox2] is left out: url: Invalid push_notification_ox_url: expected http:// or https://\n",
            "# x = y is not taken over: unknown option, `dlog` has none\n",
        ],
    );
    check(
        "push_notification a {
  driver = ox
  ox_url = http://h/?of=%{user | lower}&p=%40%%{
}
",
        &["ox"],
        &[
            "# ox_url: `%{user | lower}` is a variable of Dovecot's, which is not replaced here.\n",
            "ox_url = \"http://h/?of=%{user | lower}&p=%40%{\"\n",
        ],
    );
}

#[test]
fn a_request_that_may_take_longer_in_dovecot_is_cut() {
    check(
        "push_notification a {
  driver = ox
  ox_url = http://h/
  http_client_request_timeout = 60s
}
push_notification b {
  driver = ox
  ox_url = http://h/
  http_client_request_timeout = 20s
  http_client_request_max_attempts = 10
}
push_notification c {
  driver = ox
  ox_url = http://h/
  http_client_request_timeout = 25s
}
",
        &["ox", "ox", "ox"],
        &[
            "# 2 tries of 60000 ms are more than the 50 s that all tries of an attempt may take here; what fails is tried again later.\n",
            "http_client_request_timeout = \"50000ms\"\nhttp_client_request_max_attempts = \"1\"\n",
            "http_client_request_timeout = \"20000ms\"\nhttp_client_request_max_attempts = \"2\"\n",
            "http_client_request_timeout = \"25s\"\n",
        ],
    );
    check(
        "plugin {\n  push_notification_driver = ox:url=http://h/ timeout_msecs=70000\n}\n",
        &["ox"],
        &["timeout_msecs = \"50000\"\nmax_retries = \"0\"\n"],
    );
}
