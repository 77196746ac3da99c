//! The shortest way through everything.

use anyhow::Result;

use crate::case::cases;
use crate::setup::Setup;

cases![a_delivered_mail_is_in_the_topic];

fn a_delivered_mail_is_in_the_topic() -> Result<()> {
    let setup = Setup::start("", |builder| builder)?;
    let mail = b"From: Bob <bob@example.org>\r\nTo: alice\r\nSubject: Hi\r\nDate: Fri, 20 Nov 2026 12:34:56 +0530\r\n\r\nHello Alice.\r\n";
    let mut lmtp = setup.dovecot.lmtp()?;
    lmtp.lhlo("test")?;
    lmtp.deliver_ok("bob@example.org", &["alice"], mail)?;
    let mut imap = setup.dovecot.login("alice")?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Deleted)")?;
    imap.ok("EXPUNGE")?;
    imap.logout()?;
    for value in setup.values("dovecot", 5)? {
        println!("{value}");
    }
    println!("{}", setup.dovecot.log());
    Ok(())
}
