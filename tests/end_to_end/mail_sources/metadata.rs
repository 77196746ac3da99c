//! The source `dovecot`: METADATA is set by IMAP or by doveadm over HTTP, the stock driver `ox`
//! sends then, and sends no more when it is taken away.

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::imap::{Login, Secret};
use dovecast_mail_push::sources::{Doveadm, HttpNotify, NotifyWay, Registered};
use dovecast_testkit::dovecot::{Dovecot, Installation, Series};
use dovecast_testkit::server::Server;
use serde_json::Value;

use super::{alice, deliver, imap_of, no_tls, own_login, runtime};
use crate::case::cases;
use crate::setup::ox_by_metadata;

cases![
    metadata_of_a_persons_login_makes_dovecot_tell,
    metadata_of_a_master_user_makes_dovecot_tell,
    metadata_over_doveadm_makes_dovecot_tell,
];

const API_KEY: &str = "k3y of doveadm";
const DOVEADM_PORT: u16 = 8080;

fn metadata_of_a_persons_login_makes_dovecot_tell(on: Installation) -> Result<()> {
    check(on, "", Some(&own_login()), |dovecot| {
        Ok(NotifyWay::Imap(imap_of(dovecot)?))
    })
}

fn metadata_of_a_master_user_makes_dovecot_tell(on: Installation) -> Result<()> {
    let master = match on.series() {
        Series::V2_3 => {
            "passdb {\n  driver = static\n  master = yes\n  args = password=m4ster\n}\n"
        }
        Series::V2_4 => {
            "passdb masters {\n  driver = static\n  master = yes\n  passdb_static_password = m4ster\n}\n"
        }
    };
    let login = Login::Master {
        login: "alice".into(),
        master: "root".into(),
        password: Secret::new("m4ster".to_owned()),
    };
    check(on, master, Some(&login), |dovecot| {
        Ok(NotifyWay::Imap(imap_of(dovecot)?))
    })
}

fn metadata_over_doveadm_makes_dovecot_tell(on: Installation) -> Result<()> {
    let config = format!(
        "doveadm_api_key = {API_KEY}\nservice doveadm {{\n  inet_listener http {{\n    port = {DOVEADM_PORT}\n  }}\n}}\n"
    );
    check(on, &config, None, |dovecot| {
        let url = format!("http://{}:{DOVEADM_PORT}", dovecot.address());
        Ok(NotifyWay::Doveadm(Doveadm::new(&url, API_KEY, &no_tls()?)?))
    })
}

/// A mail is told of while the entry is there, and neither before nor after.
fn check(
    on: Installation,
    config: &str,
    login: Option<&Login>,
    way: impl FnOnce(&Dovecot) -> Result<NotifyWay>,
) -> Result<()> {
    let server = Server::builder()
        .config("[ox]\nuser = 'dovecot'\npassword = 's3cret'")
        .start()?;
    let dovecot = Dovecot::builder()
        .installation(on)
        .driver(&ox_by_metadata(on, &server.address()?.to_string()))
        .config(config)
        .start()?;
    let (runtime, person) = (runtime()?, alice()?);
    deliver(&dovecot)?;
    let notify = HttpNotify::new(way(&dovecot)?);
    let register = || runtime.block_on(notify.register(&person, login));
    ensure!(register()? == Registered::Set);
    ensure!(register()? == Registered::Already);
    deliver(&dovecot)?;
    let events = server.values("dovecot")?;
    let event = events.first().context("nothing is told")?;
    let event: Value = serde_json::from_str(event)?;
    ensure!(
        events.len() == 1 && event["uid"] == 2 && event["user"] == "11@3",
        "{events:?}"
    );

    let mut imap = dovecot.login("alice")?;
    let other = r#"SETMETADATA "" (/private/vendor/vendor.dovecot/http-notify "user=12@3")"#;
    imap.ok("SELECT INBOX")?;
    imap.ok(other)?;
    let unregister = || runtime.block_on(notify.unregister(&person, login));
    ensure!(!unregister()?, "another's entry is taken away");
    ensure!(register()? == Registered::Replaced);
    ensure!(unregister()?, "the entry stays");
    deliver(&dovecot)?;
    let events = server.values("dovecot")?;
    ensure!(events.len() == 1, "{events:?}");
    Ok(())
}
