//! The source `imapidle` on a server with IDLE and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dovecast_mail_push::Person;
use dovecast_mail_push::imap::{Login, Secret};
use dovecast_mail_push::sources::{
    Boxed, Ended, Heard, HeardSink, IdleOptions, ImapIdle, Snapshot,
};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::stand_in::{Behaviour, Head, StandIn};

/// Longest time for anything, so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_mins(1);

/// Keeps what was heard as JSON, or refuses it.
struct Kept {
    events: mpsc::UnboundedSender<Vec<String>>,
    is_full: Arc<AtomicBool>,
}

impl HeardSink for Kept {
    fn take<'a>(
        &'a self,
        person: &'a Person,
        heard: &'a [Heard],
        _: &'a Snapshot,
    ) -> Boxed<'a, bool> {
        Box::pin(async move {
            if self.is_full.load(Ordering::Acquire) {
                return false;
            }
            let events = heard.iter().map(|heard| {
                let event = heard.event(&person.login);
                String::from_utf8(event).expect("JSON")
            });
            let events: Vec<String> = events.map(|event| short(&event)).collect();
            self.events.send(events).is_ok()
        })
    }
}

/// Kind, UID and what else there is.
fn short(event: &str) -> String {
    let parsed = dovecast_event::parse(event.as_bytes()).expect("an event");
    let more = match event.split_once("\"flags\":") {
        Some((_, flags)) => {
            let (flags, _) = flags.split_once(']').expect("a list");
            format!("{flags}]")
        }
        None => parsed.subject.unwrap_or_default(),
    };
    let uid = parsed.uid.expect("a UID");
    format!("{} {uid} {more}", parsed.kind.name())
}

struct Listener {
    idle: Arc<ImapIdle>,
    task: JoinHandle<Ended>,
    events: mpsc::UnboundedReceiver<Vec<String>>,
    is_full: Arc<AtomicBool>,
}

/// Tries again soon.
fn quick() -> IdleOptions {
    IdleOptions {
        shortest_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(20),
        ..IdleOptions::default()
    }
}

impl Listener {
    fn start(server: &StandIn) -> Self {
        Self::renewing(server, IdleOptions::default().renew_after)
    }

    /// A listener that renews IDLE after so long.
    fn renewing(server: &StandIn, renew_after: Duration) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let is_full = Arc::new(AtomicBool::new(false));
        let kept = Kept {
            events: sender,
            is_full: Arc::clone(&is_full),
        };
        let options = IdleOptions {
            renew_after,
            ..quick()
        };
        let idle = ImapIdle::new(server.server(), options, Arc::new(kept));
        let person = Person::new("3", "11", "11@3").expect("a person");
        let task = tokio::spawn(Arc::clone(&idle).listen(person, login(), None));
        Self {
            idle,
            task,
            events,
            is_full,
        }
    }

    async fn next(&mut self) -> Vec<String> {
        let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        next.expect("in time").expect("a listener")
    }

    /// Events, this number of them, in as many rounds as it takes.
    async fn events(&mut self, number: usize) -> Vec<String> {
        let mut events = Vec::new();
        while events.len() < number {
            events.extend(self.next().await);
        }
        events
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn login() -> Login {
    Login::Password {
        login: "11@3".into(),
        password: Secret::new("pass".into()),
    }
}

#[tokio::test]
async fn what_happens_while_it_listens_is_told() {
    let server = StandIn::start(Behaviour::default()).await;
    server.change(|mailbox| mailbox.deliver("\\Seen"));
    let mut listener = Listener::start(&server);
    assert_eq!(listener.next().await, [""; 0], "what was there is not told");
    server.idling(1).await;
    server.change(|mailbox| mailbox.deliver(""));
    assert_eq!(listener.next().await, ["MessageNew 2 s2"]);
    server.idling(1).await;
    server.change(|mailbox| mailbox.set_flags(2, "\\Seen \\Flagged"));
    assert_eq!(
        listener.next().await,
        ["FlagsSet 2 [\"\\\\Flagged\",\"\\\\Seen\"]"]
    );
    server.idling(1).await;
    server.change(|mailbox| {
        mailbox.expunge(1);
        mailbox.set_flags(2, "\\Seen");
        mailbox.deliver("\\Seen");
    });
    let expected = [
        "MessageExpunge 1 ",
        "FlagsClear 2 [\"\\\\Flagged\"]",
        "MessageAppend 3 s3",
    ];
    assert_eq!(listener.events(3).await, expected);
}

#[tokio::test]
async fn a_mail_that_cannot_be_described_is_told_and_hides_no_other() {
    let server = StandIn::start(Behaviour::default()).await;
    let mut listener = Listener::start(&server);
    assert_eq!(listener.next().await, [""; 0]);
    server.idling(1).await;
    // Anybody may send a mail with as much of a head.
    server.change(|mailbox| mailbox.deliver_with("", Head::Long(300_000)));
    assert_eq!(listener.next().await, ["MessageNew 1 s1"]);
    server.idling(1).await;
    server.change(|mailbox| {
        mailbox.deliver_with("", Head::Unreadable);
        mailbox.deliver("");
    });
    assert_eq!(
        listener.events(2).await,
        ["MessageNew 2 ", "MessageNew 3 s3"]
    );
    server.idling(1).await;
    server.change(|mailbox| mailbox.deliver(""));
    assert_eq!(listener.next().await, ["MessageNew 4 s4"]);
    assert_eq!(server.shared.logins.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn who_would_be_one_connection_too_many_waits_until_another_has_ended() {
    let server = StandIn::start(Behaviour::default()).await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let kept = Kept {
        events: sender,
        is_full: Arc::default(),
    };
    let options = IdleOptions {
        most_open: 1,
        ..quick()
    };
    let idle = ImapIdle::new(server.server(), options, Arc::new(kept));
    let listen = |user: &str| {
        let person = Person::new("3", user, "11@3").expect("a person");
        tokio::spawn(Arc::clone(&idle).listen(person, login(), None))
    };
    let first = listen("1");
    events.recv().await.expect("the first");
    let second = listen("2");
    while idle.stats().crowded.load(Ordering::Acquire) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.shared.logins.lock().unwrap().len(), 1);
    first.abort();
    let told = tokio::time::timeout(PATIENCE, events.recv()).await;
    told.expect("in time").expect("the second");
    second.abort();
}

#[tokio::test]
async fn idle_is_renewed_on_the_same_connection() {
    assert_eq!(IdleOptions::default().renew_after, Duration::from_mins(5));
    let server = StandIn::start(Behaviour::default()).await;
    let mut listener = Listener::renewing(&server, Duration::from_millis(20));
    listener.next().await;
    while server.shared.idles.load(Ordering::Acquire) < 4 {
        tokio::task::yield_now().await;
    }
    server.change(|mailbox| mailbox.deliver(""));
    assert_eq!(listener.next().await, ["MessageNew 1 s1"]);
    assert_eq!(server.shared.logins.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_happened_while_the_server_was_away_is_told() {
    let server = StandIn::start(Behaviour::default()).await;
    for _ in 0..5 {
        server.change(|mailbox| mailbox.deliver(""));
    }
    let mut listener = Listener::start(&server);
    listener.next().await;
    server.idling(1).await;
    server.behave(Behaviour {
        login: "NO [UNAVAILABLE] later",
        ..Behaviour::default()
    });
    server.cut();
    server.change(|mailbox| {
        mailbox.expunge(2);
        mailbox.set_flags(4, "\\Seen");
        mailbox.deliver("");
        mailbox.deliver("");
        mailbox.expunge(6);
    });
    while listener.idle.stats().failed.load(Ordering::Relaxed) < 3 {
        tokio::task::yield_now().await;
    }
    server.behave(Behaviour::default());
    let expected = [
        "MessageExpunge 2 ",
        "FlagsSet 4 [\"\\\\Seen\"]",
        "MessageNew 7 s7",
    ];
    assert_eq!(listener.next().await, expected);
}

#[tokio::test]
async fn a_connection_that_ends_is_no_failure() {
    let server = StandIn::start(Behaviour::default()).await;
    let mut listener = Listener::start(&server);
    listener.next().await;
    for times in 1..=3 {
        server.idling(1).await;
        server.cut();
        while listener.idle.stats().ended.load(Ordering::Relaxed) < times {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(listener.idle.stats().failed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_cannot_be_stored_is_told_later() {
    let server = StandIn::start(Behaviour::default()).await;
    let mut listener = Listener::start(&server);
    listener.next().await;
    server.idling(1).await;
    listener.is_full.store(true, Ordering::Release);
    server.change(|mailbox| mailbox.deliver(""));
    while listener.idle.stats().not_stored.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    listener.is_full.store(false, Ordering::Release);
    assert_eq!(listener.next().await, ["MessageNew 1 s1"]);
}

#[tokio::test]
async fn a_mailbox_with_other_uids_is_begun_anew() {
    let server = StandIn::start(Behaviour::default()).await;
    server.change(|mailbox| mailbox.deliver(""));
    let mut listener = Listener::start(&server);
    listener.next().await;
    server.idling(1).await;
    server.change(|mailbox| {
        mailbox.renumber();
        mailbox.expunge(1);
        mailbox.deliver("");
    });
    server.cut();
    // What the connection that is cut may still say is of the old mailbox.
    while listener.idle.stats().renumbered.load(Ordering::Relaxed) == 0 {
        listener.next().await;
    }
    server.idling(1).await;
    server.change(|mailbox| mailbox.deliver(""));
    let mut next = listener.next().await;
    while next.is_empty() {
        next = listener.next().await;
    }
    assert_eq!(next, ["MessageNew 3 s3"]);
}

#[tokio::test]
async fn a_login_that_is_refused_is_not_tried_again() {
    let server = StandIn::start(Behaviour {
        login: "NO [AUTHENTICATIONFAILED] wrong",
        ..Behaviour::default()
    })
    .await;
    let mut listener = Listener::start(&server);
    let ended = (&mut listener.task).await.expect("an end");
    assert_eq!(ended, Ended::Refused("[AUTHENTICATIONFAILED] wrong".into()));
    assert_eq!(server.shared.logins.lock().unwrap().len(), 1);
    assert_eq!(listener.idle.stats().refused.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_server_without_idle_is_not_listened_to() {
    let server = StandIn::start(Behaviour {
        capabilities: "IMAP4rev1 AUTH=PLAIN",
        ..Behaviour::default()
    })
    .await;
    let mut listener = Listener::start(&server);
    assert_eq!(
        (&mut listener.task).await.expect("an end"),
        Ended::Lacks("IDLE")
    );
}
