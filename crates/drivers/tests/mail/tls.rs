//! The driver `mail` at a mail server that wants TLS and a login, or has none: what is sent to
//! whom, and whose business a refusal is.

use dovecast_dispatch::driver::{Attempt, Outcome};
use dovecast_drivers::mail::{MailDriver, MailOptions, MailTls};
use dovecast_drivers::template::Templates;
use dovecast_testkit::smtp::{Door, MailServer, Protection, Tls};
use serde_json::json;

use crate::{attempt, checked, delivery, mail, options};

/// User and password, and what they are in `AUTH PLAIN`.
const LOGIN: (&str, &str) = ("dovecast", "s3cret");
const PLAIN: &str = "AGRvdmVjYXN0AHMzY3JldA==";

/// A mail server behind TLS that asks for a login, and PEM of its authority.
fn server(protection: Protection) -> (MailServer, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a directory");
    let tls = Tls::new(protection, dir.path()).expect("TLS");
    let authority = tls.authority();
    let door = Door {
        tls: Some(tls),
        login: Some(PLAIN),
    };
    (MailServer::behind(door).expect("a server"), authority)
}

/// Options of an operator who knows the authority, the user and the password.
fn known(server: &MailServer, authority: &[u8], tls: MailTls) -> MailOptions {
    MailOptions {
        tls,
        ca: Some(authority.to_vec()),
        login: Some((LOGIN.0.to_owned(), LOGIN.1.to_owned())),
        ..options(server.port())
    }
}

async fn sent(options: &MailOptions) -> Attempt {
    let driver = MailDriver::new(Some(options), Templates::Trusted).expect("a driver");
    let target = checked(&driver, &json!({"to": "ann@example.org"}));
    let delivery = delivery(1, "MessageNew", &mail());
    attempt(&target.expect("a target"), &delivery).await
}

/// The reason of an attempt that may be repeated, in which there is no secret.
fn failed(attempt: &Attempt) -> &str {
    let shown = format!("{attempt:?}");
    assert!(
        !shown.contains(LOGIN.1) && !shown.contains(PLAIN),
        "{shown}"
    );
    match &attempt.outcome {
        Outcome::Failed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

/// Whether a server has heard of nothing that matters.
fn is_told_nothing(server: &MailServer) -> bool {
    let commands = server.commands();
    let harmless = ["EHLO ", "STARTTLS", "QUIT"];
    commands
        .iter()
        .all(|command| harmless.iter().any(|begin| command.starts_with(begin)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_goes_over_tls_to_whom_the_operator_trusts() {
    for (protection, tls) in [
        (Protection::Implicit, MailTls::Implicit),
        (Protection::Starttls, MailTls::Starttls),
    ] {
        let (server, authority) = server(protection);
        let made = sent(&known(&server, &authority, tls)).await;
        assert_eq!(made.outcome, Outcome::Delivered, "{made:?}");
        assert_eq!(server.taken().len(), 1);
        let commands = server.commands();
        let of = |begin: &str| commands.iter().position(|said| said.starts_with(begin));
        let (login, mail) = (of("AUTH PLAIN "), of("MAIL FROM:<noreply@example.org>"));
        assert!(login.is_some() && login < mail, "{commands:?}");
        let asked = of("STARTTLS");
        assert_eq!(asked.is_some(), tls == MailTls::Starttls, "{commands:?}");
        assert!(asked < login, "{commands:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_authority_nobody_knows_is_told_nothing() {
    for (protection, tls) in [
        (Protection::Implicit, MailTls::Implicit),
        (Protection::Starttls, MailTls::Starttls),
    ] {
        let (server, authority) = server(protection);
        let (_, other) = self::server(protection);
        for ca in [None, Some(other)] {
            let options = MailOptions {
                ca,
                ..known(&server, &authority, tls)
            };
            let made = sent(&options).await;
            let reason = failed(&made);
            assert!(reason.contains("certificate"), "{reason}");
            assert_eq!(made.answer, None, "nobody has answered");
        }
        assert!(is_told_nothing(&server), "{:?}", server.commands());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_told_nothing() {
    let (_, authority) = server(Protection::Starttls);
    // One that would take the login, and one that would take a mail without any.
    let asking = MailServer::behind(Door {
        tls: None,
        login: Some(PLAIN),
    });
    for (plain, has_login) in [(asking, true), (MailServer::start(), false)] {
        let plain = plain.expect("a server");
        for tls in [MailTls::Starttls, MailTls::Implicit] {
            let known = known(&plain, &authority, tls);
            let made = sent(&MailOptions {
                login: known.login.clone().filter(|_| has_login),
                ..known
            })
            .await;
            failed(&made);
            assert_eq!(made.answer, None, "nobody has answered");
        }
        assert!(is_told_nothing(&plain), "{:?}", plain.commands());
        assert_eq!(plain.taken(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_is_the_business_of_the_operator_and_the_mail_waits() {
    let (server, authority) = server(Protection::Starttls);
    let known = known(&server, &authority, MailTls::Starttls);
    let wrong = Some((LOGIN.0.to_owned(), "wrong".to_owned()));
    // 535 to a wrong password, 530 to whoever has none.
    for login in [wrong, None] {
        let made = sent(&MailOptions {
            login,
            ..known.clone()
        })
        .await;
        assert_eq!(
            failed(&made),
            "ann@example.org: the mail server refuses the login"
        );
    }
    assert_eq!(server.taken(), []);
    let made = sent(&known).await;
    assert_eq!(made.outcome, Outcome::Delivered, "{made:?}");
}
