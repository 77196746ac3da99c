//! What is said about a token, checked.

use std::collections::BTreeSet;

use dovecast_mail_push::Person;
use dovecast_store::{MAX_APPLICATIONS, Scope, TokenEdit, TokenGrant};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::account_number::account_number;
use crate::applications::is_reserved;
use crate::endpoints::fields::said;
use crate::refusal::{Fault, Faults};
use crate::{Refusal, Result};

/// Longest name, of a token or an application, in characters: they are looked up, and
/// PostgreSQL's indexes take no long texts.
const MAX_CHARS: usize = 255;
const BLANK: &str = "can't be blank";

/// Token to create.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub struct TokenRequest {
    token: TokenFields,
}

/// What is said about a token to create.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenFields {
    /// Name for people; at most 255 characters.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    pub name: Option<String>,
    /// What the token allows: `admin`, `registration`, `send`, `person` or `account`, which is the
    /// default.
    pub scope: Option<String>,
    /// Number of the account, required with the scope `account`; at most 255 characters.
    #[schema(min_length = 1, max_length = 255)]
    pub account_number: Option<String>,
    /// Context of the person, required with the scope `person`.
    pub context: Option<String>,
    /// User of the person in the context, required with the scope `person`.
    pub user: Option<String>,
    /// Login of the person at the mail server, with the scope `person`; the default is
    /// `user@context` for numbers, and the user otherwise.
    pub login: Option<String>,
    /// Names of the applications that the token registers (scope `registration`) or sends for
    /// (scope `send`, which needs one); at most 1000.
    pub applications: Option<Vec<String>>,
    /// Time from which the token is refused, RFC 3339; without it the token does not expire.
    pub expires_at: Option<String>,
}

/// Change of a token.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub struct TokenChangeRequest {
    token: TokenChange,
}

/// What is said about a token that changes. What is not given stays as it is.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenChange {
    /// Name for people; at most 255 characters.
    pub name: Option<String>,
    /// Names of all applications that the token registers or sends for; at most 1000.
    pub applications: Option<Vec<String>>,
    /// Time from which the token is refused, RFC 3339; null: it does not expire.
    #[serde(
        default,
        deserialize_with = "said",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Option<String>>,
}

impl TokenFields {
    /// Checks the fields; name of the token, and what it may do.
    pub(super) fn check(self) -> Result<(String, TokenGrant)> {
        let mut checking = Checking::default();
        let name = checking.name(self.name);
        let number = checking.account_number(self.account_number);
        let whom = [self.context, self.user, self.login].map(filled);
        let scope = if self.scope.as_deref() == Some("person") {
            if number.is_some() {
                checking.refuse("account_number", "must be blank with this scope");
            }
            checking.person(whom)
        } else {
            for (name, part) in ["context", "user", "login"].iter().zip(&whom) {
                if part.is_some() {
                    checking.refuse(name, "must be blank with this scope");
                }
            }
            checking.scope(self.scope.as_deref(), number)
        };
        let expires_ms = self.expires_at.and_then(|time| checking.end(&time));
        let applications = match (&scope, self.applications) {
            (Some(scope), said) => checking.applications(scope, said.unwrap_or_default()),
            (None, _) => BTreeSet::new(),
        };
        match (name, scope) {
            (Some(name), Some(scope)) if checking.faults.is_empty() => Ok((
                name,
                TokenGrant {
                    scope,
                    applications,
                    expires_ms,
                },
            )),
            _ => Err(Refusal::Invalid(checking.faults)),
        }
    }
}

impl TokenChange {
    /// Checks what is said about a token of this scope.
    pub(super) fn check(self, scope: &Scope) -> Result<TokenEdit> {
        let mut checking = Checking::default();
        let name = self.name.map(|name| checking.name(Some(name)));
        let applications = self.applications;
        let edit = TokenEdit {
            name: name.flatten(),
            applications: applications.map(|names| checking.applications(scope, names)),
            expires_ms: self
                .expires_at
                .map(|time| time.and_then(|time| checking.end(&time))),
        };
        if checking.faults.is_empty() {
            Ok(edit)
        } else {
            Err(Refusal::Invalid(checking.faults))
        }
    }
}

/// Faults found so far.
#[derive(Default)]
struct Checking {
    faults: Faults,
}

impl Checking {
    fn refuse(&mut self, attribute: &str, detail: impl Into<String>) {
        self.faults.push(Fault::attribute(attribute, detail));
    }

    fn name(&mut self, name: Option<String>) -> Option<String> {
        let name = filled(name);
        match &name {
            None => self.refuse("name", BLANK),
            Some(name) if is_long(name) => self.refuse("name", too_long()),
            Some(_) => {}
        }
        name
    }

    fn account_number(&mut self, number: Option<String>) -> Option<String> {
        let number = filled(number)?;
        if let Err(detail) = account_number(&number) {
            self.refuse("account_number", detail);
        }
        Some(number.trim().to_owned())
    }

    fn scope(&mut self, scope: Option<&str>, number: Option<String>) -> Option<Scope> {
        let scope = match (scope.unwrap_or("account"), number) {
            ("account", Some(number)) => return Some(Scope::Account(number)),
            ("account", None) => {
                self.refuse("account_number", BLANK);
                return None;
            }
            ("admin", None) => return Some(Scope::Admin),
            ("registration", None) => return Some(Scope::Registration),
            ("send", None) => return Some(Scope::Send),
            (scope, _) => scope,
        };
        if ["admin", "registration", "send"].contains(&scope) {
            self.refuse("account_number", "must be blank with this scope");
        } else {
            let detail = format!(
                "`{scope}` is none of `admin`, `registration`, `send`, `account`, `person`"
            );
            self.refuse("scope", detail);
        }
        None
    }

    fn person(&mut self, [context, user, login]: [Option<String>; 3]) -> Option<Scope> {
        for (name, part) in [("context", &context), ("user", &user)] {
            if part.is_none() {
                self.refuse(name, BLANK);
            }
        }
        let (context, user) = (context?, user?);
        let person = match login {
            Some(login) => Person::new(&context, &user, &login),
            None => Person::of_ids(&context, &user),
        };
        match person {
            Ok(person) => Some(Scope::Person(person)),
            Err(error) => {
                self.refuse("user", format!("is none: {error}"));
                None
            }
        }
    }

    fn end(&mut self, time: &str) -> Option<i64> {
        match time.parse::<Timestamp>() {
            Ok(end) if end > Timestamp::now() => return Some(end.as_millisecond()),
            Ok(_) => self.refuse("expires_at", "is not in the future"),
            Err(_) => self.refuse("expires_at", "is not an RFC 3339 time"),
        }
        None
    }

    fn applications(&mut self, scope: &Scope, names: Vec<String>) -> BTreeSet<String> {
        const PLACE: &str = "applications";
        if !scope.has_applications() {
            if !names.is_empty() {
                self.refuse(PLACE, "must be empty with this scope");
            }
            return BTreeSet::new();
        }
        if *scope == Scope::Send && names.is_empty() {
            self.refuse(PLACE, "can't be empty with this scope");
        }
        if names.len() > MAX_APPLICATIONS {
            let detail = format!("is too long (maximum is {MAX_APPLICATIONS} applications)");
            self.refuse(PLACE, detail);
        }
        for name in &names {
            if name.trim().is_empty() {
                self.refuse(PLACE, "has a blank name");
            } else if is_long(name) {
                self.refuse(
                    PLACE,
                    format!("has a name of more than {MAX_CHARS} characters"),
                );
            } else if is_reserved(name) {
                self.refuse(PLACE, format!("has `{name}`, which is dovecast's own"));
            }
        }
        names.into_iter().collect()
    }
}

fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.trim().is_empty())
}

fn is_long(text: &str) -> bool {
    text.chars().count() > MAX_CHARS
}

fn too_long() -> String {
    format!("is too long (maximum is {MAX_CHARS} characters)")
}
