//! Tests of packets over a real socket: what rings, and what does not end the listening.

use tokio::sync::mpsc;

use super::*;

/// What stands behind a mailbox that is looked into once more.
const AGAIN: &str = " again";

struct Rung {
    names: Arc<Names>,
    rung: mpsc::UnboundedSender<(Person, String)>,
}

impl NotifySink for Rung {
    fn names(&self) -> Boxed<'_, Arc<Names>> {
        Box::pin(std::future::ready(Arc::clone(&self.names)))
    }

    fn is_rung(&self, person: &Person) -> bool {
        persons().contains(person) || spellings().contains(person)
    }

    fn ambiguous(&self, name: &str) {
        assert_eq!(name, "shared");
    }

    fn ring(&self, person: Person, mailbox: String) {
        self.rung
            .send((person, mailbox))
            .expect("a test that listens");
    }

    fn look_again(&self, person: Person, mailbox: String) -> bool {
        self.ring(person, mailbox + AGAIN);
        true
    }
}

fn persons() -> [Person; 2] {
    ["alice", "bob"].map(|name| Person::new("3", name, name).expect("a person"))
}

fn spellings() -> [Person; 2] {
    ["dora", "Dora"].map(|name| Person::new(name, name, name).expect("a person"))
}

async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.expect("a socket")
}

fn listener(options: NotifyOptions) -> (MailNotify, mpsc::UnboundedReceiver<(Person, String)>) {
    let (sender, rung) = mpsc::unbounded_channel();
    let mut names = Names::new(false);
    for person in persons() {
        names.add(&person, &person.login);
        names.add(&person, "shared@example.org");
    }
    for person in spellings() {
        names.add(&person, &person.login);
    }
    let elsewhere = Person::new("3", "carol", "carol").expect("a person");
    names.add(&elsewhere, "carol");
    let sink = Rung {
        names: Arc::new(names),
        rung: sender,
    };
    (MailNotify::new(options, Arc::new(sink)), rung)
}

#[tokio::test]
async fn no_packet_ends_the_listening_and_a_name_rings_once_within_the_delay() {
    let (listener, mut rung) = listener(NotifyOptions {
        delay: Duration::from_hours(1),
        ..NotifyOptions::default()
    });
    let stats = listener.stats();
    let server = socket().await;
    let address = server.local_addr().expect("an address");
    let listening = tokio::spawn(listener.listen(server));
    let client = socket().await;
    let long = vec![0; 2000];
    for packet in [
        &b""[..],
        b"\0",
        b"a\0b\0c",
        &[0xff; 1024],
        &long,
        b"a\0b\0c\0nobody\0INBOX\0",
        b"a\0b\0c\0carol\0INBOX\0",
        b"a\0b\0c\0shared\0INBOX\0",
        b"a\0b\0c\0ALICE\0INBOX\0",
        b"a\0b\0c\0alice\0Work\0",
        b"a\0b\0c\0bob@example.org\0Work\0",
    ] {
        client
            .send_to(packet, address)
            .await
            .expect("a packet that is sent");
    }
    let [alice, bob] = persons();
    assert_eq!(rung.recv().await, Some((alice, "INBOX".to_owned())));
    assert_eq!(rung.recv().await, Some((bob, "Work".to_owned())));
    let counts = [
        &stats.bad,
        &stats.unknown,
        &stats.ambiguous,
        &stats.repeated,
        &stats.rung,
        &stats.errors,
    ];
    let counts = counts.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [5, 2, 1, 1, 2, 0]);
    assert!(!listening.is_finished());
    listening.abort();
}

#[tokio::test]
async fn packets_of_other_senders_are_not_read() {
    let network = "10.0.0.0/8".parse().expect("a network");
    let (mut listener, mut rung) = listener(NotifyOptions {
        allow: vec![network],
        delay: Duration::ZERO,
    });
    let packet = b"a\0b\0c\0alice\0INBOX\0";
    for (sender, rings) in [
        ("10.1.2.3:5", true),
        ("[::ffff:10.1.2.3]:5", true),
        ("127.0.0.1:5", false),
        ("[::1]:5", false),
    ] {
        listener
            .take(packet, sender.parse().expect("an address"))
            .await;
        assert_eq!(rung.try_recv().is_ok(), rings, "{sender}");
    }
    assert_eq!(listener.stats().not_allowed.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn who_spells_a_name_is_looked_at_and_not_told() {
    let (mut listener, mut rung) = listener(NotifyOptions {
        delay: Duration::from_hours(1),
        ..NotifyOptions::default()
    });
    let sender = "127.0.0.1:5".parse().expect("an address");
    for _ in 0..2 {
        listener.take(b"a\0b\0c\0DORA\0INBOX\0", sender).await;
    }
    for person in spellings() {
        assert_eq!(rung.try_recv(), Ok((person, "INBOX again".to_owned())));
    }
    assert!(rung.try_recv().is_err(), "it came again within the delay");
    let stats = listener.stats();
    let counts = [&stats.rung, &stats.repeated, &stats.ambiguous];
    let counts = counts.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 1, 0]);
}

#[tokio::test]
async fn a_name_that_came_again_is_looked_for_when_its_delay_is_over() {
    let (mut listener, mut rung) = listener(NotifyOptions {
        delay: Duration::from_secs(1),
        ..NotifyOptions::default()
    });
    let stats = listener.stats();
    let sender = "127.0.0.1:5".parse().expect("an address");
    for packet in [
        &b"a\0b\0c\0bob\0INBOX\0"[..],
        b"a\0b\0c\0alice\0INBOX\0",
        b"a\0b\0c\0alice\0INBOX\0",
        b"a\0b\0c\0alice\0Work\0",
    ] {
        listener.take(packet, sender).await;
    }
    let listening = tokio::spawn(listener.listen(socket().await));
    let [alice, bob] = persons();
    for (person, mailbox) in [
        (bob, "INBOX"),
        (alice.clone(), "INBOX"),
        (alice.clone(), "INBOX again"),
        (alice, "Work again"),
    ] {
        assert_eq!(rung.recv().await, Some((person, mailbox.to_owned())));
    }
    assert_eq!(stats.rung.load(Ordering::Relaxed), 2);
    listening.abort();
    let _ = listening.await;
    // Nobody is looked for twice, nor who came once only.
    assert_eq!(rung.recv().await, None);
}
