//! Mailboxes of a Dovecot without our plugin, heard by the sources of mail push: over IDLE, and by
//! METADATA that makes the stock driver `ox` speak.

mod idle;
mod metadata;
mod notify;

use std::sync::Arc;

use anyhow::Result;
use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{ImapServer, Login, Secret};
use dovecast_testkit::dovecot::{Dovecot, Installation, PASSWORD, Series};
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Runtime;

use crate::case::Case;

pub(crate) fn cases() -> Vec<Case> {
    [idle::cases(), metadata::cases(), notify::cases()].concat()
}

const MAIL: &[u8] = b"From: =?utf-8?q?B=C3=B6b?= <bob@sender.example>\r\nTo: alice\r\n\
    Subject: Hello\r\n\r\nHello Alice,\r\nhere I am.\r\n";

pub(crate) const MASTER_USER: &str = "root";
pub(crate) const MASTER_PASSWORD: &str = "m4ster";

/// Configuration of a Dovecot that lets a master user into each mailbox.
pub(crate) fn masters(on: Installation) -> String {
    match on.series() {
        Series::V2_3 => format!(
            "passdb {{\n  driver = static\n  master = yes\n  args = password={MASTER_PASSWORD}\n}}\n"
        ),
        Series::V2_4 => format!(
            "passdb masters {{\n  driver = static\n  master = yes\n  passdb_static_password = {MASTER_PASSWORD}\n}}\n"
        ),
    }
}

fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(1).enable_all().build()?)
}

fn deliver(dovecot: &Dovecot) -> Result<()> {
    let mut lmtp = dovecot.lmtp()?;
    lmtp.deliver_ok("bob@sender.example", &["alice"], MAIL)?;
    lmtp.quit()?;
    Ok(())
}

fn alice() -> Result<Person> {
    Ok(Person::new("3", "11", "alice")?)
}

fn password(password: &str) -> Login {
    Login::Password {
        login: "alice".into(),
        password: Secret::new(password.to_owned()),
    }
}

fn own_login() -> Login {
    password(PASSWORD)
}

/// Trusts nobody: these Dovecots have no TLS.
fn no_tls() -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(RootCertStore::empty());
    Ok(Arc::new(config.with_no_client_auth()))
}

fn server(address: &str) -> Result<ImapServer> {
    Ok(ImapServer::parse(
        &format!("imap://{address}"),
        true,
        &no_tls()?,
    )?)
}

fn imap_of(dovecot: &Dovecot) -> Result<ImapServer> {
    server(&format!("{}:{}", dovecot.address(), dovecot.imap_port()))
}
