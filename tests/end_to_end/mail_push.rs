//! A person subscribes a device of `dovecast serve`, which hears the mailbox of a Dovecot without
//! our plugin by each of the sources, with and without a session.

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, PASSWORD};
use dovecast_testkit::endpoint::{Hook, HookEndpoint};
use dovecast_testkit::http::{Answer, Request};
use dovecast_testkit::server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::case::cases;
use crate::mail_sources::{MASTER_PASSWORD, MASTER_USER, masters};
use crate::setup::{ARRIVAL, listen_at, ox_by_metadata};

cases![
    imapidle_rings_and_misses_nothing_through_a_restart_without_a_session,
    a_session_outlives_the_server_and_credentials_in_memory_do_not,
    a_master_user_hears_mailboxes_whose_passwords_nobody_has,
    metadata_by_imap_rings_and_is_taken_away_in_the_end,
    metadata_by_doveadm_needs_no_password,
    datagrams_ring_with_the_mail_that_came,
    a_password_that_is_refused_is_tried_no_more,
];

const MAIL: &[u8] = b"From: =?utf-8?q?B=C3=B6b?= <bob@sender.example>\r\nTo: alice\r\n\
    Subject: Hello\r\n\r\nHello Alice.\r\n";
const API_KEY: &str = "k3y of doveadm";
const DOVEADM_PORT: u16 = 8080;
/// Passwords outlive the server, sealed with what systemd gives it.
const STORED: &str = "[mail_push.credstorage]\nenabled = true\nrdb = true\n\
    passcrypt_file = 'credential:passcrypt'\n";
const IDLE: &str = "[mail_push.sources]\norder = ['imapidle']\n[mail_push.imapidle]\n\
    server = 'imap://IMAP'\nimap_insecure = true\nsupports_permanent_listeners = true\n";
/// How long a mail is waited for before another one is sent, while it is not known whether the
/// mailbox is heard already.
const NEXT_MAIL: Duration = Duration::from_secs(2);

/// A Dovecot, a server that hears it, and the device of alice.
struct World {
    dovecot: Dovecot,
    server: Server,
    device: HookEndpoint,
    _credentials: TempDir,
}

impl World {
    /// `mail_push`: sections of the configuration, in which `IMAP` and `DOVECOT` stand for the
    /// addresses of Dovecot.
    fn start(on: Installation, mail_push: &str, dovecot: &str) -> Result<Self> {
        Self::with(on, "", mail_push, dovecot)
    }

    /// A world with settings of `[mail_push]` itself.
    fn with(on: Installation, settings: &str, mail_push: &str, dovecot: &str) -> Result<Self> {
        let credentials = TempDir::new()?;
        fs::write(credentials.path().join("passcrypt"), "of the test\n")?;
        let mut server = Server::builder()
            .env("CREDENTIALS_DIRECTORY", credentials.path())
            .config("[ox]\nuser = 'dovecot'\npassword = 's3cret'")
            .config("[dispatch]\nallowed_networks = ['127.0.0.0/8']")
            .start()?;
        let address = server.address()?.to_string();
        let dovecot = Dovecot::builder()
            .installation(on)
            .driver(&ox_by_metadata(on, &address))
            .config(dovecot)
            .start()?;
        server.stop()?;
        let host = dovecot.address().to_string();
        let imap = format!("{host}:{}", dovecot.imap_port());
        listen_at(&server, &address)?;
        let text = fs::read_to_string(server.config_file())?;
        let auth = "[mail_push.auth]\nimap = 'imap://IMAP'\nimap_insecure = true\n";
        let settings = format!("[mail_push]\nallowed_clients = ['phone*']\n{settings}");
        let more = format!("{settings}{auth}{mail_push}");
        let more = more.replace("IMAP", &imap).replace("DOVECOT", &host);
        fs::write(server.config_file(), format!("{text}{more}"))?;
        server.start_again()?;
        let device = HookEndpoint::start()?;
        Ok(Self {
            dovecot,
            server,
            device,
            _credentials: credentials,
        })
    }

    fn ask(&self, method: &str, path: &str, token: &str, body: &Value) -> Result<Answer> {
        let request = Request::new(method, &format!("/api/push/v1{path}"))
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json");
        let request = match body {
            Value::Null => request,
            body => request.body(body.to_string()),
        };
        self.server.ask(&request)
    }

    fn log_in(&self, password: &str) -> Result<String> {
        let body = json!({ "login": "alice", "password": password });
        let answer = self.ask("POST", "/sessions", "none", &body)?;
        ensure!(answer.status == 201, "{answer:?}");
        let begun: Value = serde_json::from_str(&answer.body)?;
        let token = begun["session"].as_str().context("no session")?;
        Ok(token.to_owned())
    }

    /// Subscribes the device; its id.
    fn subscribe(&self, token: &str, client: &str) -> Result<String> {
        let body = json!({ "client": client, "transport": "webhook", "topics": ["mail:new"],
            "content": "snippet", "webhook": { "url": self.device.url() } });
        let answer = self.ask("POST", "/subscriptions", token, &body)?;
        ensure!(answer.status == 201, "{answer:?}");
        let made: Value = serde_json::from_str(&answer.body)?;
        let id = made["subscription"]["id"].as_str().context("no id")?;
        Ok(id.to_owned())
    }

    /// Logs in, subscribes a client that is allowed, and ends the session.
    fn subscribe_without_session(&self) -> Result<()> {
        let token = self.log_in(PASSWORD)?;
        self.subscribe(&token, "phone1")?;
        self.end_session(&token)
    }

    fn end_session(&self, token: &str) -> Result<()> {
        let ended = self.ask("DELETE", "/sessions/current", token, &Value::Null)?;
        ensure!(ended.status == 204, "{ended:?}");
        Ok(())
    }

    fn deliver(&self) -> Result<()> {
        let mut lmtp = self.dovecot.lmtp()?;
        lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
        lmtp.quit()?;
        Ok(())
    }

    /// Sends mails until one rings: then the mailbox is heard. The UID of the last mail.
    fn until_heard(&self) -> Result<u64> {
        let mut sent = 0;
        for _ in 0..30 {
            self.deliver()?;
            sent += 1;
            if let Ok(hooks) = self.device.wait_for(1, NEXT_MAIL) {
                let last = uid(hooks.last().context("a hook")?)?;
                ensure!(last <= sent, "{hooks:?}");
                self.until_rung(sent)?;
                return Ok(sent);
            }
        }
        let log = self.server.server_log();
        anyhow::bail!("the mailbox is not heard; {log}")
    }

    /// Waits until the mail with this UID has rung.
    fn until_rung(&self, last: u64) -> Result<()> {
        let rung = |hooks: &[Hook]| hooks.iter().any(|hook| uid(hook).ok() == Some(last));
        let mut count = 1;
        loop {
            let hooks = self.device.wait_for(count, ARRIVAL)?;
            if rung(&hooks) {
                return Ok(());
            }
            count = hooks.len() + 1;
        }
    }

    /// UIDs of mails that have rung, in their order.
    fn rung(&self) -> Result<Vec<u64>> {
        let mut uids: Vec<u64> = self.device.hooks().iter().map(uid).collect::<Result<_>>()?;
        uids.sort_unstable();
        Ok(uids)
    }
}

fn uid(hook: &Hook) -> Result<u64> {
    let body: Value = serde_json::from_str(&hook.body)?;
    let uid = body["payload"]["uid"].as_u64();
    uid.with_context(|| format!("no UID in {body}"))
}

fn imapidle_rings_and_misses_nothing_through_a_restart_without_a_session(
    on: Installation,
) -> Result<()> {
    let mut world = World::start(on, &format!("{STORED}{IDLE}"), "")?;
    world.subscribe_without_session()?;
    let last = world.until_heard()?;
    let before = world.rung()?;
    // What comes while nobody is there rings, and what has rung does not again, but where its
    // answer was not written down yet.
    world.server.kill()?;
    world.deliver()?;
    world.deliver()?;
    world.server.start_again()?;
    world.until_rung(last + 2)?;
    world.deliver()?;
    world.until_rung(last + 3)?;
    let mut expected = before;
    expected.extend([last + 1, last + 2, last + 3]);
    let mut rung = world.rung()?;
    let again = rung.windows(2).filter(|two| two[0] == two[1]);
    ensure!(again.clone().all(|two| two[0] <= last), "{rung:?}");
    rung.dedup();
    ensure!(rung == expected, "{rung:?}");
    let database = fs::read(world.server.data_dir().join("state.db"))?;
    let log = world.server.server_log();
    ensure!(!log.contains("Hello Alice"), "{log}");
    ensure!(
        !String::from_utf8_lossy(&database).contains("\"password\""),
        "a password is in the database"
    );
    Ok(())
}

fn a_session_outlives_the_server_and_credentials_in_memory_do_not(on: Installation) -> Result<()> {
    let memory = STORED.replace("rdb = true", "rdb = false");
    let mut world = World::start(on, &format!("{memory}{IDLE}"), "")?;
    world.subscribe_without_session()?;
    let last = world.until_heard()?;
    let token = world.log_in(PASSWORD)?;
    world.server.stop()?;
    world.server.start_again()?;
    let shown = world.ask("GET", "/subscriptions", &token, &Value::Null)?;
    ensure!(shown.status == 200, "{shown:?}");
    world.deliver()?;
    let heard = world.device.wait_for(world.device.count() + 1, NEXT_MAIL);
    ensure!(heard.is_err(), "somebody still has the password");
    // The next login brings it, and what was missed.
    world.log_in(PASSWORD)?;
    world.until_rung(last + 1)
}

fn a_master_user_hears_mailboxes_whose_passwords_nobody_has(on: Installation) -> Result<()> {
    let settings = format!(
        "password_source = 'global'\nmaster_user = '{MASTER_USER}'\nmaster_password = '{MASTER_PASSWORD}'\n"
    );
    let mut world = World::with(on, &settings, IDLE, &masters(on))?;
    world.subscribe_without_session()?;
    let last = world.until_heard()?;
    // Also after a restart, without a login.
    world.server.stop()?;
    world.deliver()?;
    world.server.start_again()?;
    world.until_rung(last + 1)?;
    let log = world.server.server_log();
    ensure!(!log.contains(MASTER_PASSWORD), "{log}");
    Ok(())
}

fn metadata_by_imap_rings_and_is_taken_away_in_the_end(on: Installation) -> Result<()> {
    let dovecot = "[mail_push.sources]\norder = ['dovecot']\n[mail_push.dovecot]\n\
        imap = 'imap://IMAP'\nimap_insecure = true\n";
    let world = World::start(on, &format!("{STORED}{dovecot}"), "")?;
    let token = world.log_in(PASSWORD)?;
    let id = world.subscribe(&token, "phone1")?;
    world.until_heard()?;
    let path = format!("/subscriptions/{id}");
    ensure!(world.ask("DELETE", &path, &token, &Value::Null)?.status == 204);
    world.end_session(&token)?;
    until_no_entry(&world.dovecot)
}

fn metadata_by_doveadm_needs_no_password(on: Installation) -> Result<()> {
    let config = format!(
        "doveadm_api_key = {API_KEY}\nservice doveadm {{\n  inet_listener http {{\n    port = {DOVEADM_PORT}\n  }}\n}}\n"
    );
    let key = tempfile::NamedTempFile::new()?;
    fs::write(key.path(), API_KEY)?;
    let section = format!(
        "[mail_push.sources]\norder = ['dovecot']\n[mail_push.dovecot]\n\
         doveadm_url = 'http://DOVECOT:{DOVEADM_PORT}/doveadm/v1'\ndoveadm_api_key_file = 'file:{}'\n",
        key.path().display()
    );
    let world = World::start(on, &section, &config)?;
    let token = world.log_in(PASSWORD)?;
    let id = world.subscribe(&token, "phone1")?;
    world.end_session(&token)?;
    world.until_heard()?;
    let token = world.log_in(PASSWORD)?;
    let path = format!("/subscriptions/{id}");
    ensure!(world.ask("DELETE", &path, &token, &Value::Null)?.status == 204);
    world.end_session(&token)?;
    until_no_entry(&world.dovecot)
}

/// Waits until the METADATA entry of alice is gone.
fn until_no_entry(dovecot: &Dovecot) -> Result<()> {
    let mut imap = dovecot.login("alice")?;
    let gone = dovecast_testkit::process::poll_until(ARRIVAL, || {
        let entry = imap.ok(r#"GETMETADATA "" /private/vendor/vendor.dovecot/http-notify"#);
        match entry {
            Ok(answer) => {
                let is_there = |line: &Vec<u8>| String::from_utf8_lossy(line).contains("user=");
                (!answer.untagged.iter().any(is_there)).then_some(Ok(()))
            }
            Err(error) => Some(Err(error)),
        }
    });
    gone.context("the entry stays")?
}

fn datagrams_ring_with_the_mail_that_came(on: Installation) -> Result<()> {
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let notify = format!(
        "[mail_push.sources]\norder = ['mailnotify']\n[mail_push.mailnotify]\n\
         listen = '127.0.0.1:{port}'\ndelay_millis = 1000\n[mail_push.imapidle]\n\
         server = 'imap://IMAP'\nimap_insecure = true\n"
    );
    let world = World::start(on, &format!("{STORED}{notify}"), "")?;
    world.subscribe_without_session()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let packet = b"log\0MAIL\0\0Alice\0INBOX\x000\0\0";
    let ring = |packet: &[u8]| socket.send_to(packet, ("127.0.0.1", port));
    for _ in 0..30 {
        world.deliver()?;
        // Rubbish ends nothing.
        ring(b"")?;
        ring(&[0; 2000])?;
        ring(packet)?;
        if world.device.wait_for(1, NEXT_MAIL).is_ok() {
            break;
        }
    }
    world.device.wait_for(1, ARRIVAL)?;
    // The first ring may have come before anything was known of the mailbox; the next one says
    // which mail it is.
    let is_told = |hook: &Hook| hook.body.contains("Hello Alice.");
    let mut tries = 0..30;
    while !world.device.hooks().iter().any(is_told) {
        if tries.next().is_none() {
            anyhow::bail!("no mail is told: {:?}", world.device.hooks());
        }
        world.deliver()?;
        ring(packet)?;
        let count = world.device.count();
        // The next turn sends another one where this one did not ring.
        let _ = world.device.wait_for(count + 1, NEXT_MAIL);
    }
    // Of two mails within the delay the second one is told as well.
    for _ in 0..2 {
        world.deliver()?;
        ring(packet)?;
    }
    let mut imap = world.dovecot.login("alice")?;
    let last = imap.ok("STATUS INBOX (MESSAGES)")?.find("MESSAGES");
    let last = last.context("no number of mails")?;
    let last = last
        .split(['(', ')', ' '])
        .find_map(|word| word.parse().ok());
    let last: u64 = last.context("no mails")?;
    let is_last = |hook: &Hook| uid(hook).is_ok_and(|uid| uid == last);
    let told = dovecast_testkit::process::poll_until(ARRIVAL, || {
        world.device.hooks().iter().any(is_last).then_some(())
    });
    told.with_context(|| format!("not told of {last}: {:?}", world.device.hooks()))
}

fn a_password_that_is_refused_is_tried_no_more(on: Installation) -> Result<()> {
    let mut world = World::start(on, &format!("{STORED}{IDLE}"), "")?;
    world.subscribe_without_session()?;
    let last = world.until_heard()?;
    let file = world.dovecot.config_path();
    let config = fs::read_to_string(&file)?;
    let changed = config
        .replace(&format!("password={PASSWORD}"), "password=another")
        .replace(&format!("password = {PASSWORD}"), "password = another");
    ensure!(changed != config, "no password in {config}");
    fs::write(&file, changed)?;
    world.dovecot.restart()?;
    let refused = "the mail server refuses the password of a person";
    world.server.log_with(&[refused])?;
    world.deliver()?;
    world.server.stop()?;
    world.server.start_again()?;
    world.log_in("another")?;
    world.until_rung(last + 1)?;
    let log = world.server.server_log();
    ensure!(log.matches(refused).count() == 1, "{log}");
    ensure!(!log.contains("another"), "a password is in the log");
    Ok(())
}
