//! Listeners that end though they are still wished: they are begun again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use dovecast_log::embedded::{Embedded, EmbeddedOptions};
use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::placement::{Care, Lease, Wish};
use dovecast_operations::push::{CredentialStorage, KnownPassword, Vault};
use dovecast_store::{MailboxCredentials, Passcrypt};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::World;
use crate::config::Config;
use crate::logs::Logs;
use crate::push::care::Listeners;
use crate::push::counters::{Count, Counters};

/// How long something that has to come is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at a count.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Listeners with a mail server that does as the test says, and what they need to be there.
struct Node {
    world: World,
    vault: Vault,
    server: TcpListener,
    counters: Arc<Counters>,
    listeners: Listeners,
}

impl Node {
    async fn new(more: &str) -> Self {
        let world = World::new().await;
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = server.local_addr().expect("an address").port();
        let config = format!(
            "[mail_push]\n{more}\n[mail_push.sources]\norder = ['imapidle']\n\
             [mail_push.imapidle]\nserver = 'imap://127.0.0.1:{port}'\nimap_insecure = true\n"
        );
        let mut config = Config::parse(&config).expect("a configuration");
        config.data_dir = world.dir.path().to_owned();
        let log = Embedded::open(&world.dir.path().join("log"), &EmbeddedOptions::default());
        let logs = Logs::of(&config, &log.expect("a log")).expect("logs");
        let passcrypt = Arc::new(Passcrypt::of("passphrase"));
        let vault = Vault::new(world.store.clone(), CredentialStorage::Store, passcrypt);
        let counters = Arc::<Counters>::default();
        let listeners = Listeners::start(
            &config,
            &logs,
            (&world.store, &vault),
            (&Arc::default(), &counters),
        );
        Self {
            listeners: listeners.expect("listeners"),
            world,
            vault,
            server,
            counters,
        }
    }

    /// Begins to hear joe's mailbox, as whoever has found these passwords wishes it.
    async fn begin(&self, known: &HashMap<Person, KnownPassword>) {
        let wish = Wish {
            source: SourceKind::ImapIdle,
            is_permanent: true,
            is_leaving: false,
            credentials: known.get(&joe()).map(|one| Arc::clone(&one.name)),
        };
        let lease = Lease {
            person: joe(),
            fence: 1,
        };
        self.listeners.begin(lease, wish).await;
    }

    async fn until_counted(&self, what: Count) {
        let counted = async {
            while self.counters.get(what) == 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let counted = tokio::time::timeout(PATIENCE, counted).await;
        counted.unwrap_or_else(|_| panic!("`{}` is counted in time", what.name()));
    }

    async fn connection(&self) -> TcpStream {
        let accepted = tokio::time::timeout(PATIENCE, self.server.accept()).await;
        accepted.expect("a connection in time").expect("accepted").0
    }
}

fn joe() -> Person {
    Person::new("3", "11", "11@3").expect("a person")
}

#[tokio::test]
async fn a_mailbox_whose_password_the_store_did_not_give_is_heard_when_it_does() {
    let node = Node::new("").await;
    let credentials = MailboxCredentials {
        login: "11@3".to_owned(),
        password: "geheim".to_owned(),
    };
    node.vault.keep(&joe(), &credentials).await;
    let known = node.vault.known().await.expect("passwords");
    assert_eq!(known.len(), 1);
    let rename = |from: &str, to: &str| format!("ALTER TABLE {from} RENAME TO {to}");
    node.world
        .change(&rename("push_credential", "push_away"))
        .await;
    node.begin(&known).await;
    node.until_counted(Count::Unheard).await;
    node.world
        .change(&rename("push_away", "push_credential"))
        .await;
    node.connection().await;
}

#[tokio::test]
async fn a_master_user_that_is_refused_is_counted_and_the_listener_stays() {
    let master = "password_source = 'global'\nmaster_user = 'm'\nmaster_password = 'geheim'";
    let node = Node::new(master).await;
    node.begin(&HashMap::new()).await;
    let connection = BufReader::new(node.connection().await);
    refuse(connection).await.expect("it is spoken with");
    node.until_counted(Count::MasterRefused).await;
}

/// A server that refuses any login.
async fn refuse(mut connection: BufReader<TcpStream>) -> std::io::Result<()> {
    let greeting = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN IDLE] here\r\n";
    connection.write_all(greeting).await?;
    let mut line = String::new();
    connection.read_line(&mut line).await?;
    let tag = line.split(' ').next().unwrap_or_default();
    let answer = format!("{tag} NO [AUTHENTICATIONFAILED] no\r\n");
    connection.write_all(answer.as_bytes()).await
}
