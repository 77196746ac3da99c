//! Logins: what is said, and what a refused one is told from.

use std::sync::Arc;

use dovecast_mail_push::imap::{ImapError, ImapServer, Login, Secret, login_check};

use crate::stand_in::{Behaviour, StandIn, no_tls};

fn password(password: &str) -> Login {
    Login::Password {
        login: "alice".into(),
        password: Secret::new(password.to_owned()),
    }
}

fn token() -> Login {
    Login::Token {
        login: "a=b".into(),
        token: Secret::new("t0k".to_owned()),
    }
}

fn master() -> Login {
    Login::Master {
        login: "alice".into(),
        master: "root".into(),
        password: Secret::new("pass".to_owned()),
    }
}

#[tokio::test]
async fn each_login_is_said_as_the_server_wants_it() {
    let server = StandIn::start(Behaviour::default()).await;
    for (capabilities, login, said) in [
        (
            "AUTH=PLAIN SASL-IR",
            password("pass"),
            "PLAIN \\u{0}alice\\u{0}pass",
        ),
        (
            "AUTH=PLAIN",
            password("pä\"ss"),
            "PLAIN \\u{0}alice\\u{0}p\\u{e4}\\\"ss",
        ),
        ("AUTH=PLAIN", master(), "PLAIN alice\\u{0}root\\u{0}pass"),
        ("", password("pass word"), "LOGIN \"alice\" \"pass word\""),
        ("", password("a\"b"), "LOGIN \"alice\" {3}a\"b"),
        (
            "AUTH=OAUTHBEARER AUTH=XOAUTH2",
            token(),
            "OAUTHBEARER n,a=a=3Db,\\u{1}auth=Bearer t0k\\u{1}\\u{1}",
        ),
        (
            "AUTH=XOAUTH2 SASL-IR",
            token(),
            "XOAUTH2 user=a=b\\u{1}auth=Bearer t0k\\u{1}\\u{1}",
        ),
    ] {
        server.behave(Behaviour {
            capabilities,
            ..Behaviour::default()
        });
        let checked = login_check(&server.server(), &login).await;
        assert!(checked.is_ok(), "{capabilities}: {checked:?}");
        let last = server.shared.logins.lock().unwrap().pop().expect("a login");
        // The stand-in shows what is no text as Rust does.
        assert_eq!(
            last.replace("\\x00", "\\u{0}").replace("\\x01", "\\u{1}"),
            said
        );
    }
}

#[tokio::test]
async fn a_refused_login_is_told_from_a_server_that_cannot_say() {
    let server = StandIn::start(Behaviour::default()).await;
    for (answer, login, is_refused) in [
        ("NO [AUTHENTICATIONFAILED] wrong", password("x"), true),
        ("NO wrong", password("x"), true),
        ("NO [UNAVAILABLE] later", password("x"), false),
        ("NO [LIMIT] too many", password("x"), false),
        ("NO [OVERQUOTA] full", password("x"), false),
        ("NO [CONTACTADMIN] locked", password("x"), false),
        (
            "NO [ALERT] Too many simultaneous connections",
            password("x"),
            false,
        ),
        (
            "NO Maximum number of connections exceeded",
            password("x"),
            false,
        ),
        ("NO Temporary authentication failure", password("x"), false),
        (
            "NO [ALERT] Invalid credentials (Failure)",
            password("x"),
            true,
        ),
        (
            "NO [AUTHENTICATIONFAILED] wrong too many times",
            password("x"),
            true,
        ),
        ("NO [EXPIRED] try again with another", password("x"), true),
        (
            "NO Login incorrect, please try again later",
            password("x"),
            true,
        ),
        ("NO Internal error, try again later", password("x"), false),
        ("BAD what", password("x"), false),
        ("NO wrong", token(), true),
    ] {
        server.behave(Behaviour {
            capabilities: "AUTH=PLAIN AUTH=OAUTHBEARER",
            login: answer,
        });
        let error = login_check(&server.server(), &login)
            .await
            .expect_err(answer);
        assert_eq!(error.is_refused_login(), is_refused, "{answer}: {error:?}");
        assert!(!format!("{error:?}{login:?}").contains("t0k"));
    }
    let logins = server.shared.logins.lock().unwrap();
    // The error of OAUTHBEARER was answered so that the server may end (RFC 7628 section 3.2.3).
    assert!(
        logins
            .last()
            .expect("a login")
            .ends_with("\\u{1}\\u{1}\\u{1}"),
        "{logins:?}"
    );
}

#[tokio::test]
async fn no_password_goes_over_a_connection_that_is_not_protected() {
    let server = StandIn::start(Behaviour {
        capabilities: "AUTH=PLAIN",
        ..Behaviour::default()
    })
    .await;
    let address = format!("imap://{}", server.address);
    let with_tls = ImapServer::parse(&address, false, &no_tls()).expect("a server");
    let error = login_check(&with_tls, &password("pass"))
        .await
        .expect_err("no STARTTLS");
    assert!(matches!(error, ImapError::Lacks("STARTTLS")), "{error:?}");
    server.behave(Behaviour {
        capabilities: "STARTTLS LOGINDISABLED",
        ..Behaviour::default()
    });
    let error = login_check(&server.server(), &password("pass"))
        .await
        .expect_err("disabled");
    assert!(matches!(error, ImapError::Lacks(_)), "{error:?}");
    assert!(server.shared.logins.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_is_away_refuses_nobody() {
    let server = StandIn::start(Behaviour::default()).await;
    let away = server.server();
    drop(server);
    let error = login_check(&Arc::new(away), &password("pass"))
        .await
        .expect_err("nobody");
    assert!(!error.is_refused_login(), "{error:?}");
}
