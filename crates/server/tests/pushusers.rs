//! `dovecast pushusers` on a running server: what it prints and how it ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use dovecast_testkit::PATIENCE;
use dovecast_testkit::http::Request;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

const TYPE: &str = "application/vnd.api+json";

fn server(section: &str) -> Server {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let networks = "[dispatch]\nallowed_networks = ['127.0.0.0/8']\n";
    let config = format!("{networks}[mail_push]\n{section}");
    builder.config(&config).start().expect("a server")
}

fn asked(server: &Server, path: &str, (token, media): (&str, &str), body: &Value) -> Value {
    let request = Request::new("POST", path)
        .header("Authorization", &format!("Bearer {token}"))
        .header("Content-Type", media)
        .body(body.to_string());
    let answer = server.ask(&request).expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// Subscribes a client of a person to new mail.
fn subscribe(server: &Server, (context, user): (&str, &str), client: &str) {
    let admin = server.admin_token().expect("a token");
    let token =
        json!({"token": {"name": "t", "scope": "person", "context": context, "user": user}});
    let made = asked(server, "/api/hooks/tokens", (&admin, TYPE), &token);
    let token = made["meta"]["token"].as_str().expect("a token");
    let device = json!({
        "client": client, "transport": "webhook", "topics": ["ox:mail:new"],
        "webhook": {"url": format!("http://127.0.0.1:18999/{context}/{user}")},
    });
    let media = "application/json";
    asked(
        server,
        "/api/push/v1/subscriptions",
        (token, media),
        &device,
    );
}

/// Standard output, standard error and exit code.
fn run(server: &Server, line: &str) -> (String, String, i32) {
    let words = ["pushusers"].into_iter().chain(line.split_whitespace());
    let output = server.command(words).output().expect("dovecast");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("a code");
    (text(&output.stdout), text(&output.stderr), code)
}

fn printed(server: &Server, line: &str) -> String {
    let (out, error, code) = run(server, line);
    assert_eq!((&*error, code), ("", 0), "{line}: {out}");
    out
}

#[test]
fn who_is_pushed_to_is_listed_explained_and_unregistered() {
    let server = server("allowed_clients = ['phone*']");
    assert_eq!(
        printed(&server, ""),
        "No running push users on this node.\n"
    );
    assert_eq!(printed(&server, "-l"), "No registered push users.\n");
    assert_eq!(printed(&server, "--json"), "[]\n");
    let explain = |user: &str| printed(&server, &format!("--explain -c 3 -u {user}"));
    let nobody = "permanent listener: denied: no subscription for new mail";
    assert_eq!(explain("11").lines().last(), Some(nobody));

    for (person, client) in [
        (("3", "11"), "phone-of-joe"),
        (("3", "11"), "desk"),
        (("3", "9"), "phone"),
        (("20", "joe"), "phone"),
        (("3", "12"), "desk"),
    ] {
        subscribe(&server, person, client);
    }
    let users = "Context User Permanent\n      3 9    true     \n      3 11   true     \n     20 joe  true     \n";
    assert_eq!(printed(&server, "--list"), users);
    assert_eq!(printed(&server, ""), users);
    let clients = "Context User Client      \n      3 9    phone       \n      3 11   desk        \n      \
                   3 11   phone-of-joe\n      3 12   desk        \n     20 joe  phone       \n";
    assert_eq!(printed(&server, "-l"), clients);
    assert_eq!(printed(&server, "--list-client-registrations"), clients);
    let lines: Vec<Value> = serde_json::from_str(&printed(&server, "--json")).expect("JSON");
    let first = &lines[0];
    for (name, value) in [
        ("context", json!("3")),
        ("user", json!("9")),
        ("permanent", json!(true)),
        ("source", json!("events")),
    ] {
        assert_eq!(first[name], value, "{first}");
    }
    let lines: Value = serde_json::from_str(&printed(&server, "-l --json")).expect("JSON");
    assert_eq!(
        lines[0],
        json!({"context": "3", "user": "9", "client": "phone"})
    );

    assert_eq!(
        explain("11"),
        "allow_permanent_push: true\nclient `desk`: not in `allowed_clients`\nclient `phone-of-joe`: allowed by `phone*`\n\
         source `events`: needs no credentials\npermanent listener: started\n"
    );
    let denied = "permanent listener: denied: no client with a subscription is allowed";
    assert_eq!(explain("12").lines().last(), Some(denied));
    let mut why = server.command(["push", "why", "-c", "3", "-u", "11"]);
    let why = why.output().expect("dovecast").stdout;
    let why = String::from_utf8_lossy(&why).into_owned();
    let heard = "heard: by `events`, with or without a session, on ";
    assert!(why.lines().any(|line| line.starts_with(heard)), "{why}");

    let line = "-r -c 3 -u 11 -i phone-of-joe";
    let rest =
        "registration successfully deleted for user 11 in context 3 for client 'phone-of-joe'\n";
    assert_eq!(printed(&server, line), format!("Push {rest}"));
    let none = "No such push registration for user 11 in context 3 for client 'phone-of-joe'\n";
    assert_eq!(printed(&server, line), none);
    let strict = run(&server, &format!("{line} --strict"));
    assert_eq!(strict, (none.to_owned(), String::new(), 3));
    assert!(!printed(&server, "").contains("11"));
    // A client that may have no listener is unregistered as well.
    let deleted =
        "Push registration successfully deleted for user 12 in context 3 for client 'desk'\n";
    assert_eq!(printed(&server, "-r -c 3 -u 12 -i desk --strict"), deleted);
}

#[test]
fn devices_are_listed_tested_and_told_why_they_did_not_ring() {
    let server = server("");
    let push = |line: &str| {
        let words = ["push"].into_iter().chain(line.split_whitespace());
        let output = server.command(words).output().expect("dovecast");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().expect("a code");
        (text(&output.stdout), text(&output.stderr), code)
    };
    for act in ["devices", "test", "why"] {
        let (_, error, code) = push(&format!("{act} -c 3 -u 11"));
        assert_eq!(error, "dovecast: user 11 in context 3 has no device\n");
        assert_eq!(code, 1);
    }
    subscribe(&server, ("3", "11"), "phone");
    let (out, _, code) = push("devices -c 3 -u 11");
    assert!(
        out.contains("phone") && out.contains("...3/11") && code == 0,
        "{out}"
    );
    assert!(!out.contains("127.0.0.1"), "{out}");
    // Nobody listens at its URL.
    let (out, _, code) = push("test -c 3 -u 11 --client phone --json");
    let tested: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&tested[0]["accepted"], code), (&json!(false), 1), "{out}");
    let (out, error, code) = push("why -c 3 -u 11");
    assert_eq!((&*error, code), ("", 0));
    for line in [
        "events: all of the log are read",
        "permanent listener: denied: no client with a subscription is allowed",
        "heard: by no source",
        "device of client `phone`, webhook, token ...3/11",
        "  topics: ox:mail:new: new mail rings",
        "  waiting: 0",
    ] {
        assert!(
            out.lines().any(|one| one == line),
            "`{line}` is not in {out}"
        );
    }
    assert!(!out.contains("none yet"), "{out}");
    let (_, error, code) = push("why -c 3 -u 11 --client desk");
    assert_eq!(
        error,
        "dovecast: user 11 in context 3 has no device of the client `desk`\n"
    );
    assert_eq!(code, 1);
}

#[test]
fn another_dovecast_is_asked_over_http_by_its_administrator() {
    let dir = tempfile::tempdir().expect("a directory");
    let password = dir.path().join("password");
    fs::write(&password, "geheim\n").expect("a file");
    let admin = format!(
        "admin = {{ user = 'oxadmin', password_file = '{}' }}\nallowed_clients = []",
        password.display()
    );
    let server = server(&admin);
    subscribe(&server, ("3", "11"), "phone");
    let address = server.address().expect("an address");
    let place = format!("-s {} -p {}", address.ip(), address.port());
    let admin = format!("{place} -A oxadmin -P geheim");
    let users = "Context User Permanent\n      3 11   true     \n";
    assert_eq!(printed(&server, &format!("--list {admin}")), users);
    assert_eq!(printed(&server, "--list -A oxadmin -P secret"), users);
    let explained = printed(&server, &format!("--explain -c 3 -u 11 {admin}"));
    assert!(
        explained.ends_with("permanent listener: started\n"),
        "{explained}"
    );
    let refused = run(&server, &format!("--list {place} -A oxadmin -P secret"));
    let text = "dovecast: user or password is not that of [mail_push.admin]\n";
    assert_eq!(refused, (String::new(), text.to_owned(), 255));
    let deleted = printed(&server, &format!("-r -c 3 -u 11 -i phone {admin}"));
    assert!(
        deleted.starts_with("Push registration successfully deleted"),
        "{deleted}"
    );
    assert!(!server.server_log().contains("geheim"));
    // Whoever is not the administrator learns nothing, whatever is asked.
    let open = self::server("");
    let address = open.address().expect("an address");
    let line = format!("-l -p {} -A a -P b", address.port());
    let (out, error, code) = run(&open, &line);
    assert_eq!((&*out, code), ("", 255), "{error}");
    assert!(error.contains("are not configured"), "{error}");
    let (_, error, code) = run(&open, "-l -s mail.example.org -A a -P b");
    assert!(error.contains("without encryption") && code == 1, "{error}");
}

#[test]
fn why_a_mailbox_is_not_heard_is_said() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = free.local_addr().expect("an address");
    drop(free);
    let server = server(&format!(
        "allowed_clients = ['phone']\npassword_source = 'global'\nmaster_user = 'm'\nmaster_password = 'geheim'\n\
         sources = {{ order = ['imapidle'] }}\n\
         imapidle = {{ server = 'imap://{nobody}', imap_insecure = true, supports_permanent_listeners = true }}"
    ));
    subscribe(&server, ("3", "11"), "phone");
    let heard = poll_until(PATIENCE, || {
        let mut why = server.command(["push", "why", "-c", "3", "-u", "11"]);
        let said = why.output().expect("dovecast").stdout;
        let said = String::from_utf8_lossy(&said).into_owned();
        let mut lines = said.lines();
        let heard = lines.find(|line| line.starts_with("heard: by `imapidle`"));
        heard
            .filter(|line| line.contains("but not since"))
            .map(str::to_owned)
    });
    let heard = heard.expect("it is said");
    assert!(
        heard.contains("no connection to the IMAP server"),
        "{heard}"
    );
    assert!(!heard.contains("geheim"), "{heard}");
}

#[test]
fn what_is_denied_is_said_with_its_reason() {
    let server = server(
        "allowed_clients = []\nsources = { order = ['imapidle', 'events'] }\nallow_permanent_push = false",
    );
    subscribe(&server, ("3", "11"), "phone");
    assert_eq!(
        printed(&server, "--explain -c 3 -u 11"),
        "allow_permanent_push: false\npermanent listener: denied: `allow_permanent_push` is false\n"
    );
    assert_eq!(
        printed(&server, ""),
        "No running push users on this node.\n"
    );
}

#[test]
fn an_answer_is_waited_for_no_longer_than_is_said() {
    let builder = Server::builder().binary(env!("CARGO_BIN_EXE_dovecast"));
    let server = builder.prepare().expect("a server that does not run");
    // Whoever connects to these is never answered.
    let http = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = http.local_addr().expect("an address").port();
    fs::create_dir_all(server.data_dir()).expect("a directory");
    let _control = UnixListener::bind(server.control_socket()).expect("a socket");
    for place in [String::new(), format!("-p {port} -A a -P b")] {
        let line = format!("pushusers -l {place} --responsetimeout 1");
        let mut command = server.command(line.split_whitespace());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut asking = command.spawn().expect("dovecast");
        let ended = poll_until(PATIENCE, || asking.try_wait().expect("its state"));
        if ended.is_none() {
            asking.kill().expect("it is ended");
        }
        let output = asking.wait_with_output().expect("its output");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.contains("no answer within 1 seconds"),
            "{line}: {error}"
        );
        assert_eq!(output.status.code(), Some(1), "{line}: {error}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn a_wrong_line_ends_with_1() {
    let mut server = server("");
    for line in ["-l -r", "-l -r -c 1 -u 2 -i a"] {
        let (out, error, code) = run(&server, line);
        let expected = "The options -l and -r are mutually exclusive.\n";
        assert!(
            error.starts_with(expected) && error.contains("--list-client"),
            "{line}: {error}"
        );
        assert_eq!((&*out, code), ("", 1), "{line}");
    }
    for line in ["-r", "-x", "--explain -c 3", "-r -c 3 -u 11", "--strict"] {
        let (out, error, code) = run(&server, line);
        assert_eq!((&*out, code), ("", 1), "{line}");
        assert!(error.contains("pushusers"), "{line}: {error}");
    }
    for line in ["-h", "--help"] {
        let help = printed(&server, line);
        assert!(
            help.contains("-r -c <contextId> -u <userId> -i <client>"),
            "{help}"
        );
    }
    server.stop().expect("it stops");
    let (_, error, code) = run(&server, "");
    assert!(
        error.starts_with("dovecast: Unable to connect to server: cannot connect to `"),
        "{error}"
    );
    assert_eq!(code, 1);
}
