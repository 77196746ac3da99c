//! Who asks for mail push: a person, by a session, an API token of the scope `person`, or as a
//! trusted proxy says.

use dovecast_mail_push::Person;
use dovecast_store::{Profile, ShownSession, ShownToken, StoreError, TokenOwner};

use super::MailPush;
use crate::{Refusal, Result};

/// What tokens of sessions begin with.
const SESSION_PREFIX: &str = "dps_";

/// A person who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushCaller {
    person: Person,
}

impl PushCaller {
    /// A person for whom the operator asks.
    pub(super) fn of_person(person: Person) -> Self {
        Self { person }
    }

    /// Who asks.
    pub fn person(&self) -> &Person {
        &self.person
    }
}

impl MailPush {
    /// The person whom a token stands for: of a session, or of the scope `person`.
    pub async fn caller_of_token(&self, token: &str) -> Result<PushCaller> {
        if token.starts_with(SESSION_PREFIX) {
            return match self.store.session(token).await? {
                ShownSession::Good(person) => self.caller(person).await,
                ShownSession::Expired => Err(Refusal::BadToken("The session has expired")),
                ShownSession::Unknown => Err(Refusal::BadToken("The session is not valid")),
            };
        }
        match self.store.token_owner(token).await? {
            ShownToken::Unknown => Err(Refusal::BadToken("The API token is not valid")),
            ShownToken::Expired => Err(Refusal::BadToken("The API token has expired")),
            ShownToken::Good {
                owner: TokenOwner::Person(person),
                ..
            } => self.caller(person).await,
            ShownToken::Good { .. } => Err(Refusal::forbidden(
                "This token does not stand for a person: log in (`POST /sessions`), or use a token with the scope `person`",
            )),
        }
    }

    /// The person whom a trusted proxy names: a user of an account, which is the context.
    pub async fn caller_of_identity(&self, number: &str, profile: &Profile) -> Result<PushCaller> {
        let person = Person::of_ids(number, &profile.username);
        let person = person.map_err(|_| {
            Refusal::forbidden("The user of X-RH-IDENTITY cannot be a person of mail push")
        })?;
        self.caller(person).await
    }

    /// A person who asks, unless the account is closed that is the context.
    pub async fn caller(&self, person: Person) -> Result<PushCaller> {
        if self.store.is_closed(&person.context).await? {
            return Err(StoreError::AccountClosed.into());
        }
        Ok(PushCaller { person })
    }
}
