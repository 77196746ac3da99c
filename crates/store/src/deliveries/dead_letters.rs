//! Dead letters: deliveries that will not be made, and records that were no notification, with the
//! reason.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use dovecast_dispatch::ledger::{DeadLetter, RecordPlace};
use dovecast_notification::{EndpointId, Notification, NotificationId};
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::claims::count;
use super::dead_bodies::{Bodies, push_account, remove_unused};
use super::order::push_place;
use super::ranges::offset;
use crate::connection::{Connection, deadlock};
use crate::error::Result;
use crate::id::repeatable;
use crate::open::{Database, Store};
use crate::row;
use crate::statement::{Statement, parts};

/// Bytes of contents with which a page of dead letters ends, and so does one transaction of a
/// redelivery: four of the largest notifications that the REST API takes. One letter is read,
/// however large.
const PAGE_BYTES: i64 = 4 * 1024 * 1024;

/// Dead letters of a list, the newest first: as many as were asked for, or as a page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// The letters.
    pub letters: Vec<KeptDeadLetter>,
    /// Id before which the list goes on, where there may be older letters.
    pub older_before: Option<Uuid>,
}

/// A dead letter that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDeadLetter {
    /// Id of the dead letter; later ones are greater.
    pub id: Uuid,
    /// The dead letter itself.
    pub letter: DeadLetter,
}

impl KeptDeadLetter {
    /// The notification as a webhook would have it; of no endpoint, the record as it stood in the
    /// log.
    pub fn body(&self) -> Vec<u8> {
        let letter = &self.letter;
        let of_endpoint = letter
            .endpoint
            .and_then(|_| Notification::from_canonical(letter.notification, &letter.content).ok());
        match of_endpoint {
            Some(notification) => notification.body().to_vec(),
            None => letter.content.to_vec(),
        }
    }
}

/// Value of `is_base64` where the content is a text. A node of before `dead_body`, which runs
/// beside this one during an upgrade, redelivers letters of this value only.
const TEXT: i64 = 0;
/// Value of `is_base64` where the content is Base64.
const BASE64: i64 = 1;
/// Value of `is_base64` where what the letter is of is in `dead_body`, and the content is empty: a
/// node of before that table would owe the empty content.
const IN_BODY: i64 = 2;

const INSERT: &str = "INSERT INTO dead_letter (id, endpoint_id, notification_id, reason, time_ms, attempts, \
    log, topic, part, record_offset, order_log, order_topic, order_part, order_offset, order_key, txn, note, \
    content, is_base64, body_id, account_id) VALUES ";
/// What is there already, by its id or by the place of its record, stays as it is.
const ONCE: &str = " ON CONFLICT DO NOTHING";
const SELECT: &str = "SELECT dead_letter.id, endpoint_id, notification_id, COALESCE(dead_body.content, dead_letter.content) AS content, \
    is_base64, reason, time_ms, attempts, topic, part, record_offset FROM dead_letter LEFT JOIN dead_body ON dead_body.id = body_id \
    WHERE dead_letter.id < $1 ORDER BY dead_letter.id DESC LIMIT $2";

// Of one endpoint letters are a range of an index, as in `first_due`.
const SELECT_OF: &str = "SELECT dead_letter.id, endpoint_id, notification_id, COALESCE(dead_body.content, dead_letter.content) AS content, \
    is_base64, reason, time_ms, attempts, topic, part, record_offset FROM dead_letter LEFT JOIN dead_body ON dead_body.id = body_id \
    WHERE endpoint_id >= $1 AND (endpoint_id, dead_letter.id) < ($1, $2) \
    ORDER BY endpoint_id DESC, dead_letter.id DESC LIMIT $3";
// How large the contents of the same letters are. Of a body that is a column, of what stands in the
// letter itself a figure that both databases have without reading it.
const SIZES: &str = "SELECT COALESCE(dead_body.bytes, octet_length(dead_letter.content)) AS bytes \
    FROM dead_letter LEFT JOIN dead_body ON dead_body.id = body_id \
    WHERE dead_letter.id < $1 ORDER BY dead_letter.id DESC LIMIT $2";
const SIZES_OF: &str = "SELECT COALESCE(dead_body.bytes, octet_length(dead_letter.content)) AS bytes \
    FROM dead_letter LEFT JOIN dead_body ON dead_body.id = body_id \
    WHERE endpoint_id >= $1 AND (endpoint_id, dead_letter.id) < ($1, $2) \
    ORDER BY endpoint_id DESC, dead_letter.id DESC LIMIT $3";
const DROP_ONE: &str =
    "DELETE FROM dead_letter WHERE endpoint_id = $1 AND notification_id = $2 RETURNING body_id";
const DROP_PART: &str = "DELETE FROM dead_letter WHERE id IN (SELECT id FROM dead_letter \
    WHERE endpoint_id >= $1 AND endpoint_id <= $1 AND time_ms >= $2 ORDER BY endpoint_id, id LIMIT $3) RETURNING body_id";
/// Most dead letters that one statement drops, so that others need not wait long.
const DROPPED_AT_A_TIME: i64 = 500;

/// Dead letters that are inserted, made ready before the transaction: to hash large contents takes
/// time, in which PostgreSQL would take a transaction for one that was left.
pub(super) struct NewLetters<'a> {
    bodies: Bodies<'a>,
    rows: Vec<NewRow<'a>>,
}

impl<'a> NewLetters<'a> {
    pub(super) fn of(letters: impl Iterator<Item = &'a DeadLetter>) -> Self {
        let mut bodies = Bodies::default();
        let row = |(place, letter): (usize, &'a DeadLetter)| {
            let content = match (letter.endpoint, text_of(letter)) {
                (Some(endpoint), Some(text)) => {
                    Content::Body(bodies.add(endpoint, text, letter.time_ms))
                }
                (None, Some(text)) => Content::Text(text),
                (_, None) => Content::Bytes(&letter.content),
            };
            NewRow {
                letter,
                place,
                content,
            }
        };
        let rows = letters.enumerate().map(row).collect();
        Self { bodies, rows }
    }

    /// Inserts them, each once, however often that is tried; `log` is where their records stand, of
    /// those that are records. Their bodies come first, in the order of their ids: whoever locks
    /// several of those does it so, and no two wait for each other.
    pub(super) async fn insert(
        &self,
        (database, tx): (&Database, &mut Connection),
        log: &str,
    ) -> Result<()> {
        self.bodies.put(database, tx).await?;
        for part in parts(&self.rows, NewRow::bytes) {
            let mut insert = Statement::new(INSERT);
            insert.bind_rows(part, |insert, row| row.push(insert, log));
            insert.push(ONCE);
            insert.execute(tx).await?;
        }
        Ok(())
    }

    /// The endpoints whose letters they are.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = EndpointId> {
        self.rows.iter().filter_map(|row| row.letter.endpoint)
    }
}

/// A dead letter that is inserted.
struct NewRow<'a> {
    letter: &'a DeadLetter,
    /// Place among those that are inserted together.
    place: usize,
    content: Content<'a>,
}

/// How the content of a dead letter is kept.
enum Content<'a> {
    /// In the body of this id.
    Body(String),
    /// As it is.
    Text(&'a str),
    /// In Base64.
    Bytes(&'a [u8]),
}

/// The content, if a column can hold it: PostgreSQL takes no NUL in a text.
fn text_of(letter: &DeadLetter) -> Option<&str> {
    let text = std::str::from_utf8(&letter.content).ok();
    text.filter(|text| !text.contains('\0'))
}

impl NewRow<'_> {
    /// Bytes of the row, in about.
    fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Body(_) => 0,
            Content::Text(text) => text.len(),
            Content::Bytes(bytes) => bytes.len(),
        };
        content + self.letter.reason.len() + self.letter.note.len()
    }

    fn id(&self, log: &str) -> Uuid {
        let letter = self.letter;
        let endpoint = letter.endpoint.map(|endpoint| endpoint.0.into_bytes());
        repeatable(
            letter.time_ms,
            self.place,
            &[
                endpoint.as_ref().map_or(&[], |id| &id[..]),
                letter.notification.0.as_bytes(),
                letter.reason.as_bytes(),
                letter.record.as_ref().map_or("", |_| log).as_bytes(),
            ],
        )
    }

    /// Pushes the values of the columns of [`INSERT`].
    fn push(&self, insert: &mut Statement, log: &str) {
        let letter = self.letter;
        let record = letter.record.as_ref();
        let together = letter.together.as_ref();
        let (content, is_base64, body) = match &self.content {
            Content::Body(id) => (String::new(), IN_BODY, Some(id.clone())),
            Content::Text(text) => ((*text).to_owned(), TEXT, None),
            Content::Bytes(bytes) => (BASE64_STANDARD.encode(bytes), BASE64, None),
        };
        insert
            .bind(self.id(log).to_string())
            .bind_next(letter.endpoint.map(|endpoint| endpoint.to_string()))
            .bind_next(letter.notification.to_string())
            .bind_next(letter.reason.replace('\0', "\u{fffd}"))
            .bind_next(letter.time_ms)
            .bind_next(i64::from(letter.attempts))
            .bind_next(record.map(|_| log.to_owned()))
            .bind_next(record.map(|record| record.topic.to_string()))
            .bind_next(record.map(|record| i64::from(record.partition)))
            .bind_next(record.map(|record| offset(record.offset)))
            .push(", ");
        push_place(insert, together.map(|together| &together.place), log);
        insert
            .bind_next(together.map(|together| together.transaction.to_string()))
            .bind_next(letter.note.replace('\0', "\u{fffd}"))
            .bind_next(content)
            .bind_next(is_base64)
            .bind_next(body)
            .push(", ");
        push_account(insert, letter.endpoint);
    }
}

impl Store {
    /// The latest dead letters before one, at most so many and as a page holds, the newest first.
    pub async fn dead_letters(&self, before: Option<Uuid>, most: usize) -> Result<DeadLetterPage> {
        let before = end_or(before);
        let mut tx = self.database.begin_reading().await?;
        let sizes = sqlx::query(SIZES)
            .bind(before.clone())
            .bind(limit(most))
            .fetch_all(&mut *tx)
            .await?;
        let fitting = fitting(&sizes)?;
        let rows = sqlx::query(SELECT)
            .bind(before)
            .bind(limit(fitting))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        page(&rows, sizes.len() == most || fitting < sizes.len())
    }

    /// The latest dead letters of an endpoint before one, at most so many and as a page holds, the
    /// newest first.
    pub async fn dead_letters_of(
        &self,
        endpoint: EndpointId,
        before: Option<Uuid>,
        most: usize,
    ) -> Result<DeadLetterPage> {
        let before = end_or(before);
        let mut tx = self.database.begin_reading().await?;
        let sizes = sqlx::query(SIZES_OF)
            .bind(endpoint.to_string())
            .bind(before.clone())
            .bind(limit(most))
            .fetch_all(&mut *tx)
            .await?;
        let fitting = fitting(&sizes)?;
        let rows = sqlx::query(SELECT_OF)
            .bind(endpoint.to_string())
            .bind(before)
            .bind(limit(fitting))
            .fetch_all(&mut *tx)
            .await?;
        tx.commit().await?;
        page(&rows, sizes.len() == most || fitting < sizes.len())
    }

    /// Drops the dead letters of one notification to an endpoint; `false`: there is none.
    pub async fn drop_dead_letter(
        &self,
        endpoint: EndpointId,
        notification: NotificationId,
    ) -> Result<bool> {
        let drop_one = || async move {
            let mut tx = self.database.begin_writing().await?;
            let dropped = sqlx::query(DROP_ONE)
                .bind(endpoint.to_string())
                .bind(notification.to_string())
                .fetch_all(&mut *tx)
                .await?;
            remove_unused(&self.database, &mut tx, &dropped).await?;
            tx.commit().await?;
            Ok(!dropped.is_empty())
        };
        deadlock::again(drop_one).await
    }

    /// Drops the dead letters of an endpoint that have become so since a time; how many those were.
    pub async fn drop_dead_letters_since(
        &self,
        endpoint: EndpointId,
        since_ms: i64,
    ) -> Result<u64> {
        let drop_part = || async move {
            let mut tx = self.database.begin_writing().await?;
            let part = sqlx::query(DROP_PART)
                .bind(endpoint.to_string())
                .bind(since_ms)
                .bind(DROPPED_AT_A_TIME)
                .fetch_all(&mut *tx)
                .await?;
            remove_unused(&self.database, &mut tx, &part).await?;
            tx.commit().await?;
            Ok(part.len() as u64)
        };
        let mut dropped = 0;
        loop {
            let part = deadlock::again(&drop_part).await?;
            dropped += part;
            if part < DROPPED_AT_A_TIME.unsigned_abs() {
                return Ok(dropped);
            }
        }
    }
}

/// Where a list begins; without an id behind all of them.
fn end_or(before: Option<Uuid>) -> String {
    before.map_or_else(|| "g".to_owned(), |id| id.to_string())
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// Number of the letters, whose sizes these rows are, that a page holds: at least one, if there is
/// any.
pub(super) fn fitting(sizes: &[AnyRow]) -> Result<usize> {
    let mut bytes = 0_i64;
    for (place, found) in sizes.iter().enumerate() {
        bytes = bytes.saturating_add(row::number(found, "bytes")?);
        if bytes > PAGE_BYTES && place > 0 {
            return Ok(place);
        }
    }
    Ok(sizes.len())
}

fn page(rows: &[AnyRow], may_go_on: bool) -> Result<DeadLetterPage> {
    let letters: Vec<_> = rows.iter().map(letter).collect::<Result<_>>()?;
    let oldest = letters.last().filter(|_| may_go_on);
    let older_before = oldest.map(|kept| kept.id);
    Ok(DeadLetterPage {
        letters,
        older_before,
    })
}

fn letter(found: &AnyRow) -> Result<KeptDeadLetter> {
    let content = row::text(found, "content")?;
    let content = if row::number(found, "is_base64")? == BASE64 {
        BASE64_STANDARD
            .decode(content)
            .map_err(|error| row::wrong("content", error))?
            .into()
    } else {
        content.into()
    };
    let endpoint = match row::optional_text(found, "endpoint_id")? {
        Some(_) => Some(row::id(found, "endpoint_id")?),
        None => None,
    };
    let record = match row::optional_text(found, "topic")? {
        Some(topic) => Some(RecordPlace {
            topic: topic.into(),
            partition: count(found, "part")?,
            offset: count(found, "record_offset")?,
        }),
        None => None,
    };
    Ok(KeptDeadLetter {
        id: row::id(found, "id")?,
        letter: DeadLetter {
            note: String::new(),
            together: None,
            endpoint,
            record,
            notification: row::id(found, "notification_id")?,
            content,
            reason: row::text(found, "reason")?,
            time_ms: row::number(found, "time_ms")?,
            attempts: count(found, "attempts")?,
        },
    })
}
