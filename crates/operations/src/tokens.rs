//! Acts on API tokens. The token itself is returned by the act that makes it, and never again.

use dovecast_store::{ApiToken, NewToken, Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::refusal::{Fault, Faults};
use crate::{Operations, Operator, Refusal, Resource, Result};

/// Longest name and longest account number, in characters: they are looked up, and PostgreSQL's
/// indexes take no long texts.
const MAX_CHARS: usize = 255;

/// Token to create.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub struct TokenRequest {
    token: TokenFields,
}

/// What is said about a token to create.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
pub struct TokenFields {
    /// Name for people; at most 255 characters.
    #[schema(value_type = String, min_length = 1, max_length = 255)]
    pub name: Option<String>,
    /// What the token allows: `admin`, `registration` or `account`, which is the default.
    pub scope: Option<String>,
    /// Number of the account, required with the scope `account`; at most 255 characters.
    #[schema(min_length = 1, max_length = 255)]
    pub account_number: Option<String>,
}

impl TokenFields {
    /// Checks the fields; name and scope of the token.
    fn check(self) -> Result<(String, Scope)> {
        let mut faults = Faults::default();
        let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let name = filled(self.name);
        if name.is_none() {
            faults.push(Fault::attribute("name", "can't be blank"));
        }
        let number = filled(self.account_number).map(|number| number.trim().to_owned());
        if number.as_deref().is_some_and(has_control) {
            faults.push(Fault::attribute("account_number", CONTROL));
        }
        for (attribute, text) in [("name", &name), ("account_number", &number)] {
            if text.as_ref().is_some_and(|text| is_long(text)) {
                faults.push(Fault::attribute(attribute, too_long()));
            }
        }
        let scope = match (self.scope.as_deref().unwrap_or("account"), number) {
            ("admin", None) => Some(Scope::Admin),
            ("registration", None) => Some(Scope::Registration),
            ("account", Some(number)) => Some(Scope::Account(number)),
            ("account", None) => {
                faults.push(Fault::attribute("account_number", "can't be blank"));
                None
            }
            ("admin" | "registration", Some(_)) => {
                let detail = "must be blank with this scope";
                faults.push(Fault::attribute("account_number", detail));
                None
            }
            (other, _) => {
                let detail = format!("`{other}` is none of admin, registration, account");
                faults.push(Fault::attribute("scope", detail));
                None
            }
        };
        match (name, scope) {
            (Some(name), Some(scope)) if faults.is_empty() => Ok((name, scope)),
            _ => Err(Refusal::Invalid(faults)),
        }
    }
}

/// What is wrong with a number that nobody could type, and that would look like another one.
const CONTROL: &str = "has a control character";

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

fn is_long(text: &str) -> bool {
    text.chars().count() > MAX_CHARS
}

fn too_long() -> String {
    format!("is too long (maximum is {MAX_CHARS} characters)")
}

/// Whether an account may be made with this number.
pub(crate) fn check_account_number(number: &str) -> Result<()> {
    if number.trim().is_empty() {
        return Err(Refusal::attribute("account_number", "can't be blank"));
    }
    if is_long(number) {
        return Err(Refusal::attribute("account_number", too_long()));
    }
    if has_control(number) {
        return Err(Refusal::attribute("account_number", CONTROL));
    }
    Ok(())
}

impl Operations {
    /// All tokens, in the order in which they were made.
    pub async fn tokens(&self, _: Operator) -> Result<Vec<ApiToken>> {
        Ok(self.store.tokens().await?)
    }

    /// Makes a token; its account is made if it is not there.
    pub async fn create_token(&self, _: Operator, fields: TokenFields) -> Result<NewToken> {
        let (name, scope) = fields.check()?;
        let made = self.store.create_token(&name, scope).await?;
        tracing::info!(token.id = %made.token.id, "an API token was created");
        Ok(made)
    }

    /// Deletes a token, which is refused from now on; on other nodes within a second.
    pub async fn delete_token(&self, _: Operator, id: &str) -> Result<()> {
        let none = || Refusal::no(Resource::Token, id);
        let parsed = id.parse().map_err(|_| none())?;
        if !self.store.delete_token(parsed).await? {
            return Err(none());
        }
        tracing::info!(token.id = id, "an API token was deleted");
        Ok(())
    }
}
