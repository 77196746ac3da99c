//! The source `imapidle` on a server with NOTIFY (RFC 5465): mails that come into other mailboxes
//! than INBOX are told of, while it listens and of the time it was away.

use anyhow::{Result, ensure};
use dovecast_testkit::dovecot::{Dovecot, Installation};
use dovecast_testkit::imap::mutf7;

use super::idle::Listener;
use super::{MAIL, deliver, imap_of, runtime};
use crate::case::cases;

cases![
    mails_that_come_into_other_mailboxes_are_told,
    mails_that_came_into_other_mailboxes_while_nobody_listened_are_told,
];

fn start(on: Installation) -> Result<Dovecot> {
    let builder = Dovecot::builder().installation(on).no_plugins();
    let builder = builder.mailbox_list_index(true).special_use_mailboxes(true);
    builder.start()
}

fn began(kind: &str, mailbox: &str, uid: u32) -> String {
    format!(
        r#"{{"user":"alice","mailbox":"{mailbox}","event":"{kind}","uidvalidity":V,"uid":{uid},"#
    )
}

fn check(told: &[String], expected: &[String]) -> Result<()> {
    let is_equal = told.len() == expected.len()
        && told
            .iter()
            .zip(expected)
            .all(|(told, expected)| told.starts_with(expected));
    ensure!(is_equal, "{told:?} instead of {expected:?}");
    Ok(())
}

fn mails_that_come_into_other_mailboxes_are_told(on: Installation) -> Result<()> {
    let dovecot = start(on)?;
    let runtime = runtime()?;
    let mut imap = dovecot.login("alice")?;
    imap.ok("CREATE Lists")?;
    imap.append("Lists", "\\Seen", None, MAIL)?;
    let mut listener = Listener::start(&runtime, imap_of(&dovecot)?, None)?;

    imap.append("Lists", "", None, MAIL)?;
    let told = listener.rounds(1)?;
    check(&told, &[began("MessageNew", "Lists", 2)])?;
    ensure!(
        told[0].contains(r#""subject":"Hello""#)
            && told[0].contains(r#""fromAddress":"bob@sender.example""#),
        "{told:?}"
    );
    // How many are unread there is not asked for: a badge counts INBOX.
    ensure!(!told[0].contains("unseen"), "{told:?}");

    // The first mailbox is listened to as before.
    deliver(&dovecot)?;
    check(&listener.rounds(1)?, &[began("MessageNew", "INBOX", 1)])?;
    imap.append("Lists", "\\Seen", None, MAIL)?;
    check(&listener.rounds(1)?, &[began("MessageAppend", "Lists", 3)])?;

    // Rubbish is not told of; a mailbox that is made for its first mail is.
    imap.append("Trash", "", None, MAIL)?;
    let name = "Entwürfe & mehr";
    imap.ok(&format!("CREATE \"{}\"", mutf7(name)))?;
    imap.append(&mutf7(name), "", None, MAIL)?;
    check(&listener.rounds(1)?, &[began("MessageNew", name, 1)])?;
    imap.ok("SELECT INBOX")?;
    imap.ok("STORE 1 +FLAGS (\\Seen)")?;
    check(&listener.rounds(1)?, &[began("FlagsSet", "INBOX", 1)])?;
    imap.logout()?;
    Ok(())
}

fn mails_that_came_into_other_mailboxes_while_nobody_listened_are_told(
    on: Installation,
) -> Result<()> {
    let dovecot = start(on)?;
    let runtime = runtime()?;
    let mut imap = dovecot.login("alice")?;
    for mailbox in ["Lists", "Gone"] {
        imap.ok(&format!("CREATE {mailbox}"))?;
        imap.append(mailbox, "", None, MAIL)?;
    }
    let known = Listener::start(&runtime, imap_of(&dovecot)?, None)?
        .snapshot
        .clone();
    ensure!(known.others.contains_key("Lists"), "{known:?}");
    imap.append("Lists", "", None, MAIL)?;
    imap.append("Lists", "", None, MAIL)?;
    imap.append("Junk", "", None, MAIL)?;
    imap.ok("CREATE New")?;
    imap.append("New", "", None, MAIL)?;
    imap.ok("DELETE Gone")?;
    deliver(&dovecot)?;
    imap.logout()?;
    let mut listener = Listener::start(&runtime, imap_of(&dovecot)?, Some(known))?;
    let mut told = listener.rounds(4)?;
    told.sort();
    let expected = [
        began("MessageNew", "INBOX", 1),
        began("MessageNew", "Lists", 2),
        began("MessageNew", "Lists", 3),
        began("MessageNew", "New", 1),
    ];
    check(&told, &expected)?;
    ensure!(
        !listener.snapshot.others.contains_key("Gone"),
        "{:?}",
        listener.snapshot
    );
    Ok(())
}
