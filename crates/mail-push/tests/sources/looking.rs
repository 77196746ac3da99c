//! One look into mailboxes that are named, on a server without NOTIFY.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{Login, Secret};
use dovecast_mail_push::sources::{Boxed, Heard, HeardSink, IdleOptions, ImapIdle, Snapshot};

use crate::stand_in::{Behaviour, StandIn};

/// Keeps what was heard, mailbox and UID, and what is known.
#[derive(Default)]
struct Kept {
    heard: Mutex<Vec<(String, u32)>>,
    known: Mutex<Option<Snapshot>>,
}

impl HeardSink for Kept {
    fn take<'a>(
        &'a self,
        _: &'a Person,
        heard: &'a [Heard],
        snapshot: &'a Snapshot,
    ) -> Boxed<'a, bool> {
        Box::pin(async move {
            let heard = heard.iter().map(|one| (one.mailbox.to_string(), one.uid()));
            self.heard.lock().unwrap().extend(heard);
            *self.known.lock().unwrap() = Some(snapshot.clone());
            true
        })
    }
}

struct Looking {
    idle: Arc<ImapIdle>,
    kept: Arc<Kept>,
}

impl Looking {
    fn at(server: &StandIn) -> Self {
        let kept = Arc::new(Kept::default());
        let sink = Arc::clone(&kept) as Arc<dyn HeardSink>;
        let idle = ImapIdle::new(server.server(), IdleOptions::default(), sink);
        Self { idle, kept }
    }

    /// Looks, and gives what was heard and of which mailboxes nothing could be told.
    async fn look(&self, named: &[&str]) -> (Vec<(String, u32)>, Vec<String>) {
        let person = Person::new("3", "11", "11@3").expect("a person");
        let login = Login::Password {
            login: "11@3".into(),
            password: Secret::new("pass".into()),
        };
        let named: BTreeSet<String> = named.iter().map(|name| (*name).to_owned()).collect();
        let known = self.kept.known.lock().unwrap().clone();
        let untold = self.idle.look(&person, &login, known, &named).await;
        let untold = untold.expect("a look").into_iter().collect();
        (
            std::mem::take(&mut *self.kept.heard.lock().unwrap()),
            untold,
        )
    }
}

fn heard(all: &[(&str, u32)]) -> Vec<(String, u32)> {
    let all = all.iter().map(|(name, uid)| ((*name).to_owned(), *uid));
    all.collect()
}

#[tokio::test]
async fn mails_in_a_mailbox_that_is_named_are_told_from_when_it_is_known() {
    let server = StandIn::start(Behaviour::default()).await;
    for _ in 0..2 {
        server.change(|mailbox| mailbox.deliver(""));
    }
    let looking = Looking::at(&server);
    // Which of the mails that are there are new nobody knows.
    let untold = ["INBOX", "Nowhere", "Work"].map(ToOwned::to_owned);
    let first = looking.look(&["INBOX", "Work", "Nowhere"]).await;
    assert_eq!(first, (Vec::new(), untold.to_vec()));
    server.change(|mailbox| mailbox.deliver(""));
    let (told, untold) = looking.look(&["Work", "Nowhere"]).await;
    assert_eq!(told, heard(&[("INBOX", 3), ("Work", 3)]));
    assert_eq!(untold, ["Nowhere"]);
    // What is not named is not looked into, and told of later.
    server.change(|mailbox| mailbox.deliver(""));
    let (told, untold) = looking.look(&[]).await;
    assert_eq!((told, untold.len()), (heard(&[("INBOX", 4)]), 0));
    let (told, untold) = looking.look(&["Work"]).await;
    assert_eq!((told, untold.len()), (heard(&[("Work", 4)]), 0));
}

#[tokio::test]
async fn the_first_mail_of_a_mailbox_is_told() {
    let server = StandIn::start(Behaviour::default()).await;
    let looking = Looking::at(&server);
    looking.look(&[]).await;
    server.change(|mailbox| mailbox.deliver(""));
    let (told, untold) = looking.look(&["Lists"]).await;
    assert_eq!(told, heard(&[("INBOX", 1), ("Lists", 1)]));
    assert!(untold.is_empty(), "{untold:?}");
}
