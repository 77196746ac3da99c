//! Persons: a user in a context, and the login of their mailbox.
//!
//! A login `11@3`, two numbers, is the user 11 of the context 3, as Open-Xchange writes it. Any
//! other login is the user itself; the context is then what `[dispatch] event_account` makes of
//! it, so that a person's context is the account that events of the mailbox go to.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dovecast_notification::EventAccount;

/// Most bytes of a context, a user or a login: what Dovecot takes for a user name, and what fits
/// into a key of the database.
pub const MAX_NAME_BYTES: usize = 255;

/// A person whose mail is pushed. Two are the same if context and user are; the login only says
/// how the mailbox is opened.
#[derive(Clone)]
pub struct Person {
    /// The account, as text: a number where a login is `user@context`.
    pub context: Arc<str>,
    /// User within the context, as text.
    pub user: Arc<str>,
    /// Name by which the person logs in to IMAP; it is the user of Dovecot's events.
    pub login: Arc<str>,
}

/// Why a text names no person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPerson {
    /// The named part has no characters.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// The named part is longer than [`MAX_NAME_BYTES`].
    #[error("the {0} is longer than {MAX_NAME_BYTES} bytes")]
    TooLong(&'static str),
    /// The named part has a control character, which no mail server takes for a name.
    #[error("the {0} has a control character in it")]
    Control(&'static str),
    /// The account is the login's domain, and there is none.
    #[error("the login has no domain, which would say the context")]
    NoDomain,
}

impl Person {
    /// The person that logs in by this name.
    pub fn of_login(login: &str, account: &EventAccount) -> Result<Self, BadPerson> {
        checked("login", login)?;
        if let Some((user, context)) = numbers(login) {
            return Self::new(context, user, login);
        }
        let context = account.of_user(login).ok_or(BadPerson::NoDomain)?;
        Self::new(&context, login, login)
    }

    /// The person of these ids, of whom no login is known: it is the one that makes this person.
    pub fn of_ids(context: &str, user: &str) -> Result<Self, BadPerson> {
        let login = of_numbers(context, user);
        Self::new(context, user, login.as_deref().unwrap_or(user))
    }

    /// Name of the person in events: `11@3` for numbers, as Open-Xchange has it, else the login.
    pub fn event_user(&self) -> String {
        of_numbers(&self.context, &self.user).unwrap_or_else(|| self.login.to_string())
    }

    /// A person whose parts are known one by one: that of a token or of the command line.
    pub fn new(context: &str, user: &str, login: &str) -> Result<Self, BadPerson> {
        Ok(Self {
            context: checked("context", context)?.into(),
            user: checked("user", user)?.into(),
            login: checked("login", login)?.into(),
        })
    }
}

impl PartialEq for Person {
    fn eq(&self, other: &Self) -> bool {
        (&self.context, &self.user) == (&other.context, &other.user)
    }
}

impl Eq for Person {}

impl Hash for Person {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.context, &self.user).hash(state);
    }
}

/// As the log names a person; a login may be another's address and is left out.
impl fmt::Display for Person {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}", self.user, self.context)
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Person({self})")
    }
}

/// `user@context` of two numbers: the first `@` divides them, and neither is empty.
fn numbers(login: &str) -> Option<(&str, &str)> {
    let (user, context) = login.split_once('@')?;
    (is_number(user) && is_number(context)).then_some((user, context))
}

/// The login of two numbers.
fn of_numbers(context: &str, user: &str) -> Option<String> {
    (is_number(user) && is_number(context)).then(|| format!("{user}@{context}"))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn checked<'a>(what: &'static str, text: &'a str) -> Result<&'a str, BadPerson> {
    if text.is_empty() {
        return Err(BadPerson::Empty(what));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(BadPerson::TooLong(what));
    }
    if text.chars().any(char::is_control) {
        return Err(BadPerson::Control(what));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(login: &str, account: &EventAccount) -> Result<[String; 3], BadPerson> {
        let person = Person::of_login(login, account)?;
        Ok([person.context, person.user, person.login].map(|part| part.to_string()))
    }

    #[test]
    fn two_numbers_are_user_and_context_and_any_other_login_is_a_user() {
        let user = EventAccount::User;
        let domain = EventAccount::Domain;
        let fixed = EventAccount::Fixed("all".into());
        for (login, account, context, name) in [
            ("11@3", &user, "3", "11"),
            ("11@3", &fixed, "3", "11"),
            ("007@3", &user, "3", "007"),
            ("alice", &user, "alice", "alice"),
            ("alice", &fixed, "all", "alice"),
            ("a@Example.ORG", &domain, "example.org", "a@Example.ORG"),
            ("11@3@4", &domain, "4", "11@3@4"),
            ("11@3x", &user, "11@3x", "11@3x"),
            ("@3", &user, "@3", "@3"),
            ("11@", &user, "11@", "11@"),
            ("١١@3", &user, "١١@3", "١١@3"),
        ] {
            let expected = [context, name, login].map(ToOwned::to_owned);
            assert_eq!(read(login, account), Ok(expected), "{login}");
        }
    }

    #[test]
    fn what_no_mail_server_takes_is_no_login() {
        let long = "a".repeat(MAX_NAME_BYTES + 1);
        for (login, account, error) in [
            ("", EventAccount::User, BadPerson::Empty("login")),
            (&*long, EventAccount::User, BadPerson::TooLong("login")),
            ("a\r\nb", EventAccount::User, BadPerson::Control("login")),
            ("alice", EventAccount::Domain, BadPerson::NoDomain),
            ("alice@", EventAccount::Domain, BadPerson::NoDomain),
        ] {
            assert_eq!(read(login, &account), Err(error), "{login}");
        }
    }

    #[test]
    fn a_person_is_the_same_by_whichever_login() {
        let by_number = Person::new("3", "11", "11@3").expect("a person");
        let by_name = Person::new("3", "11", "alice").expect("a person");
        assert_eq!(by_number, by_name);
        assert_ne!(by_name, Person::new("4", "11", "alice").expect("a person"));
        assert_eq!(format!("{by_name:?}"), "Person(11@3)");
    }
}
