//! A relay that does not allow the user of mail processes: what Dovecot's log says, and what
//! becomes of the events.

use std::fs;

use anyhow::{Context, Result, ensure};
use dovecast_testkit::dovecot::Installation;
use dovecast_testkit::plugin::Build;
use dovecast_testkit::process;
use dovecast_testkit::server::Server;

use crate::case::cases;
use crate::setup::{ARRIVAL, with_plugin};
use crate::story::{MAIL, lost};

cases![a_relay_that_does_not_allow_the_mail_user_says_so_in_dovecots_log];

/// The first thing that goes wrong where the mail user is another one than `vmail`.
fn a_relay_that_does_not_allow_the_mail_user_says_so_in_dovecots_log(
    on: Installation,
) -> Result<()> {
    let dovecot = with_plugin(on, Build::Dev)?
        .relay()
        .driver("kafka:events=MessageNew")
        .start()?;
    let dir = dovecot.relay_dir();
    let mut server = Server::builder()
        .relay(dir.join("relay.sock"), dir.join("spill"))
        .config("allow = [\"root\"]")
        .start()?;
    let deliver = || -> Result<()> {
        let mut lmtp = dovecot.lmtp()?;
        lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
        lmtp.quit()
    };
    deliver()?;
    dovecot.wait_for_log("it refuses: uid 5000 may not send", ARRIVAL)?;
    deliver()?;
    // Nothing was lost by that, and what comes later is behind it.
    ensure!(server.stop()?.success());
    let config = fs::read_to_string(server.config_file())?;
    let allowed = config.replace("allow = [\"root\"]", "allow = [\"root\", \"5000\"]");
    fs::write(server.config_file(), allowed)?;
    server.start_again()?;
    deliver()?;
    let uids = || -> Result<Vec<u64>> {
        let values = server.values("dovecot")?;
        let uid = |value: &String| -> Result<u64> {
            let event: serde_json::Value = serde_json::from_str(value)?;
            event["uid"].as_u64().context("no UID")
        };
        values.iter().map(uid).collect()
    };
    let arrived = process::poll_until(ARRIVAL, || uids().ok().filter(|uids| uids.len() >= 3));
    ensure!(
        arrived == Some(vec![1, 2, 3]),
        "{arrived:?}: {}",
        server.server_log()
    );
    ensure!(lost(&dovecot.log()) == 0, "events are lost");
    Ok(())
}
