//! Guesses of passwords that the configuration says, by clients behind a proxy that is trusted:
//! each client's own count.

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
