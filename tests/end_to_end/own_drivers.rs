//! Dovecot's own driver `ox` and that of `dovecast serve` side by side, on one session: what an OX
//! end-point gets of each is equal byte for byte but for the time, in the same order. And an
//! end-point that was away gets everything once, in order, when it is back.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, Series};
use dovecast_testkit::loopback;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::server::Server;
use serde_json::Value;

use crate::case::cases;
use crate::relay::server_for;
use crate::setup::{ARRIVAL, deliver_all, with_plugin};
use crate::story::check_alive;

cases![
    an_ox_end_point_gets_the_same_requests_of_both,
    what_was_imported_of_a_dovecot_sends_what_it_sent,
    an_ox_end_point_that_was_away_gets_everything_once_and_in_order,
];

const METADATA: &str = "/private/vendor/vendor.dovecot/http-notify";
pub(crate) const MAILS: [&[u8]; 3] = [
    b"From: =?utf-8?q?B=C3=B6b?= <bob@sender.example>\r\nTo: alice\r\nSubject: =?utf-8?b?w7w=?=\r\n\tone\r\n\r\nHello \"there\".\r\n",
    b"From: Carol <carol@sender.example>\r\nSubject: a\\b \xc3\xa4\r\n\r\nSecond \xe2\x80\xa8line.\r\n",
    b"From: \r\nSubject: \r\n\r\nx\r\n",
];

/// Controls, which 2.3 and 2.4 write in JSON each in its own way.
const CONTROLS: &[u8] = b"From: bob@sender.example\r\nSubject: a\x1fb\x0bc\x7fd\r\n\r\nx\r\n";

/// Sent last: what has come before it is all that comes.
const LAST: &[u8] = b"From: bob@sender.example\r\nSubject: the last one\r\n\r\nx\r\n";

/// Users and mails of each of them while an end-point is away.
const USERS: [&str; 3] = ["alice", "bob", "carol"];
const AWAY_MAILS: usize = 10;

/// A server of HTTP that keeps requests as they came.
struct Recorder {
    address: SocketAddr,
    requests: Receiver<Vec<u8>>,
}

impl Recorder {
    fn start() -> Result<Self> {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    fn at(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sender = sender.clone();
                std::thread::spawn(move || -> Result<()> {
                    let mut reader = BufReader::new(stream.try_clone()?);
                    loop {
                        let request = read(&mut reader)?;
                        sender.send(request)?;
                        (&stream).write_all(
                            b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"success\":true}",
                        )?;
                    }
                });
            }
        });
        Ok(Self { address, requests })
    }

    /// The next requests, in the order in which they came, without what tells the time and the
    /// place.
    fn take(&self, count: usize) -> Result<Vec<String>> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let request = self.requests.recv_timeout(ARRIVAL).context("no request")?;
            let text = String::from_utf8(request)?;
            let line = |line: &str| match line {
                date if date.starts_with("Date: ") => "Date: D".to_owned(),
                host if host.starts_with("Host: ") => "Host: H".to_owned(),
                line => line.to_owned(),
            };
            taken.push(
                text.split("\r\n")
                    .map(line)
                    .collect::<Vec<_>>()
                    .join("\r\n"),
            );
        }
        Ok(taken)
    }

    /// Whether no request waits to be looked at.
    fn has_none(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

fn read(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let (mut request, mut length) = (Vec::new(), 0);
    loop {
        let before = request.len();
        ensure!(reader.read_until(b'\n', &mut request)? > 0, "closed");
        let line = String::from_utf8_lossy(&request[before..]).to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.extend(body);
    Ok(request)
}

/// The plugin's driver instance, with what drivers of the server need.
fn plugin() -> String {
    format!("kafka:detail=full keyword_prefix= metadata={METADATA}")
}

/// A Dovecot with a driver of its own beside the plugin, and the server behind the plugin.
pub(crate) fn both(on: Installation, theirs: &str, ours: &str) -> Result<(Dovecot, Server)> {
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver(&plugin())
        .driver(theirs)
        .start()?;
    let server = server_for(&dovecot).config(ours);
    let server = server.config("[logging]\nfilter = 'info,dovecast_dlog=debug'");
    let server = server.start()?;
    Ok((dovecot, server))
}

fn an_ox_end_point_gets_the_same_requests_of_both(on: Installation) -> Result<()> {
    let (theirs, ours) = (Recorder::start()?, Recorder::start()?);
    let path = "preliminary/http-notify/v1/notify?q=1";
    let url = |to: &Recorder| format!("http://login:pass@{}/{path}", to.address);
    // No try is given up while the machine is busy: each makes a request.
    let more = match on.series() {
        Series::V2_3 => "timeout_msecs=20000",
        Series::V2_4 => "",
    };
    let driver = format!("ox:url={} user_from_metadata=yes {more}", url(&theirs));
    // As the Dovecot beside it writes it.
    let ours_as_there = match on.series() {
        Series::V2_3 => format!("driver = 'ox:url={} user_from_metadata {more}'", url(&ours)),
        Series::V2_4 => format!(
            "driver = 'ox'\nox_url = '{}'\nox_user_from_metadata = true\nhttp_client_request_timeout = '20s'",
            url(&ours)
        ),
    };
    let block = format!("[push_notification.ox1]\n{ours_as_there}");
    let (dovecot, _server) = both(on, &driver, &block)?;
    // Nobody is told before the user has said so.
    deliver_all(&dovecot, &MAILS)?;
    switch_on(&dovecot, "alice")?;
    let mails: Vec<&[u8]> = MAILS.into_iter().chain([CONTROLS]).collect();
    deliver_all(&dovecot, &mails)?;
    by_lda(&dovecot, &[])?;
    what_no_end_point_is_told_of(&dovecot)?;
    deliver_all(&dovecot, &[LAST])?;
    // The mail by LDA, and the last one.
    let count = mails.len() + 2;
    let (of_theirs, of_ours) = (theirs.take(count)?, ours.take(count)?);
    ensure!(
        of_theirs == of_ours,
        "Dovecot's: {of_theirs:#?}\nours: {of_ours:#?}"
    );
    ensure!(of_theirs[0].contains("11@3"), "{of_theirs:?}");
    let has = |text: &str| of_theirs.iter().any(|request| request.contains(text));
    ensure!(
        has(r"a\u001fb\u000bc") || has(r"a\u001Fb\u000Bc"),
        "{of_theirs:?}"
    );
    ensure!(of_ours[count - 1].contains("the last one"), "{of_ours:#?}");
    ensure!(
        theirs.has_none() && ours.has_none(),
        "a request behind the last one"
    );
    Ok(())
}

/// Delivers a mail to alice by dovecot-lda.
fn by_lda(dovecot: &Dovecot, more: &[&str]) -> Result<()> {
    let lda = dovecot.lda("alice", MAILS[0], more)?;
    ensure!(lda.status.success(), "dovecot-lda: {lda:?}");
    Ok(())
}

/// Mails that come into a mailbox: another one than INBOX, or not by a delivery.
fn what_no_end_point_is_told_of(dovecot: &Dovecot) -> Result<()> {
    let mut imap = dovecot.login("alice")?;
    imap.ok("CREATE box")?;
    by_lda(dovecot, &["-m", "box"])?;
    imap.ok("SELECT INBOX")?;
    imap.append("INBOX", "", None, MAILS[1])?;
    imap.ok("COPY 1 box")?;
    imap.ok("COPY 1 INBOX")?;
    // All of them are there.
    let box_has = imap.ok("STATUS box (MESSAGES)")?;
    ensure!(box_has.find("MESSAGES 2").is_some(), "{box_has}");
    imap.logout()?;
    Ok(())
}

/// Switches the driver on for a user.
fn switch_on(dovecot: &Dovecot, user: &str) -> Result<()> {
    let mut imap = dovecot.login(user)?;
    imap.ok("SELECT INBOX")?;
    imap.ok(&format!(r#"SETMETADATA "" ({METADATA} "user=11@3")"#))?;
    imap.logout()?;
    Ok(())
}

fn what_was_imported_of_a_dovecot_sends_what_it_sent(on: Installation) -> Result<()> {
    let end_point = Recorder::start()?;
    // 2.3 takes what it is told for as long as a request may be tried here.
    let more = match on.series() {
        Series::V2_3 => "timeout_msecs=60000",
        Series::V2_4 => "",
    };
    let url = format!("http://lo%40gin:p%3ass@{}/notify?x=%20y", end_point.address);
    let driver = format!("ox:url={url} user_from_metadata=yes {more}");
    let plain = with_plugin(on, Build::Dev)?.driver(&driver).start()?;
    switch_on(&plain, "alice")?;
    deliver_all(&plain, &MAILS)?;
    let theirs = end_point.take(MAILS.len())?;
    let doveconf = plain.doveconf()?;
    drop(plain);
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver(&plugin())
        .start()?;
    let printed = dovecot.dir().join("doveconf.txt");
    fs::write(&printed, doveconf)?;
    let server = server_for(&dovecot).prepare()?;
    let toml = server.run(["import-dovecot", &printed.display().to_string()])?;
    let _server = server_for(&dovecot).config(&toml).start()?;
    switch_on(&dovecot, "alice")?;
    deliver_all(&dovecot, &MAILS)?;
    let ours = end_point.take(MAILS.len())?;
    // Each Dovecot has a UIDVALIDITY of its own.
    let comparable = |requests: Vec<String>| -> Vec<String> {
        let without = |request: String| {
            let (head, rest) = request.split_once("\"imap-uidvalidity\":")?;
            let (_, rest) = rest.split_once(',')?;
            Some(format!("{head}{rest}"))
        };
        requests.into_iter().filter_map(without).collect()
    };
    let (theirs, ours) = (comparable(theirs), comparable(ours));
    ensure!(theirs.len() == MAILS.len(), "{theirs:#?}");
    ensure!(
        theirs == ours,
        "Dovecot's: {theirs:#?}\nours: {ours:#?}\n{toml}"
    );
    Ok(())
}

fn an_ox_end_point_that_was_away_gets_everything_once_and_in_order(on: Installation) -> Result<()> {
    const FAILED: &str = "dovecast_dispatch_failed_attempts_total";
    let address = SocketAddr::from((loopback::unique_address(), 8009));
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver(&plugin())
        .start()?;
    let block = format!(
        "[push_notification.ox1]\ndriver = 'ox'\nox_url = 'http://{address}/notify'\nhttp_client_request_timeout = '20s'"
    );
    let server = server_for(&dovecot).config(&block).start()?;
    for user in USERS {
        switch_on(&dovecot, user)?;
    }
    let mut lmtp = dovecot.lmtp()?;
    for _ in 0..AWAY_MAILS {
        lmtp.deliver_ok("bob@sender.example", &USERS, MAILS[1])?;
    }
    // The first one of each user; the others wait behind it.
    server.metric_is(FAILED, |failed| failed >= 3.0)?;
    let end_point = Recorder::at(address)?;
    if server.metric(FAILED)? > 3.5 {
        // What has failed twice waits for minutes, unless somebody asks for it.
        let id = endpoint_of(&server.server_log(), "ox1")?;
        server.run(["redeliver", &id, "--all"])?;
    }
    let mut requests = end_point.take(USERS.len() * AWAY_MAILS)?;
    lmtp.deliver_ok("bob@sender.example", &USERS, LAST)?;
    lmtp.quit()?;
    requests.extend(end_point.take(USERS.len())?);
    let expected: Vec<u64> = (1..=AWAY_MAILS as u64 + 1).collect();
    for user in USERS {
        let uids = uids(&requests, user)?;
        ensure!(uids == expected, "{user}: {uids:?}");
    }
    ensure!(end_point.has_none(), "a request behind the last one");
    let dead = server.run(["dead-letters", "--json"])?;
    ensure!(dead.trim() == "[]", "{dead}");
    check_alive(&dovecot)
}

/// The id that the endpoint of a block has, as the log says it.
fn endpoint_of(log: &str, block: &str) -> Result<String> {
    let named = format!("block=\"{block}\"");
    let is_of_it =
        |line: &&str| line.contains("a driver of the configuration runs") && line.contains(&named);
    let line = log.lines().find(is_of_it);
    let id = line.and_then(|line| line.split_once("endpoint.id="));
    let id = id.and_then(|(_, rest)| rest.split_whitespace().next());
    id.map(str::to_owned).context("the driver has no endpoint")
}

/// UIDs of the mails of a user that an end-point was told of, in order.
fn uids(requests: &[String], user: &str) -> Result<Vec<u64>> {
    let mut uids = Vec::new();
    for request in requests {
        let (_, body) = request.split_once("\r\n\r\n").context("no body")?;
        let told: Value = serde_json::from_str(body)?;
        if told["user"] == user {
            uids.push(told["imap-uid"].as_u64().context("no UID")?);
        }
    }
    Ok(uids)
}
