//! Passwords of persons go to a real Dovecot over TLS, from the first byte and by STARTTLS, and to
//! none that the operator's authorities do not vouch for.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::certificates::Certificates;
use dovecast_testkit::dovecot::{Dovecot, Installation, PASSWORD, Series};
use dovecast_testkit::http::Request;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;
use serde_json::json;

use crate::case::cases;
use crate::setup::ARRIVAL;

cases![
    a_login_is_checked_over_tls,
    a_server_that_nobody_vouches_for_gets_no_password,
];

/// A Dovecot that has TLS, and its certificates.
fn with_tls(on: Installation) -> Result<(Dovecot, Certificates)> {
    let mut dovecot = Dovecot::builder().installation(on).no_plugins().start()?;
    let certificates = Certificates::create(dovecot.dir(), dovecot.address())?;
    // Key and certificate are in one file, and either is found there.
    let file = dovecot.inside(&certificates.server_key_store);
    let file = file.display();
    let tls = match on.series() {
        Series::V2_3 => format!("ssl = yes\nssl_cert = <{file}\nssl_key = <{file}\n"),
        Series::V2_4 => {
            format!("ssl = yes\nssl_server_cert_file = {file}\nssl_server_key_file = {file}\n")
        }
    };
    let imaps =
        "service imap-login {\n  inet_listener imaps {\n    port = 993\n    ssl = yes\n  }\n}\n";
    // The address that the certificate is for was not known before the start.
    let mut config = OpenOptions::new()
        .append(true)
        .open(dovecot.config_path())?;
    config.write_all((tls + imaps).as_bytes())?;
    dovecot.restart()?;
    Ok((dovecot, certificates))
}

/// The addresses of a Dovecot at which passwords go over TLS.
fn addresses(dovecot: &Dovecot) -> [String; 2] {
    let host = dovecot.address();
    [
        format!("imaps://{host}"),
        format!("imap://{host}:{}", dovecot.imap_port()),
    ]
}

/// Has a server check a login at this address; what it answers.
fn logged_in(imap: &str, authorities: &Path, password: &str) -> Result<(u16, Server)> {
    let file = authorities.display();
    let server = Server::builder()
        .config(&format!(
            "[mail_push.auth]\nimap = '{imap}'\nimap_ca_file = '{file}'"
        ))
        .start()?;
    let body = json!({ "login": "alice", "password": password });
    let request = Request::new("POST", "/api/push/v1/sessions")
        .header("Content-Type", "application/json")
        .body(body.to_string());
    let answer = server.ask(&request)?;
    Ok((answer.status, server))
}

fn a_login_is_checked_over_tls(on: Installation) -> Result<()> {
    let (dovecot, certificates) = with_tls(on)?;
    for address in addresses(&dovecot) {
        for (password, expected) in [(PASSWORD, 201), ("wrong", 401)] {
            let (status, server) = logged_in(&address, &certificates.ca, password)?;
            let log = server.server_log();
            ensure!(status == expected, "{address}: {status}: {log}");
        }
    }
    let has_logged_in = |line: &&str| line.contains(": Login: ") || line.contains(": Logged in: ");
    process::poll_until(ARRIVAL, || {
        let count = logins(&dovecot)
            .iter()
            .map(String::as_str)
            .filter(has_logged_in)
            .count();
        (count == 2).then_some(())
    })
    .with_context(|| format!("not two logins: {}", dovecot.log()))?;
    let all = logins(&dovecot);
    ensure!(all.iter().all(|line| line.contains(", TLS")), "{all:#?}");
    Ok(())
}

fn a_server_that_nobody_vouches_for_gets_no_password(on: Installation) -> Result<()> {
    let (dovecot, _) = with_tls(on)?;
    let elsewhere = tempfile::tempdir()?;
    let others = Certificates::create(elsewhere.path(), dovecot.address())?;
    for address in addresses(&dovecot) {
        let (status, server) = logged_in(&address, &others.ca, PASSWORD)?;
        ensure!(status == 503, "{address}: {status}");
        let log = server.log_with(&["cannot check a login", "certificate"])?;
        ensure!(!log.contains(PASSWORD), "{log}");
    }
    let all = logins(&dovecot);
    ensure!(all.is_empty(), "{all:#?}");
    Ok(())
}

/// Lines of the log that name the user of a login.
fn logins(dovecot: &Dovecot) -> Vec<String> {
    let log = dovecot.log();
    let lines = log.lines().filter(|line| line.contains("user=<alice>"));
    lines.map(str::to_owned).collect()
}
