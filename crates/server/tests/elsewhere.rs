//! Secrets that stand elsewhere than in the configuration, and the first admin token of a service.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::PATIENCE;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use tempfile::TempDir;

fn builder() -> dovecast_testkit::server::Builder {
    Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"))
}

#[test]
fn the_place_of_the_database_may_stand_in_a_file_a_variable_or_a_credential() {
    for place in ["file", "env:DOVECAST_TEST_URL", "credential:database"] {
        let dir = TempDir::new().expect("a directory");
        let state = dir.path().join("elsewhere.db");
        let url = format!("sqlite:{}", state.display());
        fs::write(dir.path().join("database"), format!("{url}\n")).expect("a file");
        let place = match place {
            "file" => dir.path().join("database").display().to_string(),
            other => other.to_owned(),
        };
        let builder = builder().config(&format!("[store]\nurl_file = '{place}'"));
        let builder = builder.env("DOVECAST_TEST_URL", &url);
        let builder = builder.env("CREDENTIALS_DIRECTORY", dir.path());
        let server = builder.start().expect("a server");
        assert!(state.exists(), "{place}: {}", server.server_log());
        // Commands that need no database need no password.
        server.run(["topics"]).expect("topics");
    }
}

#[cfg(feature = "kafka")]
#[test]
fn commands_need_no_property_of_kafka_that_only_the_service_has() {
    let dir = TempDir::new().expect("a directory");
    fs::write(dir.path().join("copies"), "s3cret\n").expect("a credential");
    let builder = builder().config(
        "[kafka_clusters.copies]\nbrokers = ['127.0.0.1:1']\n[kafka_clusters.copies.properties]\n'sasl.password_file' = 'credential:copies'",
    );
    let builder = builder.env("CREDENTIALS_DIRECTORY", dir.path());
    let server = builder.start().expect("a server");
    server.run(["topics"]).expect("topics");
    server.run(["endpoints"]).expect("endpoints");
}

#[test]
fn the_keys_of_secrets_may_be_a_credential() {
    let dir = TempDir::new().expect("a directory");
    let keys = dir.path().join("keys");
    let made = builder().start().expect("a server that makes keys");
    fs::copy(made.data_dir().join("secrets.key"), &keys).expect("keys");
    let builder = builder().config("[secrets]\nkeys = 'credential:keys'");
    let builder = builder.env("CREDENTIALS_DIRECTORY", dir.path());
    let mut server = builder.start().expect("a server");
    let token = server.account_token("42").expect("a token");
    let place = ("sealed", "https://example.org/");
    server.endpoint(&token, place, "true").expect("an endpoint");
    assert!(!server.data_dir().join("secrets.key").exists());
    let sealed = |server: &Server| {
        let keys = server.run(["secrets", "list", "--json"]).expect("keys");
        // The key of the credential, and the endpoint's secret sealed with it.
        let has = |text: &str| keys.contains(text);
        assert!(has("\"here\":true") && has("\"rows\":1"), "{keys}");
        keys
    };
    let before = sealed(&server);
    server.stop().expect("an end");
    server.start_again().expect("the store is opened");
    assert_eq!(sealed(&server), before);
    server.stop().expect("an end");
    // Without the credential it is not, and nothing is made in its place.
    fs::remove_file(&keys).expect("removed");
    let output = server.start_and_end().expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the credential `keys`"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!server.data_dir().join("secrets.key").exists());
}

#[test]
fn a_place_without_a_value_is_named_and_two_are_one_too_many() {
    for (config, expected) in [
        (
            "[store]\nurl_file = '/nowhere/url'",
            "`url_file` of [store]: cannot read `/nowhere/url`",
        ),
        (
            "[store]\nurl_file = 'env:DOVECAST_NOT_SET'",
            "cannot read the environment variable `DOVECAST_NOT_SET`",
        ),
        (
            "[store]\nurl_file = 'credential:database'",
            "there is no credential `database`",
        ),
        (
            "[store]\nurl = 'sqlite:a.db'\nurl_file = 'b'",
            "`url` and `url_file` of [store] are both there",
        ),
        (
            "[ox]\nuser = 'a'\npassword = 'b'\npassword_file = 'c'",
            "`password` and `password_file` in [ox] are both there",
        ),
        (
            "[ox]\npassword_file = 'c'",
            "`password` in [ox] is nothing without `user`",
        ),
        (
            "[mail_push.webpush]\nkey_file = 'credential:vapid'",
            "`key_file` of [mail_push.webpush]: there is no credential `vapid`",
        ),
        (
            "[mail_push.fcm]\nservice_account_file = 'env:DOVECAST_NOT_SET'",
            "`service_account_file` of [mail_push.fcm]: cannot read the environment variable `DOVECAST_NOT_SET`",
        ),
        (
            "[mail_push.apns]\nkey_file = 'credential:apns'\nkey_id = 'ABCDE12345'\nteam_id = 'TEAM567890'\ntopic = 'org.example.mail'",
            "`key_file` of [mail_push.apns]: there is no credential `apns`",
        ),
        (
            "[mail_push.credstorage]\nenabled = true\npasscrypt_file = 'credential:passcrypt'",
            "`passcrypt` in [mail_push.credstorage]: there is no credential `passcrypt`",
        ),
        (
            "[ox]\nuser = 'a'\npassword_file = '/nowhere/ox'",
            "`password_file` of [ox]: cannot read `/nowhere/ox`",
        ),
    ] {
        let server = builder().config(config).prepare().expect("a server");
        let output = server.start_and_end().expect("an end");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{config}: {said}");
        assert_eq!(output.status.code(), Some(1), "{config}: {said}");
    }
}

#[test]
fn the_password_of_ox_may_stand_elsewhere() {
    let config = "[ox]\nuser = 'dovecot'\npassword_file = 'env:DOVECAST_TEST_OX'";
    let builder = builder().config(config).env("DOVECAST_TEST_OX", "s3cret");
    let server = builder.start().expect("a server");
    for (password, is_known) in [("s3cret", true), ("other", false)] {
        let basic = STANDARD.encode(format!("dovecot:{password}"));
        let request = Request::new("PUT", "/preliminary/http-notify/v1/notify");
        let request = request.header("Authorization", &format!("Basic {basic}"));
        let answer = server.ask(&request.body("{}")).expect("an answer");
        assert_eq!(answer.status != 401, is_known, "{password}: {answer:?}");
    }
}

#[test]
fn the_first_token_of_a_service_is_in_a_file_that_nobody_else_can_read() {
    let server = builder().prepare().expect("a server");
    let output = server.config_file().with_file_name("journal");
    let journal = File::create(&output).expect("a file");
    let of = journal.metadata().expect("a file");
    let mut serve = server.command(["serve"]);
    serve.env("JOURNAL_STREAM", format!("{}:{}", of.dev(), of.ino()));
    serve.stdout(journal).stderr(Stdio::null());
    let mut child = serve.spawn().expect("serve");
    let file = server.data_dir().join("admin-token");
    let token = poll_until(PATIENCE, || {
        let token = fs::read_to_string(&file).ok()?;
        token.ends_with('\n').then_some(token)
    });
    let mode = fs::metadata(&file).map(|file| file.permissions().mode() & 0o777);
    let printed = fs::read_to_string(&output);
    child.kill().expect("a kill");
    child.wait().expect("an end");
    let token = token.expect("no token");
    assert!(token.starts_with("dct_"), "{token}");
    assert_eq!(mode.expect("a file"), 0o600);
    assert!(!printed.expect("an output").contains("dct_"));
}

#[test]
fn what_holds_secrets_is_for_nobody_else_and_the_start_warns_of_what_is_not() {
    let section = "[ox]\nuser = 'dovecot'\npassword = 'geheim'";
    let mut server = builder().config(section).prepare().expect("a server");
    let warning = "every user of this host can read";
    for (mode, is_told) in [(0o640, false), (0o644, true)] {
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(server.config_file(), permissions).expect("a mode");
        server.start_again().expect("a start");
        if is_told {
            let log = server.log_with(&["WARN", warning]).expect("a warning");
            assert!(!log.contains("geheim"), "{log}");
        }
        assert!(server.stop().expect("an end").success());
        // All lines are written then.
        let log = server.server_log();
        assert_eq!(log.contains(warning), is_told, "{mode:o}: {log}");
    }
    for file in ["state.db", "log/log.db", "secrets.key", "ox.key"] {
        let path = server.data_dir().join(file);
        let mode = fs::metadata(path).expect(file).permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}: {mode:o}");
    }
}
