//! The source `dovecot`: METADATA is set by IMAP or by doveadm over HTTP, the stock driver `ox`
//! sends then, and sends no more when it is taken away.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{Login, Secret};
use dovecast_mail_push::sources::{Boxed, Doveadm, Fence, HttpNotify, NotifyWay, Registered};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::imap::Response;
use dovecast_testkit::process::poll_until;
use dovecast_testkit::server::Server;
use serde_json::Value;

use super::{
    MASTER_PASSWORD, MASTER_USER, alice, deliver, imap_of, masters, no_tls, own_login, runtime,
};
use crate::case::cases;
use crate::setup::{ARRIVAL, ox_by_metadata};

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
    let login = Login::Master {
        login: "alice".into(),
        master: MASTER_USER.into(),
        password: Secret::new(MASTER_PASSWORD.to_owned()),
    };
    check(on, &masters(on), Some(&login), |dovecot| {
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

/// A lease that is never lost.
struct Held;

impl Fence for Held {
    fn holds<'a>(&'a self, _: &'a Person) -> Boxed<'a, bool> {
        Box::pin(std::future::ready(true))
    }
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
    // Whoever keeps it sets it again, whatever others make of it.
    let every = Duration::from_millis(200);
    let keeping = Arc::clone(&notify).keep(person.clone(), login.cloned(), every, Arc::new(Held));
    let keeping = runtime.spawn(keeping);
    for change in [
        r#"SETMETADATA "" (/private/vendor/vendor.dovecot/http-notify NIL)"#,
        other,
    ] {
        imap.ok(change)?;
        let again = poll_until(ARRIVAL, || {
            let found = imap.ok(r#"GETMETADATA "" /private/vendor/vendor.dovecot/http-notify"#);
            let is_ours = |answer: Response| answer.find("user=11@3").is_some();
            found
                .map(is_ours)
                .map_or_else(|error| Some(Err(error)), |ours| ours.then_some(Ok(())))
        });
        again.with_context(|| format!("the entry is lost: {change}"))??;
    }
    keeping.abort();
    let _ = runtime.block_on(keeping);
    ensure!(unregister()?, "the entry stays");
    deliver(&dovecot)?;
    let events = server.values("dovecot")?;
    ensure!(events.len() == 1, "{events:?}");
    Ok(())
}
