//! Dovecot's own drivers and those of `dovecast serve` side by side, on one session: what an OX
//! end-point gets of each is equal byte for byte but for the time, and `dlog` writes the same
//! calls.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation, Series};
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;

use crate::case::cases;
use crate::relay::server_for;
use crate::setup::{ARRIVAL, deliver_all, with_plugin};

cases![
    an_ox_end_point_gets_the_same_requests_of_both,
    what_was_imported_of_a_dovecot_sends_what_it_sent,
    dlog_writes_the_same_calls_as_dovecots,
];

const METADATA: &str = "/private/vendor/vendor.dovecot/http-notify";
const MAILS: [&[u8]; 3] = [
    b"From: =?utf-8?q?B=C3=B6b?= <bob@sender.example>\r\nTo: alice\r\nSubject: =?utf-8?b?w7w=?=\r\n\tone\r\n\r\nHello \"there\".\r\n",
    b"From: Carol <carol@sender.example>\r\nSubject: a\\b \xc3\xa4\r\n\r\nSecond \xe2\x80\xa8line.\r\n",
    b"From: \r\nSubject: \r\n\r\nx\r\n",
];

/// Controls, which 2.3 and 2.4 write in JSON each in its own way.
const CONTROLS: &[u8] = b"From: bob@sender.example\r\nSubject: a\x1fb\x0bc\x7fd\r\n\r\nx\r\n";

/// A server of HTTP that keeps requests as they came.
struct Recorder {
    address: SocketAddr,
    requests: Receiver<Vec<u8>>,
}

impl Recorder {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
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

    /// The next requests, in the order of their bodies, without what tells the time and the place.
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
        taken.sort();
        Ok(taken)
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

/// A Dovecot with a driver of its own beside the plugin, and the server behind the plugin.
fn both(on: Installation, theirs: &str, ours: &str) -> Result<(Dovecot, Server)> {
    let plugin = format!("kafka:detail=full keyword_prefix= metadata={METADATA}");
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver(&plugin)
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
    let driver = format!("ox:url={} user_from_metadata=yes", url(&theirs));
    // As the Dovecot beside it writes it.
    let ours_as_there = match on.series() {
        Series::V2_3 => format!("driver = 'ox:url={} user_from_metadata'", url(&ours)),
        Series::V2_4 => format!(
            "driver = 'ox'\nox_url = '{}'\nox_user_from_metadata = true",
            url(&ours)
        ),
    };
    let block = format!("[push_notification.ox1]\n{ours_as_there}");
    let (dovecot, _server) = both(on, &driver, &block)?;
    // Nobody is told before the user has said so.
    deliver_all(&dovecot, &MAILS)?;
    switch_on(&dovecot)?;
    let mails: Vec<&[u8]> = MAILS.into_iter().chain([CONTROLS]).collect();
    deliver_all(&dovecot, &mails)?;
    let (theirs, ours) = (theirs.take(mails.len())?, ours.take(mails.len())?);
    ensure!(theirs == ours, "Dovecot's: {theirs:#?}\nours: {ours:#?}");
    ensure!(theirs[0].contains("11@3"), "{theirs:?}");
    let has = |text: &str| theirs.iter().any(|request| request.contains(text));
    ensure!(
        has(r"a\u001fb\u000bc") || has(r"a\u001Fb\u000Bc"),
        "{theirs:?}"
    );
    Ok(())
}

/// Switches the driver on for a user.
fn switch_on(dovecot: &Dovecot) -> Result<()> {
    let mut imap = dovecot.login("alice")?;
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
    switch_on(&plain)?;
    deliver_all(&plain, &MAILS)?;
    let theirs = end_point.take(MAILS.len())?;
    let doveconf = plain.doveconf()?;
    drop(plain);
    let plugin = format!("kafka:detail=full keyword_prefix= metadata={METADATA}");
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver(&plugin)
        .start()?;
    let printed = dovecot.dir().join("doveconf.txt");
    fs::write(&printed, doveconf)?;
    let server = server_for(&dovecot).prepare()?;
    let toml = server.run(["import-dovecot", &printed.display().to_string()])?;
    let _server = server_for(&dovecot).config(&toml).start()?;
    switch_on(&dovecot)?;
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

/// Calls that Dovecot's driver has logged, or ours: those about a transaction. Where there are two
/// drivers Dovecot writes some lines of an event twice.
fn calls(log: &str) -> Vec<String> {
    const STARTS: [&str; 17] = [
        "Called begin_txn",
        "Called process_",
        "Called end_txn",
        "Mailbox data: ",
        "Message data: ",
        "FlagsClear: ",
        "FlagsSet: ",
        "MailboxCreate: ",
        "MailboxDelete: ",
        "MailboxRename: ",
        "MailboxSubscribe: ",
        "MailboxUnsubscribe: ",
        "MessageAppend: ",
        "MessageExpunge: ",
        "MessageNew: ",
        "MessageRead: ",
        "MessageTrash: ",
    ];
    let call = |line: &str| {
        let at = STARTS.iter().filter_map(|start| line.find(start)).min()?;
        // Where the line ends with the user, as ours does.
        let call = line[at..].trim_end();
        let call = call.split(" user=").next().unwrap_or(call);
        // Dates are in another form, and on another clock.
        let is_date = call.contains(": Date [");
        (!is_date).then(|| call.to_owned())
    };
    let mut calls: Vec<String> = log.lines().filter_map(call).collect();
    calls.dedup();
    calls
}

/// The last call of the session below but for the end of its transaction.
const LAST: &str = "MailboxDelete: ";
const END: &str = "Called end_txn push_notification plugin hook.";

fn dlog_writes_the_same_calls_as_dovecots(on: Installation) -> Result<()> {
    let block = "[push_notification.log]\ndriver = 'dlog'";
    let (dovecot, server) = both(on, "dlog", block)?;
    deliver_all(&dovecot, &MAILS)?;
    let mut imap = dovecot.login("alice")?;
    for command in [
        "SELECT INBOX",
        "STORE 1 +FLAGS (\\Flagged $label1)",
        "STORE 1 -FLAGS (\\Flagged)",
        "STORE 2 +FLAGS (\\Deleted)",
        "EXPUNGE",
        "CREATE box",
        "RENAME box crate",
        "SUBSCRIBE crate",
        "UNSUBSCRIBE crate",
        "DELETE crate",
    ] {
        imap.ok(command)?;
    }
    imap.logout()?;
    let written = || {
        let log = server.server_log();
        let lines = log.lines().filter(|line| line.contains("dovecast_dlog"));
        let mut ours = calls(&lines.collect::<Vec<_>>().join("\n"));
        if on.series() == Series::V2_4 {
            // 2.4 does not log what has become of a mail, just that it calls.
            let is_of_mail = |call: &str| call.starts_with("Flags") || call.starts_with("Message");
            ours.retain(|call| call.starts_with("Message data") || !is_of_mail(call));
        }
        // A header with the end of a line breaks Dovecot's line there; in ours that is escaped.
        for call in &mut ours {
            if let Some((line, _)) = call.split_once("\\n") {
                *call = line.to_owned();
            }
        }
        (calls(&dovecot.debug_log()), ours)
    };
    // Both write while this reads: whole is what has the end of each transaction, equal or not.
    let are_whole = || {
        let (theirs, ours) = written();
        let is_whole = |calls: &[String]| {
            let deleted = calls.iter().position(|call| call.starts_with(LAST));
            deleted.is_some_and(|at| calls[at..].iter().any(|call| call.starts_with(END)))
        };
        (is_whole(&theirs) && is_whole(&ours)).then_some(())
    };
    process::poll_until(ARRIVAL, are_whole)
        .with_context(|| format!("unfinished: {:#?}", written()))?;
    let (theirs, ours) = written();
    ensure!(theirs == ours, "Dovecot's: {theirs:#?}\nours: {ours:#?}");
    Ok(())
}
