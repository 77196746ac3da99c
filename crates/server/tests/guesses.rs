//! Guesses of passwords. Of those that the configuration says, each client behind a proxy that is
//! trusted has a count of its own; of those of persons, few are logged, and none is shown.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::http::Request;
use dovecast_testkit::server::Server;

const CONFIG: &str = "[ox]\nuser = 'dovecot'\npassword = 'geheim'\n\
    [mail_push]\nadmin = { user = 'dovecot', password = 'geheim' }";

#[test]
fn guesses_of_passwords_count_by_the_client_behind_a_proxy() {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let builder = builder.http("trusted_proxies = ['127.0.0.1']");
    let server = builder.config(CONFIG).start().expect("a server");
    for (method, path) in [
        ("GET", "/api/push/v1/admin/users"),
        ("PUT", "/preliminary/http-notify/v1/notify"),
    ] {
        let ask = |client: &str, password: &str| {
            let said = STANDARD.encode(format!("dovecot:{password}"));
            let request = Request::new(method, path)
                .header("Authorization", &format!("Basic {said}"))
                .header("X-Forwarded-For", client);
            let answer = server.ask(&request.body("{}"));
            answer.expect("an answer").status
        };
        let is_known = |status: u16| !matches!(status, 401 | 429);
        assert!(is_known(ask("203.0.113.1", "geheim")), "{path}");
        // Who is behind the same proxy is not trusted for that, and is held off alone.
        let is_held_off = (0..100).any(|_| ask("203.0.113.7", "secret") == 429);
        assert!(is_held_off, "{path}: an address may guess for ever");
        assert_eq!(ask("203.0.113.8", "secret"), 401, "{path}");
        assert!(is_known(ask("203.0.113.1", "geheim")), "{path}");
    }
}

/// A mail server that takes no password.
fn mail_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever was refused goes away.
            thread::spawn(move || refuse(stream).ok());
        }
    });
    address
}

fn refuse(stream: TcpStream) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    answers.write_all(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] here\r\n")?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let tag = line.split(' ').next().unwrap_or_default();
        let answer = format!("{tag} NO [AUTHENTICATIONFAILED] no\r\n");
        answers.write_all(answer.as_bytes())?;
    }
    Ok(())
}

#[test]
fn a_flood_of_wrong_passwords_is_logged_in_few_lines_that_show_none() {
    const TRIES: usize = 500;
    let config = format!(
        "[mail_push.auth]\nimap = 'imap://{}'\nimap_insecure = true",
        mail_server()
    );
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let mut server = builder.config(&config).start().expect("a server");
    let logins = ["joe", "ann", "11@3", "bob@example.org"];
    let mut checked = 0;
    for login in logins.iter().cycle().take(TRIES) {
        let body = format!(r#"{{"login":"{login}","password":"geheim"}}"#);
        let request = Request::new("POST", "/api/push/v1/sessions");
        let request = request.header("Content-Type", "application/json");
        let answer = server.ask(&request.body(body)).expect("an answer");
        match answer.status {
            401 => checked += 1,
            status => assert_eq!(status, 429, "{}", answer.body),
        }
    }
    assert!(checked > 0, "the mail server is asked");
    // All lines are written then.
    assert!(server.stop().expect("an end").success());
    let log = server.server_log();
    let told = "a login for mail push was refused by the mail server";
    assert_eq!(log.matches(told).count(), checked, "{log}");
    let lines = log.lines().count();
    assert!(lines < TRIES, "{lines} lines for {TRIES} tries: {log}");
    for login in logins {
        let sent = STANDARD.encode(format!("\0{login}\0geheim"));
        assert!(!log.contains("geheim") && !log.contains(&sent), "{log}");
    }
}
