//! Mail push: subscriptions of persons, their sessions, what their mailboxes are opened with, and
//! pushes that wait.
//!
//! What belongs to a person is found with the person only. Addresses of devices and passwords are
//! sealed; of sessions only hashes are kept.

mod clients;
mod credentials;
mod due;
mod gathering;
mod heard;
mod leases;
mod metadata;
mod outcomes;
mod persons;
mod pushes;
mod readable;
mod sending;
mod sessions;
mod subscriptions;
mod sweeping;
mod time;
mod traces;

use dovecast_mail_push::Person;
use sqlx::any::AnyRow;

use crate::error::Result;
use crate::row;
use crate::statement::Statement;

pub use clients::PushClient;
pub use credentials::{KnownCredentials, MailboxCredentials};
pub(crate) use leases::node_name;
pub use leases::{HeardOn, NODE_LIFE_MS};
pub use outcomes::{PushEnd, PushesDropped};
pub use pushes::PushesWritten;
pub use sending::{ClaimLimits, ClaimedPush, MaySend};
pub use sessions::{NewSession, ShownSession};
pub use subscriptions::{
    LastAnswer, NewSubscription, PutSubscription, SubscriptionEdit, SubscriptionRecord,
};
pub(crate) use time::Both;
pub use traces::{AcceptedPushes, PushTraces, WaitingPush};

pub(crate) use credentials::field as credential_field;
pub(crate) use subscriptions::field as subscription_field;

/// Adds to a statement that a row is of one of these persons.
fn bind_persons(statement: &mut Statement, persons: &[Person]) {
    for (place, person) in persons.iter().enumerate() {
        let joined = if place == 0 {
            "((context = "
        } else {
            " OR (context = "
        };
        statement.push(joined).bind(person.context.to_string());
        statement.push(" AND user_name = ");
        statement.bind(person.user.to_string()).push(")");
    }
    statement.push(")");
}

/// The person that a row is of.
pub(crate) fn person(found: &AnyRow) -> Result<Person> {
    let context = row::text(found, "context")?;
    let user = row::text(found, "user_name")?;
    let login = row::text(found, "login")?;
    let person = Person::new(&context, &user, &login);
    Ok(person.map_err(|error| row::wrong("user_name", error))?)
}
