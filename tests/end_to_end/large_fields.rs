//! Mails and METADATA with fields of any length, where the configuration allows the longest: each
//! makes an event all the same, with its fields cut.

use anyhow::{Context, Result, ensure};
use dovecast_event::{ParsedEvent, parse};
use dovecast_testkit::dovecot::Installation;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;

use crate::case::cases;
use crate::relay::server_for;
use crate::setup::{ARRIVAL, Setup, with_plugin};
use crate::story::{MAIL, lost};

cases![
    a_mail_of_very_long_headers_is_an_event_in_kafka,
    a_mail_of_very_long_headers_is_an_event_at_the_relay,
    metadata_is_as_long_as_other_fields_and_no_longer,
];

/// The longest fields that may be configured.
const OPTIONS: &str = "max_field_bytes=1048576 detail=full events=MessageNew";
/// Bytes of each header; three of them are more than a frame of the relay.
const HEADER_BYTES: usize = 1_500_000;
/// What an event has at most.
const EVENT_BYTES: usize = 900_000;
const ENTRY: &str = "/private/vendor/vendor.dovecot/http-notify";

fn mail() -> Vec<u8> {
    let long = "x".repeat(HEADER_BYTES);
    // Cut behind one of them: half an address would be somebody else's.
    let addresses = vec!["a@b.example"; HEADER_BYTES / 13].join(", ");
    let headers = format!("Subject: {long}\r\nFrom: {addresses}\r\nTo: {addresses}\r\n");
    format!("{headers}\r\nx\r\n").into_bytes()
}

/// Fails unless a value is the event of such a mail.
fn is_event(value: &[u8]) -> Result<()> {
    ensure!(value.len() <= EVENT_BYTES, "{} bytes", value.len());
    let event = parse(value)?;
    for field in [&event.subject, &event.from, &event.to] {
        let length = field.as_ref().map_or(0, String::len);
        ensure!(length > 1_000, "a field of {length} bytes");
    }
    Ok(())
}

fn a_mail_of_very_long_headers_is_an_event_in_kafka(on: Installation) -> Result<()> {
    let setup = Setup::start(on, OPTIONS, |builder| builder)?;
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice"], &mail())?;
    lmtp.quit()?;
    let record = setup.reader("dovecot")?.next(ARRIVAL)?;
    is_event(&record.context("no event")?.value)?;
    ensure!(lost(&setup.dovecot.log()) == 0, "events are lost");
    Ok(())
}

fn a_mail_of_very_long_headers_is_an_event_at_the_relay(on: Installation) -> Result<()> {
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver(&format!("kafka:{OPTIONS}"))
        .start()?;
    let server = server_for(&dovecot).start()?;
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice"], &mail())?;
    lmtp.quit()?;
    let come = process::poll_until(ARRIVAL, || server.values("dovecot").ok()?.pop());
    is_event(come.context("no event")?.as_bytes())?;
    ensure!(lost(&dovecot.log()) == 0, "events are lost");
    Ok(())
}

fn metadata_is_as_long_as_other_fields_and_no_longer(on: Installation) -> Result<()> {
    const FIELD_BYTES: usize = 4096;
    let options =
        format!("max_field_bytes={FIELD_BYTES} detail=full metadata={ENTRY} events=MessageNew");
    let setup = Setup::start(on, &options, |builder| builder)?;
    let mut imap = setup.dovecot.login("alice")?;
    let long = format!("user={}", "x".repeat(20_000));
    imap.ok(&format!("SETMETADATA \"\" ({ENTRY} \"{long}\")"))?;
    imap.logout()?;
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
    lmtp.quit()?;
    let record = setup.reader("dovecot")?.next(ARRIVAL)?;
    let event: ParsedEvent = parse(&record.context("no event")?.value)?;
    let shown = event.metadata.first().context("no METADATA")?;
    ensure!(
        shown.1.len() == FIELD_BYTES && long.starts_with(&shown.1),
        "{} bytes",
        shown.1.len()
    );
    Ok(())
}
