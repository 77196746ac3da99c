//! What became of a claimed push: accepted, put off, given up; and what is dropped by age.

use dovecast_mail_push::Topic;
use dovecast_mail_push::plan::{GATHER_AT_MOST_MS, GATHER_MS, deadline_ms};
use dovecast_mail_push::retry::SHOWN;

use super::sending::ClaimedPush;
use super::subscriptions::LastAnswer;
use super::time::PushNow;
use crate::connection::Transaction;
use crate::error::Result;
use crate::open::Store;

const ACCEPTED: &str = "INSERT INTO push_accepted (subscription_id, tag, context, user_name, accepted_ms) \
    SELECT id, $1, $2, $3, $4 FROM push_subscription WHERE id = $5 \
    ON CONFLICT (subscription_id, tag) DO UPDATE SET accepted_ms = excluded.accepted_ms";
const CLOSED: &str = "DELETE FROM push_accepted WHERE subscription_id = $1 AND tag = $2";
const DONE: &str = "DELETE FROM push_waiting WHERE id = $1 AND revision = $2";
const RELEASE: &str = "UPDATE push_waiting SET claimed_until_ms = 0 WHERE id = $1";
const LATER: &str = "UPDATE push_waiting SET claimed_until_ms = 0, due_ms = $1, failures = failures + $2 \
    WHERE id = $3 AND revision = $4";
/// Has a push wait for the end of quiet hours, for $1 from now on: from then on it has as much time
/// as it has now. What is gathered waits for more then, as what came in quiet hours does.
const QUIET: &str = "UPDATE push_waiting SET claimed_until_ms = 0, deadline_ms = deadline_ms + $1, quiet_until_ms = $2, \
    due_ms = CASE WHEN gathered_until_ms > 0 THEN $3 ELSE $4 END, \
    gathered_until_ms = CASE WHEN gathered_until_ms > 0 THEN $5 ELSE 0 END WHERE id = $6 AND revision = $7";
/// Whatever has become of the push since: what was asked for is what may be shown.
const MAY_BE_SHOWN: &str = "UPDATE push_waiting SET may_be_shown = 1 WHERE id = $1";
const SHORTEN: &str = "UPDATE push_waiting SET claimed_until_ms = 0, message = short_message \
    WHERE id = $1 AND revision = $2";
const ANSWER: &str = "UPDATE push_subscription SET answer = $1 WHERE id = $2";
/// Only what is still the device that was asked: its token may have been replaced meanwhile.
const GONE: &str = "DELETE FROM push_subscription WHERE id = $1 AND context = $2 AND user_name = $3 AND sealed = $4";

/// What has waited for a device that has expired since: its service was not asked.
const EXPIRED: &str = "DELETE FROM push_waiting WHERE deadline_ms <= $1 AND subscription_id IN \
    (SELECT id FROM push_subscription WHERE expires_ms <= $1)";

/// How an attempt at a push ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushEnd {
    /// The service has it.
    Accepted(LastAnswer),
    /// The device is gone for good: so is its subscription.
    Gone,
    /// The push is due again after so many milliseconds.
    Later(i64, LastAnswer),
    /// The push is due again after so many milliseconds, as no answer has come: its service may
    /// have it, and its device may show it.
    Unanswered(i64, LastAnswer),
    /// The push is not sent before this, in milliseconds from now: its host has asked for time.
    Held(i64),
    /// The push waits for the end of quiet hours, which is this, in milliseconds since 1970 by this
    /// node's clock.
    Quiet(i64),
    /// The push is due at once in its shorter form.
    Shorten(LastAnswer),
    /// The push is never accepted.
    Refused(LastAnswer),
    /// The push is due at once: its device has another address than the one it was claimed with.
    Released,
    /// The push was replaced, or is no more to be sent.
    Dropped,
}

/// What was dropped by age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushesDropped {
    /// Pushes whose deadline is over.
    pub overdue: u64,
    /// Pushes that no device shows any more.
    pub forgotten: u64,
}

impl Store {
    /// Writes what became of a claimed push. A push that was replaced meanwhile stays, and is free.
    pub async fn end_push(&self, push: &ClaimedPush, end: &PushEnd) -> Result<()> {
        let now = self.push_now().await?;
        let now_ms = now.now_ms;
        let mut tx = self.database.begin_writing().await?;
        match end {
            PushEnd::Accepted(answer) => {
                note(&mut tx, push, answer).await?;
                accepted(&mut tx, push, now_ms).await?;
                finish(&mut tx, push).await?;
            }
            PushEnd::Gone => {
                sqlx::query(GONE)
                    .bind(push.subscription.to_string())
                    .bind(&*push.person.context)
                    .bind(&*push.person.user)
                    .bind(push.sealed())
                    .execute(&mut *tx)
                    .await?;
                // Another device may have the subscription now.
                release(&mut tx, push).await?;
            }
            PushEnd::Later(after_ms, answer) => {
                note(&mut tx, push, answer).await?;
                later(&mut tx, push, (now_ms.saturating_add(*after_ms), 1)).await?;
            }
            PushEnd::Unanswered(after_ms, answer) => {
                note(&mut tx, push, answer).await?;
                let mark = sqlx::query(MAY_BE_SHOWN).bind(&push.id);
                mark.execute(&mut *tx).await?;
                later(&mut tx, push, (now_ms.saturating_add(*after_ms), 1)).await?;
            }
            PushEnd::Held(after_ms) => {
                later(&mut tx, push, (now_ms.saturating_add(*after_ms), 0)).await?;
            }
            PushEnd::Quiet(until_ms) => quiet(&mut tx, push, now, *until_ms).await?,
            PushEnd::Shorten(answer) => {
                note(&mut tx, push, answer).await?;
                let shorten = sqlx::query(SHORTEN).bind(&push.id).bind(push.revision);
                shorten.execute(&mut *tx).await?;
                release(&mut tx, push).await?;
            }
            PushEnd::Refused(answer) => {
                note(&mut tx, push, answer).await?;
                finish(&mut tx, push).await?;
            }
            PushEnd::Released => release(&mut tx, push).await?,
            PushEnd::Dropped => finish(&mut tx, push).await?,
        }
        tx.commit().await?;
        Ok(())
    }

    /// Drops pushes whose deadline is over, and forgets what no device shows any more.
    pub async fn drop_old_pushes(&self) -> Result<PushesDropped> {
        // What is dropped is judged by one look at the clocks, of which none may be minutes old.
        let mut shown = self.push_clock.lock().await;
        self.forget_database_time();
        let now_ms = self.push_now_of(&mut shown).await?.now_ms;
        self.return_pushes(now_ms).await?;
        sqlx::query(EXPIRED)
            .bind(now_ms)
            .execute(&self.database.pool)
            .await?;
        let overdue = sqlx::query("DELETE FROM push_waiting WHERE deadline_ms <= $1")
            .bind(now_ms)
            .execute(&self.database.pool)
            .await?;
        let shown_ms = i64::try_from(SHOWN.as_millis()).unwrap_or(i64::MAX);
        let forgotten = sqlx::query("DELETE FROM push_accepted WHERE accepted_ms <= $1")
            .bind(now_ms - shown_ms)
            .execute(&self.database.pool)
            .await?;
        sqlx::query("DELETE FROM push_held WHERE until_ms <= $1 OR until_ms > $2")
            .bind(now_ms)
            .bind(now_ms.saturating_add(deadline_ms()))
            .execute(&self.database.pool)
            .await?;
        Ok(PushesDropped {
            overdue: overdue.rows_affected(),
            forgotten: forgotten.rows_affected(),
        })
    }
}

async fn note(tx: &mut Transaction, push: &ClaimedPush, answer: &LastAnswer) -> Result<()> {
    sqlx::query(ANSWER)
        .bind(answer.to_json().to_string())
        .bind(push.subscription.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// What closes a notification leaves nothing that is shown, and counts for the minute.
async fn accepted(tx: &mut Transaction, push: &ClaimedPush, now_ms: i64) -> Result<()> {
    let is_closing = push.topic == Topic::MailClose;
    if is_closing {
        sqlx::query(CLOSED)
            .bind(push.subscription.to_string())
            .bind(push.tag.as_str())
            .execute(&mut **tx)
            .await?;
    }
    sqlx::query(ACCEPTED)
        .bind(if is_closing {
            &*push.id
        } else {
            push.tag.as_str()
        })
        .bind(&*push.person.context)
        .bind(&*push.person.user)
        .bind(now_ms)
        .bind(push.subscription.to_string())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn later(
    tx: &mut Transaction,
    push: &ClaimedPush,
    (due_ms, failures): (i64, i64),
) -> Result<()> {
    sqlx::query(LATER)
        .bind(due_ms)
        .bind(failures)
        .bind(&push.id)
        .bind(push.revision)
        .execute(&mut **tx)
        .await?;
    release(tx, push).await
}

async fn quiet(
    tx: &mut Transaction,
    push: &ClaimedPush,
    now: PushNow,
    until_ms: i64,
) -> Result<()> {
    let due_ms = until_ms.saturating_add(now.ahead_ms);
    sqlx::query(QUIET)
        .bind(due_ms.saturating_sub(now.now_ms))
        .bind(until_ms)
        .bind(due_ms.saturating_add(GATHER_MS))
        .bind(due_ms)
        .bind(due_ms.saturating_add(GATHER_AT_MOST_MS))
        .bind(&push.id)
        .bind(push.revision)
        .execute(&mut **tx)
        .await?;
    release(tx, push).await
}

async fn finish(tx: &mut Transaction, push: &ClaimedPush) -> Result<()> {
    let done = sqlx::query(DONE).bind(&push.id).bind(push.revision);
    done.execute(&mut **tx).await?;
    release(tx, push).await
}

async fn release(tx: &mut Transaction, push: &ClaimedPush) -> Result<()> {
    sqlx::query(RELEASE)
        .bind(&push.id)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
