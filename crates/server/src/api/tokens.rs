//! API tokens. The token itself is shown by the answer that makes it, and never again.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_store::{ApiToken, Scope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::body::JsonBody;
use super::documents::{Document, time};
use super::error::described::{AnyRequest, Invalid, NotFound, UnreadableBody};
use super::error::{ApiError, ErrorObject, Errors};
use super::identity::Admin;
use super::path::Named;

/// Longest name and longest account number, in characters.
const MAX_CHARS: usize = 255;

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Token {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: TokenAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenAttributes {
    /// Name for people.
    name: String,
    /// What the token allows: `admin`, `registration` or `account`.
    scope: &'static str,
    /// Number of the account, with the scope `account`.
    account_number: Option<String>,
    /// Last characters of the token, to tell tokens apart.
    last_four: String,
    /// Time of creation, RFC 3339.
    created_at: String,
}

/// The list of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    data: Vec<Token>,
}

/// A new token.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewTokenDocument {
    data: Token,
    meta: NewTokenMeta,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewTokenMeta {
    /// The token itself, for `Authorization: Bearer`. Shown this once.
    token: String,
}

/// Token to create.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct TokenRequest {
    token: TokenFields,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct TokenFields {
    /// Name for people; at most 255 characters.
    name: Option<String>,
    /// What the token allows: `admin`, `registration` or `account`, which is the default.
    scope: Option<String>,
    /// Number of the account, required with the scope `account`; at most 255 characters.
    account_number: Option<String>,
}

impl Token {
    fn new(token: ApiToken) -> Self {
        let (scope, account_number) = match token.scope {
            Scope::Admin => ("admin", None),
            Scope::Registration => ("registration", None),
            Scope::Account(number) => ("account", Some(number)),
        };
        Self {
            id: token.id.to_string(),
            kind: "token",
            attributes: TokenAttributes {
                name: token.name,
                scope,
                account_number,
                last_four: token.last_four,
                created_at: time(token.created_ms),
            },
        }
    }
}

impl TokenFields {
    /// Checks the fields; name and scope of the token.
    fn check(self) -> Result<(String, Scope), ApiError> {
        let mut errors = Errors::default();
        let filled = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let name = filled(self.name);
        if name.is_none() {
            errors.push(ErrorObject::attribute("name", "can't be blank"));
        }
        let number = filled(self.account_number);
        for (attribute, text) in [("name", &name), ("account_number", &number)] {
            if text
                .as_ref()
                .is_some_and(|text| text.chars().count() > MAX_CHARS)
            {
                let detail = format!("is too long (maximum is {MAX_CHARS} characters)");
                errors.push(ErrorObject::attribute(attribute, detail));
            }
        }
        let scope = match (self.scope.as_deref().unwrap_or("account"), number) {
            ("admin", None) => Some(Scope::Admin),
            ("registration", None) => Some(Scope::Registration),
            ("account", Some(number)) => Some(Scope::Account(number)),
            ("account", None) => {
                errors.push(ErrorObject::attribute("account_number", "can't be blank"));
                None
            }
            ("admin" | "registration", Some(_)) => {
                let detail = "must be blank with this scope";
                errors.push(ErrorObject::attribute("account_number", detail));
                None
            }
            (other, _) => {
                let detail = format!("`{other}` is none of admin, registration, account");
                errors.push(ErrorObject::attribute("scope", detail));
                None
            }
        };
        match (name, scope) {
            (Some(name), Some(scope)) if errors.is_empty() => Ok((name, scope)),
            _ => Err(ApiError::invalid(errors)),
        }
    }
}

/// List all tokens.
#[utoipa::path(
    get, path = "/tokens", tag = "tokens",
    operation_id = "listTokens",
    responses(
        (status = 200, description = "The tokens.", body = TokenList, content_type = "application/vnd.api+json"),
        AnyRequest,
    ),
)]
pub(crate) async fn list(
    _: Admin,
    State(api): State<Api>,
) -> Result<Document<TokenList>, ApiError> {
    let tokens = api.store.tokens().await?;
    let data = tokens.into_iter().map(Token::new).collect();
    Ok(Document(StatusCode::OK, TokenList { data }))
}

/// Create a token.
#[utoipa::path(
    post, path = "/tokens", tag = "tokens",
    operation_id = "createToken",
    request_body(content = TokenRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 201, description = "The token was created; `meta` has the token itself.", body = NewTokenDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        Invalid,
    ),
)]
pub(crate) async fn create(
    _: Admin,
    State(api): State<Api>,
    body: JsonBody,
) -> Result<Document<NewTokenDocument>, ApiError> {
    let fields: TokenFields = body.under("token")?;
    let (name, scope) = fields.check()?;
    let made = api.store.create_token(&name, scope).await?;
    tracing::info!(token.id = %made.token.id, "an API token was created");
    let document = NewTokenDocument {
        data: Token::new(made.token),
        meta: NewTokenMeta { token: made.secret },
    };
    Ok(Document(StatusCode::CREATED, document))
}

/// Delete a token. It is refused from now on.
#[utoipa::path(
    delete, path = "/tokens/{id}", tag = "tokens",
    operation_id = "deleteToken",
    params(("id" = String, Path, description = "Id of the token.")),
    responses(
        (status = 204, description = "The token was deleted."),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn delete(
    _: Admin,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    let none = || ApiError::no_record("Token", &id);
    let parsed = id.parse().map_err(|_| none())?;
    if !api.store.delete_token(parsed).await? {
        return Err(none());
    }
    tracing::info!(token.id = id, "an API token was deleted");
    Ok(StatusCode::NO_CONTENT)
}
