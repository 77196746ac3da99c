//! Who asks, and what that allows.
//!
//! A door makes a [`Caller`] of what identifies one. What an act needs is the type of its argument:
//! each is made by a function of the caller alone, which refuses the others. Each knows who it is
//! ([`By`]), so that the log names who has made, changed or removed something.

use std::fmt;
use std::sync::Arc;

use dovecast_store::{
    Account, AccountId, EndpointId, Profile, ShownToken, TokenId, TokenOwner, UserId,
};

use crate::account_number::account_number;
use crate::{Operations, OwnEndpoint, Refusal, Resource, Result};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Whoever runs this dovecast: root on its host, or an admin token.
    Operator(By),
    /// Whoever registers applications, by a registration token.
    Registration(TokenId),
    /// Applications that send notifications, by a token.
    Applications(TokenId, Arc<[String]>),
    /// A person of an account.
    Person(Person),
    /// A person whose mail is pushed, by a token that is for nothing else.
    MailPerson(TokenId, dovecast_mail_push::Person),
}

/// Who acts, as the log names it: never by a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Root or the server's own user, on its host.
    Host,
    /// Whoever has a token.
    Token(TokenId),
    /// A user whom a trusted proxy names.
    User {
        /// Number of the account.
        account: Arc<str>,
        /// Name in the account.
        name: Arc<str>,
    },
}

/// A person: an account, and which user of it where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    account: Account,
    user: Option<UserId>,
    by: By,
}

/// A caller of any kind.
#[derive(Clone, Copy, Debug)]
pub struct Anyone(());

/// A caller who runs this dovecast.
#[derive(Clone, Debug)]
pub struct Operator(pub(crate) By);

/// A caller that may register applications, and remove them.
#[derive(Clone, Debug)]
pub struct Registrar(pub(crate) Registers);

/// Which applications a [`Registrar`] may register.
#[derive(Clone, Debug)]
pub(crate) enum Registers {
    /// All of them.
    All(By),
    /// Applications of a token.
    Own(TokenId),
}

/// Account that an act is about: that of the person who asks, or one that the operator names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant(Person);

/// A caller that may send notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// For this account.
    Account(Account),
    /// Notifications of these applications, for any account.
    Applications(TokenId, Arc<[String]>),
    /// For any account.
    Anybody,
}

// What is made of what, as the examples of the crate try it from outside.
const _OPERATOR_IS_MADE_OF: fn(By) -> Operator = Operator;
const _TENANT_IS_MADE_OF: fn(Person) -> Tenant = Tenant;

impl Caller {
    /// Root or the server's own user, on its host.
    pub fn host() -> Self {
        Self::Operator(By::Host)
    }

    /// The caller, whoever it is.
    pub fn anyone(&self) -> Anyone {
        Anyone(())
    }

    /// The caller, if it runs this dovecast.
    pub fn operator(self) -> Result<Operator> {
        match self {
            Self::Operator(by) => Ok(Operator(by)),
            Self::Person(_)
            | Self::Registration(_)
            | Self::Applications(..)
            | Self::MailPerson(..) => Err(Refusal::forbidden(
                "Only an admin token may list, create and delete tokens, and see and close accounts",
            )),
        }
    }

    /// The caller, if it may register applications.
    pub fn registrar(self) -> Result<Registrar> {
        match self {
            Self::Operator(by) => Ok(Registrar(Registers::All(by))),
            Self::Registration(token) => Ok(Registrar(Registers::Own(token))),
            Self::Person(_) | Self::Applications(..) | Self::MailPerson(..) => {
                Err(Refusal::forbidden(
                    "Only an admin token or a registration token may register applications",
                ))
            }
        }
    }

    /// The account of the caller, if it has one.
    pub fn tenant(self) -> Result<Tenant> {
        match self {
            Self::Person(person) => Ok(Tenant(person)),
            Self::Operator(_)
            | Self::Registration(_)
            | Self::Applications(..)
            | Self::MailPerson(..) => Err(Refusal::forbidden(
                "This token belongs to no account, and endpoints belong to one: make a token of the account (`POST /tokens` with the scope `account` and its `account_number`, or `dovecast tokens add`)",
            )),
        }
    }

    /// The caller, if it may send notifications.
    pub fn sender(self) -> Result<Sender> {
        match self {
            Self::Person(person) => Ok(Sender::Account(person.account)),
            Self::Applications(token, names) => Ok(Sender::Applications(token, names)),
            Self::Operator(_) => Ok(Sender::Anybody),
            Self::Registration(_) | Self::MailPerson(..) => Err(Refusal::forbidden(
                "Only a token of the scope `send`, a token of the account or an admin token may send notifications",
            )),
        }
    }
}

impl Registrar {
    /// Whether the caller runs this dovecast, and may know which accounts there are.
    pub fn is_operator(&self) -> bool {
        matches!(self.0, Registers::All(_))
    }

    pub(crate) fn by(&self) -> By {
        match &self.0 {
            Registers::All(by) => by.clone(),
            Registers::Own(token) => By::Token(*token),
        }
    }
}

impl Sender {
    /// The token of a caller who sends for any account and is not the operator.
    pub(crate) fn token(&self) -> Option<TokenId> {
        match self {
            Self::Applications(token, _) => Some(*token),
            Self::Account(_) | Self::Anybody => None,
        }
    }

    /// Whether the caller may send notifications of an application to an account; the text says
    /// what it may.
    pub fn may_send(&self, application: &str, account: &str) -> Result<(), String> {
        match self {
            Self::Anybody => Ok(()),
            Self::Account(own) if own.number == account => Ok(()),
            Self::Account(_) => {
                Err("This token sends notifications for its own account only".to_owned())
            }
            Self::Applications(_, names) if names.iter().any(|name| name == application) => Ok(()),
            Self::Applications(_, names) => {
                let names = names.join("`, `");
                Err(format!("This token sends notifications of `{names}` only"))
            }
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

    pub(crate) fn by(&self) -> &By {
        &self.0.by
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the command line"),
            Self::Token(id) => write!(f, "token {id}"),
            // A proxy may pass any name on: no line of the log is broken by one.
            Self::User { account, name } => {
                let (account, name) = (account.escape_debug(), name.escape_debug());
                write!(f, "user {name} of account {account}")
            }
        }
    }
}

impl Operations {
    /// Who a token stands for; refused if it is none, or if its time is over.
    pub async fn caller_of_token(&self, token: &str) -> Result<Caller> {
        let (id, owner) = match self.store.token_owner(token).await? {
            ShownToken::Unknown => return Err(Refusal::BadToken("The API token is not valid")),
            ShownToken::Expired => return Err(Refusal::BadToken("The API token has expired")),
            ShownToken::Good { id, owner } => (id, owner),
        };
        Ok(match owner {
            TokenOwner::Admin => Caller::Operator(By::Token(id)),
            TokenOwner::Registration => Caller::Registration(id),
            TokenOwner::Person(person) => Caller::MailPerson(id, person),
            TokenOwner::Applications(names) => Caller::Applications(id, names),
            TokenOwner::Account(account) => Caller::Person(Person {
                account,
                user: None,
                by: By::Token(id),
            }),
        })
    }

    /// A user whom a trusted proxy names; account and user are made when they are first seen, as
    /// long as not too many are.
    pub async fn caller_of_identity(&self, number: &str, profile: &Profile) -> Result<Caller> {
        let quotas = &self.parts.quotas;
        if self.store.account(number).await?.is_none() {
            quotas.take_account()?;
        }
        // Nobody else looks whether the account is closed.
        let account = self.store.account_seen(number).await?;
        let known = self.store.user(account.id, &profile.username).await?;
        let user = if let Some(user) = known {
            user
        } else {
            quotas.take_user(account.id)?;
            self.store.user_seen(account.id, profile).await?
        };
        Ok(Caller::Person(Person {
            by: By::User {
                account: account.number.as_str().into(),
                name: profile.username.as_str().into(),
            },
            account,
            user: Some(user),
        }))
    }

    /// The account that the operator names; refused if there is none.
    pub async fn account(&self, Operator(by): Operator, number: &str) -> Result<Tenant> {
        let number = number.trim();
        let account = self.store.account(number).await?;
        let none = || Refusal::no(Resource::Account, number);
        Ok(Tenant::of(account.ok_or_else(none)?, by))
    }

    /// The account that the operator names; made if it is not there.
    pub async fn account_or_new(&self, Operator(by): Operator, number: &str) -> Result<Tenant> {
        let refused = |detail| Refusal::attribute("account_number", detail);
        let number = account_number(number).map_err(refused)?;
        Ok(Tenant::of(self.store.account_seen(number).await?, by))
    }

    /// An endpoint that the operator names, of whichever account.
    pub async fn any_endpoint(
        &self,
        Operator(by): Operator,
        id: EndpointId,
    ) -> Result<OwnEndpoint> {
        let none = || Refusal::no(Resource::Endpoint, id);
        let account = self.store.account_of_endpoint(id).await?;
        let tenant = Tenant::of(account.ok_or_else(none)?, by);
        let found = self.find_endpoint(&tenant, id).await?;
        found.ok_or_else(none)
    }
}

impl Tenant {
    fn of(account: Account, by: By) -> Self {
        Self(Person {
            account,
            user: None,
            by,
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
        let by = By::Host;
        Caller::Person(Person { account, user, by })
    }

    #[test]
    fn a_caller_may_what_its_kind_may_and_nothing_else() {
        let token = TokenId::from(uuid::Uuid::from_u128(9));
        for (caller, operates, registers, has_account, sends) in [
            (Caller::host(), true, true, false, true),
            (Caller::Registration(token), false, true, false, false),
            (
                Caller::Applications(token, [].into()),
                false,
                false,
                false,
                true,
            ),
            (person(None), false, false, true, true),
        ] {
            assert_eq!(caller.clone().operator().is_ok(), operates, "{caller:?}");
            assert_eq!(caller.clone().registrar().is_ok(), registers, "{caller:?}");
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
        assert_eq!(Caller::host().sender().expect("a sender"), Sender::Anybody);
    }

    #[test]
    fn who_sends_for_applications_sends_for_those_only() {
        let token = TokenId::from(uuid::Uuid::from_u128(9));
        let names = ["billing".to_owned(), "shop".to_owned()];
        let sender = Caller::Applications(token, names.into()).sender();
        let sender = sender.expect("a sender");
        assert_eq!(sender.may_send("shop", "any"), Ok(()));
        let refused = sender.may_send("mail", "any").expect_err("it may");
        assert!(refused.ends_with("of `billing`, `shop` only"), "{refused}");
        let own = person(None).sender().expect("a sender");
        assert!(own.may_send("mail", "7").is_ok() && own.may_send("mail", "8").is_err());
    }

    #[test]
    fn who_acts_is_named_in_one_line() {
        let by = By::User {
            account: "6\u{1b}".into(),
            name: "joe\nadmin".into(),
        };
        assert_eq!(by.to_string(), "user joe\\nadmin of account 6\\u{1b}");
    }
}
