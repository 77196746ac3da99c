//! Who asks, and what that allows.
//!
//! A door makes a [`Caller`] of what identifies one. What an act needs is the type of its argument:
//! each is made by a function of the caller alone, which refuses the others.

use dovecast_store::{Account, AccountId, EndpointId, Profile, StoreError, TokenOwner, UserId};

use crate::{Operations, OwnEndpoint, Refusal, Resource, Result};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Whoever runs this dovecast: root on its host, or an admin token.
    Operator,
    /// An application, by a registration token.
    Registration,
    /// A person of an account.
    Person(Person),
}

/// A person: an account, and which user of it where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    account: Account,
    user: Option<UserId>,
}

/// A caller of any kind.
#[derive(Clone, Copy, Debug)]
pub struct Anyone(());

/// A caller who runs this dovecast.
#[derive(Clone, Copy, Debug)]
pub struct Operator(());

/// A caller that may register applications, and remove them.
#[derive(Clone, Copy, Debug)]
pub struct Registrar(());

/// Account that an act is about: that of the person who asks, or one that the operator names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(Person);

/// A caller that may send notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// For this account.
    Account(Account),
    /// For any account.
    Anybody,
}

impl Caller {
    /// The caller, whoever it is.
    pub fn anyone(&self) -> Anyone {
        Anyone(())
    }

    /// The caller, if it runs this dovecast.
    pub fn operator(&self) -> Result<Operator> {
        match self {
            Self::Operator => Ok(Operator(())),
            Self::Person(_) | Self::Registration => Err(Refusal::forbidden(
                "Only an admin token may list, create and delete tokens",
            )),
        }
    }

    /// The caller, if it may register applications.
    pub fn registrar(&self) -> Result<Registrar> {
        match self {
            Self::Operator | Self::Registration => Ok(Registrar(())),
            Self::Person(_) => Err(Refusal::forbidden(
                "Only an admin token or a registration token may register applications",
            )),
        }
    }

    /// The account of the caller, if it has one.
    pub fn tenant(self) -> Result<Tenant> {
        match self {
            Self::Person(person) => Ok(Tenant(person)),
            Self::Operator | Self::Registration => Err(Refusal::forbidden(
                "This token belongs to no account, and endpoints belong to one: make a token of the account (`POST /tokens` with the scope `account` and its `account_number`, or `dovecast tokens add`)",
            )),
        }
    }

    /// The caller, if it may send notifications.
    pub fn sender(self) -> Result<Sender> {
        match self {
            Self::Person(person) => Ok(Sender::Account(person.account)),
            Self::Operator => Ok(Sender::Anybody),
            Self::Registration => Err(Refusal::forbidden(
                "Only an admin token or a token of the account may send notifications",
            )),
        }
    }
}

impl Tenant {
    /// Number of the account, as notifications name it.
    pub fn number(&self) -> &str {
        &self.0.account.number
    }

    /// The user of the account who asks, where that is known.
    pub fn user(&self) -> Option<UserId> {
        self.0.user
    }

    pub(crate) fn id(&self) -> AccountId {
        self.0.account.id
    }
}

impl Operations {
    /// Who a token stands for; `None`: it is none.
    pub async fn caller_of_token(&self, token: &str) -> Result<Option<Caller>, StoreError> {
        let owner = self.store.token_owner(token).await?;
        Ok(owner.map(|owner| match owner {
            TokenOwner::Admin => Caller::Operator,
            TokenOwner::Registration => Caller::Registration,
            TokenOwner::Account(account) => Caller::Person(Person {
                account,
                user: None,
            }),
        }))
    }

    /// A user whom a trusted proxy names; account and user are made when they are first seen, as
    /// long as not too many are.
    pub async fn caller_of_identity(&self, number: &str, profile: &Profile) -> Result<Caller> {
        let quotas = &self.parts.quotas;
        let account = if let Some(account) = self.store.account(number).await? {
            account
        } else {
            quotas.take_identity()?;
            self.store.account_seen(number).await?
        };
        let known = self.store.user(account.id, &profile.username).await?;
        let user = if let Some(user) = known {
            user
        } else {
            quotas.take_identity()?;
            self.store.user_seen(account.id, profile).await?
        };
        Ok(Caller::Person(Person {
            account,
            user: Some(user),
        }))
    }

    /// The account that the operator names; refused if there is none.
    pub async fn account(&self, _: Operator, number: &str) -> Result<Tenant> {
        let account = self.store.account(number).await?;
        let none = || Refusal::no(Resource::Account, number);
        Ok(Tenant::of(account.ok_or_else(none)?))
    }

    /// The account that the operator names; made if it is not there.
    pub async fn account_or_new(&self, _: Operator, number: &str) -> Result<Tenant> {
        crate::tokens::check_account_number(number)?;
        Ok(Tenant::of(self.store.account_seen(number).await?))
    }

    /// An endpoint that the operator names, of whichever account.
    pub async fn any_endpoint(&self, _: Operator, id: EndpointId) -> Result<OwnEndpoint> {
        let none = || Refusal::no(Resource::Endpoint, id);
        let account = self.store.account_of_endpoint(id).await?;
        let tenant = Tenant::of(account.ok_or_else(none)?);
        let found = self.find_endpoint(&tenant, id).await?;
        found.ok_or_else(none)
    }
}

impl Tenant {
    fn of(account: Account) -> Self {
        Self(Person {
            account,
            user: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(user: Option<UserId>) -> Caller {
        let account = Account {
            id: AccountId::from(uuid::Uuid::from_u128(7)),
            number: "7".to_owned(),
        };
        Caller::Person(Person { account, user })
    }

    #[test]
    fn a_caller_may_what_its_kind_may_and_nothing_else() {
        for (caller, operates, registers, has_account, sends) in [
            (Caller::Operator, true, true, false, true),
            (Caller::Registration, false, true, false, false),
            (person(None), false, false, true, true),
        ] {
            assert_eq!(caller.operator().is_ok(), operates, "{caller:?}");
            assert_eq!(caller.registrar().is_ok(), registers, "{caller:?}");
            assert_eq!(caller.clone().tenant().is_ok(), has_account, "{caller:?}");
            assert_eq!(caller.clone().sender().is_ok(), sends, "{caller:?}");
        }
    }

    #[test]
    fn a_tenant_is_the_account_of_the_person_and_knows_the_user() {
        let user = UserId::from(uuid::Uuid::from_u128(8));
        let tenant = person(Some(user)).tenant().expect("a tenant");
        assert_eq!((tenant.number(), tenant.user()), ("7", Some(user)));
        let sender = person(Some(user)).sender().expect("a sender");
        assert!(matches!(sender, Sender::Account(account) if account.number == "7"));
        assert_eq!(
            Caller::Operator.sender().expect("a sender"),
            Sender::Anybody
        );
    }
}
