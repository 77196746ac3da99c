//! What may stand in `[mail_push]`, and what is said to what may not.

use crate::config::{Config, DEFAULT_FILE};

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = Config::parse(text).expect_err(text);
    assert!(error.contains(expected), "{error} instead of {expected}");
    assert!(!error.contains("geheim"), "{error}");
}

#[test]
fn names_of_open_xchange_are_understood_and_lists_of_clients_may_be_text_with_commas() {
    let text = r#"
        [mail_push]
        allow_permanent_push = false
        allowed_clients = ["USM-EAS*, phone?"]
        password_source = "global"
        master_user = "dovecast"
        master_password = "geheim"
        [mail_push.credstorage]
        enabled = true
        passcrypt_file = "credential:passcrypt"
        rdb = true
        [mail_push.sources]
        order = ["imapidle", "events"]
        [mail_push.imapidle]
        server = "imaps://mail.example.org"
        [mail_push.apns]
        key_file = "k"
        key_id = "i"
        team_id = "t"
        topic = "o"
    "#;
    let section = Config::parse(text).expect("a configuration").mail_push;
    assert!(!section.allow_permanent_push);
    assert!(section.allowed_clients.allowing("phone1").is_some());
    assert!(section.allowed_clients.allowing("tablet").is_none());
    assert!(!format!("{section:?}").contains("geheim"));
}

#[test]
fn what_the_default_file_shows_in_comments_is_the_default() {
    for (section, setting) in [
        ("auth", "imap_insecure = false"),
        ("auth", "lower_case_logins = true"),
        (
            "sources",
            r#"order = ["events", "dovecot", "imapidle", "mailnotify"]"#,
        ),
        ("imapidle", "supports_permanent_listeners = false"),
        ("mailnotify", "use_full_email_address = false"),
        ("mailnotify", "delay_millis = 5000"),
    ] {
        let shown = format!("\n# {setting}");
        assert!(DEFAULT_FILE.contains(&shown), "{setting} is not shown");
        let text = format!("[mail_push.{section}]\n{setting}");
        assert_eq!(Config::parse(&text), Ok(Config::default()), "{setting}");
    }
}

/// Configurations that do not go together, and a part of what is said of each.
const REFUSED: &[(&str, &str)] = &[
    ("[mail_push]\nsession_hours = 0", "a number from 1 to 8760"),
    (
        "[mail_push]\nsession_hours = 1.5",
        "`session_hours`: invalid type: floating point `1.5`, expected a number from 1 to 8760",
    ),
    (
        "[mail_push]\nsession_hour = 1",
        "unknown field `session_hour`",
    ),
    (
        "[mail_push]\npassword_source = 'all'",
        "`all` is no source of passwords",
    ),
    (
        "[mail_push]\npassword_source = 'global'",
        "needs `master_user`",
    ),
    (
        "[mail_push]\nmaster_user = 'm'",
        "is nothing without `master_password`",
    ),
    (
        "[mail_push]\nmaster_password = 'geheim'",
        "is nothing without",
    ),
    (
        "[mail_push.sources]\norder = []",
        "an empty list, expected at least one source",
    ),
    (
        "[mail_push.sources]\norder = ['imap']",
        "`imap` is no source, expected events",
    ),
    (
        "[mail_push.sources]\norder = ['events', 'events']",
        "`events` is there twice",
    ),
    (
        "[mail_push.auth]\nimap = 'https://host'",
        "this is no IMAP server",
    ),
    (
        "[mail_push.auth]\nimap = 'imap://joe:geheim@host'",
        "this is no IMAP server",
    ),
    (
        "[mail_push.credstorage]\nenabled = true",
        "needs `passcrypt` or `passcrypt_file`",
    ),
    (
        "[mail_push.admin]\nuser = 'a'",
        "`user` and `password` or `password_file` in [mail_push.admin] go together",
    ),
    (
        "[mail_push.admin]\nuser = 'a'\npassword = 'b'\npassword_file = '/c'",
        "`password` and `password_file` in [mail_push.admin] are both there",
    ),
    (
        "[mail_push.admin]\nuser = 'a:b'\npassword = 'geheim'",
        "`a:b` is not a user of basic authentication",
    ),
    (
        "[mail_push.webpush]\nkey_file = ''",
        "an empty text, expected a path, `env:VARIABLE` or `credential:NAME`",
    ),
    (
        "[mail_push.webpush]\nsubject = 'postmaster'",
        "does not begin with `mailto:`",
    ),
    (
        "[mail_push.apns]\nkey_id = 'i'",
        "needs `key_file`, `key_id`, `team_id` and `topic`",
    ),
    (
        "[mail_push.imapidle]\nsupports_permanent_listeners = true",
        "needs `server`",
    ),
    (
        "[mail_push.dovecot]\nimap_insecure = true",
        "needs `imap`, or `doveadm_url`",
    ),
    (
        "[mail_push.dovecot]\nimap = 'imaps://h'\ndoveadm_url = 'http://h/'",
        "`doveadm_url` and `doveadm_api_key_file` in [mail_push.dovecot] are nothing without each other",
    ),
    (
        "[mail_push.dovecot]\ndoveadm_url = 'http://u:geheim@h'",
        "without a user",
    ),
    (
        "[mail_push.mailnotify]\nlisten = 'here'",
        "`here` is not an address to listen on",
    ),
    (
        "[mail_push.mailnotify]\nallow = ['here']",
        "`here` is not an address or network",
    ),
    (
        "[http]\napi_prefix = '/api/push/v1'",
        "`/api/push/v1` is not a prefix of paths",
    ),
    (
        "[http]\napi_prefix = '/api/push/v1/hooks'",
        "is not a prefix of paths",
    ),
];

#[test]
fn what_does_not_go_together_is_said() {
    for (text, expected) in REFUSED {
        refused(text, expected);
    }
}

#[test]
fn an_origin_is_written_as_browsers_write_it() {
    let of = |origin: &str| format!("[mail_push]\nallowed_origins = ['{origin}']");
    for good in [
        "https://mail.example.org",
        "http://localhost:8080",
        "capacitor://localhost",
    ] {
        Config::parse(&of(good)).expect(good);
    }
    for bad in [
        "",
        "*",
        "null",
        "mail.example.org",
        "https://mail.example.org/",
        "https://mail.example.org/path",
        "https://mail.example.org:443",
        "https://user@mail.example.org",
    ] {
        refused(
            &of(bad),
            &format!("`{bad}` is no origin, expected one such as"),
        );
    }
}
