//! What Dovecot's own driver `ox` sends, on its way into the log.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::{Value, json};

use crate::setup::{World, bearer, cases, delivering, text};
use crate::sources::endpoint;

cases![
    what_ox_sends_is_delivered_once,
    what_ox_sends_is_refused_with_the_reason,
    without_credentials_nobody_may_send_as_ox,
    a_mail_has_no_name_of_another_domain,
    a_mail_that_does_not_say_whose_it_is_is_refused_where_it_has_to,
    a_mail_of_one_user_keeps_no_mail_of_another_out,
    servers_with_one_key_file_give_a_mail_one_id,
    who_tries_passwords_is_held_off,
];

const ARRIVAL: Duration = dovecast_testkit::PATIENCE;
const OX: &str = "/preliminary/http-notify/v1/notify";
pub(crate) const PASSWORD: &str = "s3:cret";

/// A server that takes what ox sends, and delivers it.
fn ox_server(world: &World) -> Result<Server> {
    let credentials = format!("[ox]\nuser = 'dovecot'\npassword = '{PASSWORD}'");
    delivering(world.fresh()?.0).config(&credentials).start()
}

/// As Dovecot's driver does it.
pub(crate) fn put(
    server: &Server,
    login: Option<&str>,
    body: impl Into<Vec<u8>>,
) -> Result<Answer> {
    put_of(server, "from=dovecot", login, body)
}

fn put_of(
    server: &Server,
    query: &str,
    login: Option<&str>,
    body: impl Into<Vec<u8>>,
) -> Result<Answer> {
    let mut request = Request::new("PUT", &format!("{OX}?{query}"))
        .header("Content-Type", "application/json; charset=utf-8");
    if let Some(login) = login {
        let login = format!("Basic {}", STANDARD.encode(login));
        request = request.header("Authorization", &login);
    }
    server.ask(&request.body(body))
}

pub(crate) fn login() -> String {
    format!("dovecot:{PASSWORD}")
}

pub(crate) fn mail(user: &str, uid: u32) -> Value {
    json!({"user": user, "event": "messageNew", "folder": "INBOX", "imap-uidvalidity": 1_795_210_528, "imap-uid": uid,
        "from": "=?utf-8?q?B=C3=B6b?= <bob@example.org>, eve@example.org", "subject": "=?utf-8?b?w7w=?=",
        "snippet": "Hello", "unseen": 3})
}

fn what_ox_sends_is_delivered_once(world: &World) -> Result<()> {
    let mut server = ox_server(world)?;
    let admin = bearer(&server, &server.admin_token()?);
    let new = json!({"token": {"name": "t", "account_number": "alice@example.org"}});
    let token = text(&admin.post("/tokens", &new)?.with(201)?.json["meta"]["token"])?;
    let sink = endpoint(&bearer(&server, &token))?;
    let first = mail("alice@example.org", 1);
    for _ in 0..2 {
        let answer = put(&server, Some(&login()), first.to_string())?;
        ensure!(
            answer.status == 200 && answer.body == r#"{"success":true}"#,
            "{answer:?}"
        );
    }
    sink.wait_for(1, ARRIVAL)?;
    // The window of ids survives.
    ensure!(server.stop()?.success());
    server.start_again()?;
    ensure!(put(&server, Some(&login()), first.to_string())?.status == 200);
    // A byte order mark is no part of the mail.
    let marked = format!("\u{feff}{first}");
    ensure!(put(&server, Some(&login()), marked)?.status == 200);
    let mut second = mail("alice@example.org", 2);
    second["event"] = json!("MessageNew");
    second["from"] = json!("nobody at all");
    ensure!(put(&server, Some(&login()), second.to_string())?.status == 200);
    let hooks = sink.wait_for(2, ARRIVAL)?;
    let values = server.values("dovecot")?;
    ensure!(
        values[0]
            == r#"{"user":"alice@example.org","mailbox":"INBOX","event":"MessageNew","uidvalidity":1795210528,"uid":1,"from":"=?utf-8?q?B=C3=B6b?= <bob@example.org>, eve@example.org","snippet":"Hello","subject":"=?utf-8?b?w7w=?=","unseen":3,"fromAddress":"bob@example.org","fromDisplayName":"Böb","subjectDecoded":"ü"}"#,
        "{values:?}"
    );
    ensure!(
        values.len() == 2 && hooks.len() == 2,
        "{values:?} {hooks:?}"
    );
    let body: Value = serde_json::from_str(&hooks[0].body)?;
    ensure!(body["application"] == "dovecot" && body["event_type"] == "MessageNew");
    ensure!(body["message"] == serde_json::from_str::<Value>(&values[0])?);
    let record = server.records("dovecot")?.remove(0);
    for header in [
        "dovecast-id",
        "dovecast-time",
        "dovecast-host",
        "dovecast-txn-last",
    ] {
        ensure!(record.contains(header), "no {header}: {record}");
    }
    ensure!(!server.server_log().contains(PASSWORD));
    Ok(())
}

fn what_ox_sends_is_refused_with_the_reason(world: &World) -> Result<()> {
    let server = ox_server(world)?;
    let body = mail("alice", 1).to_string();
    let (wrong, other) = ("dovecot:wrong", format!("dovecat:{PASSWORD}"));
    for login in [None, Some(""), Some("dovecot"), Some(wrong), Some(&*other)] {
        let answer = put(&server, login, body.clone())?;
        let challenge = answer.header("www-authenticate");
        ensure!(
            answer.status == 401 && challenge == Some("Basic realm=\"dovecast\""),
            "{login:?}: {answer:?}"
        );
    }
    let long = format!("{{\"user\":\"{}\"}}", "x".repeat(256 * 1024));
    let mut read = mail("alice", 1);
    read["event"] = json!("MessageRead");
    for (body, status, reason) in [
        (String::new(), 400, "the body is not JSON"),
        ("[]".to_owned(), 400, "the body is not a JSON object"),
        ("{}".to_owned(), 422, "`event`"),
        (read.to_string(), 422, "`event`"),
        (mail("", 1).to_string(), 422, "`user`"),
        (mail("alice", 0).to_string(), 422, "`imap-uid`"),
        (long, 413, "262144 bytes"),
    ] {
        let answer = put(&server, Some(&login()), body)?;
        let json: Value = serde_json::from_str(&answer.body)?;
        let error = text(&json["error"])?;
        ensure!(
            answer.status == status && json["success"] == false && error.contains(reason),
            "{answer:?}"
        );
    }
    ensure!(server.ask(&Request::get(OX))?.status == 405);
    ensure!(server.values("dovecot")?.is_empty());
    Ok(())
}

fn without_credentials_nobody_may_send_as_ox(world: &World) -> Result<()> {
    let key = world.server.data_dir().join("ox.key");
    ensure!(!key.exists(), "a key that nobody needs");
    for login in [None, Some(login())] {
        let answer = put(&world.server, login.as_deref(), mail("a", 1).to_string())?;
        ensure!(
            answer.status == 403 && answer.body.contains("not configured"),
            "{answer:?}"
        );
    }
    Ok(())
}

/// What an IMAP user writes into his METADATA is his name with `user_from_metadata`.
fn a_mail_has_no_name_of_another_domain(world: &World) -> Result<()> {
    let server = ox_server(world)?;
    for (user, status) in [
        ("ceo@victim.example", 403),
        ("ceo", 403),
        ("joe@example.org", 200),
        ("anna@example.org", 200),
    ] {
        let body = mail(user, 1).to_string();
        let answer = put_of(&server, "of=joe@example.org", Some(&login()), body)?;
        ensure!(answer.status == status, "{user}: {answer:?}");
        let is_named = answer.body.contains("`users` of [ox]");
        ensure!(is_named == (status == 403), "{answer:?}");
    }
    let values = server.values("dovecot")?;
    ensure!(values.len() == 2, "{values:?}");
    ensure!(
        !values.iter().any(|value| value.contains("ceo")),
        "{values:?}"
    );
    // A name may be as long as the body.
    let body = mail(&"x".repeat(200_000), 1).to_string();
    let answer = put_of(&server, "of=joe@example.org", Some(&login()), body)?;
    ensure!(
        answer.status == 403 && answer.body.len() < 1000,
        "{answer:?}"
    );
    let log = server.server_log();
    ensure!(log.lines().all(|line| line.len() < 2000), "{log}");
    Ok(())
}

/// Whose such a mail is nobody can tell: with `user_from_metadata` anybody's.
fn a_mail_that_does_not_say_whose_it_is_is_refused_where_it_has_to(world: &World) -> Result<()> {
    let section = format!("[ox]\nuser = 'dovecot'\npassword = '{PASSWORD}'\nrequire_owner = true");
    let server = delivering(world.fresh()?.0).config(&section).start()?;
    let body = mail("ceo@victim.example", 1).to_string();
    let answer = put(&server, Some(&login()), body.clone())?;
    ensure!(
        answer.status == 403 && answer.body.contains("put `?of=%u`"),
        "{answer:?}"
    );
    ensure!(server.values("dovecot")?.is_empty());
    let owner = "of=ceo@victim.example";
    let answer = put_of(&server, owner, Some(&login()), body.clone())?;
    ensure!(answer.status == 200, "{answer:?}");
    server.log_with(&["a mail was refused: its URL does not say whose it is"])?;
    // Where it need not be said, the log warns at the start and of the mail.
    let lenient = ox_server(world)?;
    let at_start = "[ox] takes any user's name of a mail whose URL does not say whose it is";
    lenient.log_with(&["WARN", at_start, "require_owner = true"])?;
    let answer = put(&lenient, Some(&login()), body)?;
    ensure!(answer.status == 200, "{answer:?}");
    let of_mail = "the name of a mail is believed";
    lenient.log_with(&["WARN", of_mail, "ceo@victim.example"])?;
    let log = server.server_log();
    ensure!(!log.contains(at_start) && !log.contains(of_mail), "{log}");
    Ok(())
}

/// Eve names herself as Anna, with the numbers of a mail that Anna gets later.
fn a_mail_of_one_user_keeps_no_mail_of_another_out(world: &World) -> Result<()> {
    let server = ox_server(world)?;
    let body = mail("anna@example.org", 1).to_string();
    for owner in ["eve@example.org", "anna@example.org", "anna@example.org"] {
        let answer = put_of(&server, &format!("of={owner}"), Some(&login()), &*body)?;
        ensure!(answer.status == 200, "{owner}: {answer:?}");
    }
    let values = server.values("dovecot")?;
    ensure!(values.len() == 2, "{values:?}");
    Ok(())
}

/// Servers behind one address: a mail that is reported again comes to the other one.
fn servers_with_one_key_file_give_a_mail_one_id(world: &World) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let key = dir.path().join("ox.key");
    let with_key = || -> Result<Server> {
        let section = format!(
            "[ox]\nuser = 'dovecot'\npassword = '{PASSWORD}'\nkey_file = '{}'",
            key.display()
        );
        delivering(world.fresh()?.0).config(&section).start()
    };
    let mut ids = Vec::new();
    for server in [with_key()?, with_key()?, ox_server(world)?] {
        let body = mail("anna@example.org", 1).to_string();
        ensure!(put(&server, Some(&login()), body)?.status == 200);
        let record: Value = serde_json::from_str(&server.records("dovecot")?.remove(0))?;
        let headers = record["headers"].as_array().context("no headers")?;
        let mut named = headers
            .iter()
            .filter(|header| header["name"] == "dovecast-id");
        ids.push(named.next().context("no id")?["value"].clone());
    }
    ensure!(ids[0] == ids[1] && ids[0] != ids[2], "{ids:?}");
    Ok(())
}

fn who_tries_passwords_is_held_off(world: &World) -> Result<()> {
    let server = ox_server(world)?;
    let refused = poll_until(ARRIVAL, || {
        let answer = put(&server, Some("dovecot:guess"), "{}");
        answer
            .map(|answer| (answer.status != 401).then_some(answer))
            .transpose()
    });
    let refused = refused.context("nobody is held off")??;
    ensure!(refused.status == 429, "{refused:?}");
    let after = refused.header("retry-after").context("no Retry-After")?;
    ensure!(after.parse::<u64>()? > 0, "{after}");
    let counted =
        |reason| server.metric(&format!("dovecast_ox_refused_total{{reason=\"{reason}\"}}"));
    ensure!(counted("password")? >= 11.0 && counted("held_off")? >= 1.0);
    server.log_with(&["a request has another user or password than [ox]; it is refused"])?;
    // Where the right one came from may be wrong as often as it likes.
    let known = ox_server(world)?;
    let answer = put(&known, Some(&login()), "{}")?;
    ensure!(!matches!(answer.status, 401 | 429), "{answer:?}");
    for _ in 0..20 {
        let answer = put(&known, Some("dovecot:guess"), "{}")?;
        ensure!(answer.status == 401, "{answer:?}");
    }
    Ok(())
}
