//! What is made of properties.

use super::*;

fn made(text: &str, imap: Option<&str>, master_user: Option<&str>) -> String {
    let mut found = Properties::new();
    properties::read(text, &mut found);
    imported(found, imap, master_user)
}

const ALL: &str = r#"
com.openexchange.push.allowPermanentPush=true
com.openexchange.push.allowedClient="USM-EAS*", "phone?"
com.openexchange.push.credstorage.enabled=true
com.openexchange.push.credstorage.passcrypt=a passphrase
com.openexchange.push.credstorage.rdb=true
com.openexchange.push.reschedule.delayDuration=5000
com.openexchange.push.dovecot.enabled=true
com.openexchange.push.dovecot.clusterLock=hz
com.openexchange.push.imapidle.enabled=true
com.openexchange.push.imapidle.supportsPermanentListeners=true
com.openexchange.push.mail.notify.enabled=true
com.openexchange.push.mail.notify.udp_listen_host=localhost
com.openexchange.push.mail.notify.delay_millis=1000
com.openexchange.rest.services.basic-auth.login=open
com.openexchange.rest.services.basic-auth.password=xchange
com.openexchange.pns.transport.gcm.enabled=true
com.openexchange.mail.passwordSource=session
com.openexchange.quota=1
"#;

#[test]
fn properties_of_mail_push_are_a_configuration() {
    let made = made(ALL, Some("imaps://mail.example.org:993"), None);
    let expected = r#"# Mail push of Open-Xchange, for dovecast.toml.
# com.openexchange.pns.transport.gcm.enabled is not taken over.
# com.openexchange.push.dovecot.clusterLock is not needed here.
# com.openexchange.push.reschedule.delayDuration is not needed here.

[mail_push]
allow_permanent_push = true
allowed_clients = ["USM-EAS*", "phone?"]
password_source = "session"

[mail_push.credstorage]
enabled = true
passcrypt = "a passphrase"
rdb = true

[mail_push.auth]
imap = "imaps://mail.example.org:993"

[mail_push.dovecot]
imap = "imaps://mail.example.org:993"

[mail_push.imapidle]
server = "imaps://mail.example.org:993"
supports_permanent_listeners = true

[mail_push.mailnotify]
listen = "127.0.0.1:23420"
delay_millis = 1000

[mail_push.sources]
order = ["dovecot", "imapidle", "mailnotify"]

[ox]
user = "open"
password = "xchange"
"#;
    assert_eq!(made, expected);
    let section = Config::parse(&made).expect("a configuration").mail_push;
    assert!(section.allowed_clients.allowing("phone1").is_some());
}

#[test]
fn both_names_of_the_clients_are_read_and_none_named_are_all() {
    for (text, client, is_allowed) in [
        ("com.openexchange.push.allowedClients=a*", "ab", true),
        ("com.openexchange.push.allowedClient=a*", "b", false),
        (
            "com.openexchange.push.allowedClient=b\ncom.openexchange.push.allowedClients=a",
            "b",
            false,
        ),
        ("com.openexchange.push.allowedClients=", "b", true),
    ] {
        let config = Config::parse(&made(text, None, None)).expect(text);
        let allowing = config.mail_push.allowed_clients.allowing(client).is_some();
        assert_eq!(allowing, is_allowed, "{text}");
    }
}

#[test]
fn what_is_missing_is_a_comment_and_shows_no_password() {
    for (text, expected) in [
        (
            "com.openexchange.push.imapidle.enabled=true",
            "needs the IMAP server, which `--imap` names",
        ),
        (
            "com.openexchange.mail.passwordSource=global\ncom.openexchange.mail.masterPassword=geheim",
            "`--master-user`",
        ),
        (
            "com.openexchange.push.credstorage.enabled=true",
            "needs com.openexchange.push.credstorage.passcrypt",
        ),
        (
            "com.openexchange.dovecot.doveadm.enabled=true\ncom.openexchange.dovecot.doveadm.apiSecret=geheim",
            "`doveadm_api_key_file`",
        ),
        (
            "com.openexchange.push.allowPermanentPush=geheim",
            "is neither true nor false",
        ),
        ("a = b", "There is nothing of mail push"),
    ] {
        let made = made(text, None, None);
        assert!(made.contains(expected), "{made}");
        assert!(made.lines().all(|line| line.starts_with('#')), "{made}");
        assert!(!made.contains("geheim"), "{made}");
    }
}

#[test]
fn packets_of_others_need_a_list_of_them() {
    let text = "com.openexchange.push.mail.notify.enabled=true\n\
        com.openexchange.push.mail.notify.udp_listen_host=192.0.2.1\n\
        com.openexchange.push.mail.notify.udp_listen_port=1234";
    let made = made(text, None, None);
    assert!(made.contains("listen = \"192.0.2.1:1234\""), "{made}");
    assert!(made.contains("`allow` in [mail_push.mailnotify]"), "{made}");
}

#[test]
fn a_master_user_is_taken_over_with_the_password() {
    let text =
        "com.openexchange.mail.passwordSource=global\ncom.openexchange.mail.masterPassword=geheim";
    let made = made(text, None, Some("master"));
    let config = Config::parse(&made).expect("a configuration");
    assert_eq!(config.mail_push.master_user.as_deref(), Some("master"));
}

#[test]
fn what_the_server_refuses_is_a_comment_with_the_reason() {
    let text = "com.openexchange.push.imapidle.enabled=true";
    let made = made(text, Some("https://mail.example.org"), None);
    assert!(made.contains("The server refuses this"), "{made}");
    assert!(made.lines().all(|line| line.starts_with('#')), "{made}");
}
