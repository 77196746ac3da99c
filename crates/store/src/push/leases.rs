//! Leases of listeners: which node hears whose mailbox.
//!
//! A lease is good as long as its node lives, so that renewing all of a node's is one write. A node
//! says that it lives in the time of the database; one that could not say so in time has no lease,
//! whatever it believes, and asks before it acts ([`Store::holds_lease`]). A file of SQLite has one
//! node.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use dovecast_mail_push::Person;
use dovecast_mail_push::listener::SourceKind;
use dovecast_mail_push::placement::{Fares, Lease};
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::sweeping::{Sweep, has_nothing};
use super::time::EXPIRED_KEPT_MS;
use super::{bind_persons, person};
use crate::connection::{Line, Transaction};
use crate::error::Result;
use crate::open::Store;
use crate::row;
use crate::statement::Statement;

/// How long a node lives without saying so, and so how long a dead node's mailboxes are heard by
/// nobody.
pub const NODE_LIFE_MS: i64 = 10_000;
/// Leases that are taken or given in one statement.
const AT_A_TIME: usize = 200;

/// Where and how a mailbox is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardOn {
    /// Whose mailbox it is.
    pub person: Person,
    /// The node that hears it.
    pub node: String,
    /// How its listener fares, as that node has said.
    pub fares: Option<Fares>,
}

/// Context and user of a person.
type LeaseKey = (Arc<str>, Arc<str>);

const BEAT: &str = "INSERT INTO push_node (id, alive_until_ms) VALUES ($1, $2) \
    ON CONFLICT (id) DO UPDATE SET alive_until_ms = excluded.alive_until_ms";
/// Whoever has the lease keeps it while it lives; what follows is the time of the database.
const TAKE: &str = " ON CONFLICT (context, user_name) DO UPDATE SET node = excluded.node, login = excluded.login, \
    fence = push_lease.fence + 1, source = '', trouble = '', trouble_ms = 0 WHERE push_lease.node = '' OR NOT EXISTS (SELECT 1 FROM push_node \
    WHERE push_node.id = push_lease.node AND push_node.alive_until_ms > ";
const HOLDS: &str = "SELECT 1 AS held FROM push_lease JOIN push_node ON push_node.id = push_lease.node \
    WHERE context = $1 AND user_name = $2 AND node = $3 AND fence = $4 AND alive_until_ms > $5";

const HEARD_ON: &str = "SELECT context, user_name, login, node, source, trouble, trouble_ms \
    FROM push_lease JOIN push_node ON push_node.id = push_lease.node \
    WHERE alive_until_ms > $1 ORDER BY context, user_name";
const NOTE: &str = "UPDATE push_lease SET source = $1, trouble = $2, trouble_ms = $3 \
    WHERE context = $4 AND user_name = $5 AND node = $6 AND fence = $7";
/// Longest text of what keeps a mailbox from being heard, in characters.
const MAX_TROUBLE_CHARS: usize = 200;
/// Longest name of a machine that is part of a node's, in characters.
const MAX_MACHINE_CHARS: usize = 64;

/// A name for a node: the machine's, by which people know it, and a number, as several may be on
/// one, and one that is started anew has no leases.
pub(crate) fn node_name() -> String {
    let id = Uuid::now_v7();
    // A service may not see /proc/sys.
    let system = rustix::system::uname();
    let machine = system.nodename().to_string_lossy();
    let is_plain = |one: &char| one.is_ascii_alphanumeric() || matches!(one, '-' | '.' | '_');
    let machine = machine.trim().chars().filter(is_plain);
    let machine: String = machine.take(MAX_MACHINE_CHARS).collect();
    if machine.is_empty() {
        id.to_string()
    } else {
        format!("{machine}/{id}")
    }
}

/// Leases of nobody, or of nodes that live no more, of persons of whom there is nothing that could
/// be heard or was.
pub(super) const FORGET_LEASES: Sweep = Sweep {
    table: "push_lease",
    act: "DELETE FROM push_lease",
    condition: concat!(
        "(node = '' OR NOT EXISTS (SELECT 1 FROM push_node WHERE push_node.id = push_lease.node)) AND ",
        has_nothing!("push_lease"),
        " AND NOT EXISTS (SELECT 1 FROM push_heard AS h WHERE h.context = push_lease.context \
         AND h.user_name = push_lease.user_name) \
         AND NOT EXISTS (SELECT 1 FROM push_metadata AS m WHERE m.context = push_lease.context \
         AND m.user_name = push_lease.user_name)"
    ),
};

impl Store {
    /// Time of the database, which all nodes have the same; a clock that stands in tests is taken
    /// for it.
    async fn now_of_leases(&self, tx: &mut Transaction) -> Result<i64> {
        let now_ms = self.clock.now_ms();
        if self.clock.is_standing() {
            return Ok(now_ms);
        }
        self.now_of_dispatchers(tx, now_ms).await
    }

    /// Says that this node lives no more: its leases are nobody's from now on.
    pub async fn leave_push_node(&self) -> Result<()> {
        let mut tx = self.database.begin_writing_in(Line::Life).await?;
        sqlx::query("DELETE FROM push_node WHERE id = $1")
            .bind(self.push_node())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Says that this node lives, and names all that do. Its own leases are good for
    /// [`NODE_LIFE_MS`] from now on.
    pub async fn beat_push_node(&self) -> Result<Vec<String>> {
        let mut tx = self.database.begin_writing_in(Line::Life).await?;
        let now_ms = self.now_of_leases(&mut tx).await?;
        sqlx::query(BEAT)
            .bind(self.push_node())
            .bind(now_ms.saturating_add(NODE_LIFE_MS))
            .execute(&mut *tx)
            .await?;
        // Said before the clock of the database was set back: it counts as said now.
        sqlx::query("UPDATE push_node SET alive_until_ms = $1 WHERE alive_until_ms > $2")
            .bind(now_ms.saturating_add(NODE_LIFE_MS))
            .bind(now_ms.saturating_add(2 * NODE_LIFE_MS))
            .execute(&mut *tx)
            .await?;
        // A file has one user, so others are of processes that are gone.
        let dead_ms = if self.database.is_shared() {
            now_ms
        } else {
            i64::MAX
        };
        sqlx::query("DELETE FROM push_node WHERE id <> $1 AND alive_until_ms <= $2")
            .bind(self.push_node())
            .bind(dead_ms)
            .execute(&mut *tx)
            .await?;
        let rows = sqlx::query("SELECT id FROM push_node ORDER BY id")
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        rows.iter().map(|found| row::text(found, "id")).collect()
    }

    /// Name of this node among those that run listeners, with that of its machine: the same as long
    /// as the store is open, whatever becomes of the node's dispatcher.
    pub fn push_node(&self) -> String {
        self.push_node.to_string()
    }

    /// Leases what no node that lives has leased; what was taken.
    pub async fn take_leases(&self, persons: &[Person]) -> Result<Vec<Lease>> {
        let place =
            |one: &Person| -> LeaseKey { (Arc::clone(&one.context), Arc::clone(&one.user)) };
        // In one order on all nodes, so that none waits for another that waits for it; each once,
        // as a statement may not change a row twice.
        let persons: BTreeMap<_, &Person> = persons.iter().map(|one| (place(one), one)).collect();
        let persons: Vec<&Person> = persons.into_values().collect();
        let mut leases = Vec::new();
        for persons in persons.chunks(AT_A_TIME) {
            let mut tx = self.database.begin_writing().await?;
            let now_ms = self.now_of_leases(&mut tx).await?;
            let rows = self.taking(persons, now_ms).fetch_all(&mut tx).await?;
            tx.commit().await?;
            let fences: HashMap<_, i64> = rows.iter().map(fence).collect::<Result<_>>()?;
            leases.extend(persons.iter().filter_map(|one| {
                Some(Lease {
                    person: (*one).clone(),
                    fence: *fences.get(&place(one))?,
                })
            }));
        }
        Ok(leases)
    }

    fn taking(&self, persons: &[&Person], now_ms: i64) -> Statement {
        let into = "INSERT INTO push_lease (context, user_name, login, node, fence) VALUES (";
        let mut statement = Statement::new(into);
        for (place, person) in persons.iter().enumerate() {
            if place > 0 {
                statement.push(", (");
            }
            statement.bind(person.context.to_string()).push(", ");
            statement.bind(person.user.to_string()).push(", ");
            statement.bind(person.login.to_string()).push(", ");
            statement.bind(self.push_node()).push(", ");
            // A first lease has the time for its fence: where there was one before, which was
            // forgotten, it is higher than that.
            statement.bind(now_ms.max(1)).push(")");
        }
        statement.push(TAKE).bind(now_ms);
        statement.push(") RETURNING context, user_name, fence");
        statement
    }

    /// Gives leases of this node back, once nothing is heard any more.
    pub async fn give_leases(&self, persons: &[Person]) -> Result<()> {
        for persons in persons.chunks(AT_A_TIME) {
            let mut statement = Statement::new("UPDATE push_lease SET node = '' WHERE node = ");
            statement.bind(self.push_node()).push(" AND ");
            bind_persons(&mut statement, persons);
            statement.execute_on(&self.database.pool).await?;
        }
        Ok(())
    }

    /// Forgets leases of persons who have left: neither a subscription nor a session is left of
    /// them, where what has expired is there for a day still, and nothing is known of their
    /// mailboxes. How many there were.
    pub async fn forget_leases(&self) -> Result<u64> {
        let now_ms = self.expiry_now_ms().await?;
        let kept_ms = now_ms.saturating_sub(EXPIRED_KEPT_MS);
        self.sweep_persons(&FORGET_LEASES, &[kept_ms]).await
    }

    /// Whether a lease of this node is still good: nobody has leased the person since, and the node
    /// has said in time that it lives.
    pub async fn holds_lease(&self, lease: &Lease) -> Result<bool> {
        let mut tx = self.database.begin_reading().await?;
        let now_ms = self.now_of_leases(&mut tx).await?;
        let held = sqlx::query(HOLDS)
            .bind(&*lease.person.context)
            .bind(&*lease.person.user)
            .bind(self.push_node())
            .bind(lease.fence)
            .bind(now_ms)
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(held.is_some())
    }

    /// Notes how listeners of this node fare, as long as it has their leases.
    pub async fn note_listeners(&self, listeners: &[(Lease, Fares)]) -> Result<()> {
        for listeners in listeners.chunks(AT_A_TIME) {
            let mut tx = self.database.begin_writing().await?;
            for (lease, fares) in listeners {
                let (trouble, since_ms) = match &fares.trouble {
                    Some((trouble, since_ms)) => (trouble.as_str(), *since_ms),
                    None => ("", 0),
                };
                let trouble: String = trouble.chars().take(MAX_TROUBLE_CHARS).collect();
                sqlx::query(NOTE)
                    .bind(fares.source.name())
                    .bind(trouble)
                    .bind(since_ms)
                    .bind(&*lease.person.context)
                    .bind(&*lease.person.user)
                    .bind(self.push_node())
                    .bind(lease.fence)
                    .execute(&mut *tx)
                    .await?;
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// All persons who are heard, with the node that hears them and lives.
    pub async fn heard_on(&self) -> Result<Vec<HeardOn>> {
        let mut tx = self.database.begin_reading().await?;
        let now_ms = self.now_of_leases(&mut tx).await?;
        let rows = sqlx::query(HEARD_ON)
            .bind(now_ms)
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(self.readable(&rows, "push_lease", heard_on))
    }

    /// All persons who are leased, with the name of the node, whether it lives or not.
    pub async fn leased(&self) -> Result<Vec<(Person, String)>> {
        let rows = sqlx::query(
            "SELECT context, user_name, login, node FROM push_lease WHERE node <> '' \
             ORDER BY context, user_name",
        )
        .fetch_all(&self.database.pool)
        .await?;
        Ok(self.readable(&rows, "push_lease", leased))
    }
}

/// Where and how the mailbox of a row is heard.
fn heard_on(found: &AnyRow) -> Result<HeardOn> {
    let trouble = row::text(found, "trouble")?;
    let since_ms = row::number(found, "trouble_ms")?;
    let source = SourceKind::from_name(&row::text(found, "source")?);
    Ok(HeardOn {
        person: person(found)?,
        node: row::text(found, "node")?,
        // One that has just begun has not said so.
        fares: source.map(|source| Fares {
            source,
            trouble: (!trouble.is_empty()).then_some((trouble, since_ms)),
        }),
    })
}

/// Whose lease a row is, and the node that has it.
fn leased(found: &AnyRow) -> Result<(Person, String)> {
    Ok((person(found)?, row::text(found, "node")?))
}

/// Whose lease a row is, and its number.
fn fence(found: &AnyRow) -> Result<(LeaseKey, i64)> {
    let context = row::text(found, "context")?.into();
    let user = row::text(found, "user_name")?.into();
    Ok(((context, user), row::number(found, "fence")?))
}
