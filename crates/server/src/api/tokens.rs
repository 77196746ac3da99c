//! API tokens. The token itself is shown by the answer that makes it, and never again.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_operations::{Operator, TokenChange, TokenChangeRequest, TokenFields, TokenRequest};
use dovecast_store::ApiToken;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::JsonBody;
use super::documents::{Document, time};
use super::error::ApiError;
use super::error::described::{AnyRequest, Invalid, NotFound, UnreadableBody};
use super::path::Named;

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
    /// What the token allows: `admin`, `registration`, `send`, `account` or `person`.
    scope: &'static str,
    /// Number of the account, with the scope `account`.
    account_number: Option<String>,
    /// Names of the applications that the token registers (scope `registration`) or sends for
    /// (scope `send`).
    applications: Vec<String>,
    /// Last characters of the token, to tell tokens apart.
    last_four: String,
    /// Time of creation, RFC 3339.
    created_at: String,
    /// Time from which the token is refused, RFC 3339; null: it does not expire.
    expires_at: Option<String>,
    /// Time of the last use, RFC 3339, to about a minute; null before the first.
    last_used_at: Option<String>,
}

/// The list of tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenList {
    data: Vec<Token>,
}

/// A token that was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenDocument {
    data: Token,
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

impl Token {
    pub(super) fn new(token: ApiToken) -> Self {
        Self {
            id: token.id.to_string(),
            kind: "token",
            attributes: TokenAttributes {
                name: token.name,
                scope: token.scope.as_str(),
                account_number: token.scope.account_number().map(str::to_owned),
                applications: token.applications,
                last_four: token.last_four,
                created_at: time(token.created_ms),
                expires_at: token.expires_ms.map(time),
                last_used_at: token.last_used_ms.map(time),
            },
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
    operator: Operator,
    State(api): State<Api>,
) -> Result<Document<TokenList>, ApiError> {
    let tokens = api.operations.tokens(operator).await?;
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
    operator: Operator,
    State(api): State<Api>,
    body: JsonBody,
) -> Result<Document<NewTokenDocument>, ApiError> {
    let fields: TokenFields = body.under("token")?;
    let made = api.operations.create_token(operator, fields).await?;
    let document = NewTokenDocument {
        data: Token::new(made.token),
        meta: NewTokenMeta { token: made.secret },
    };
    Ok(Document(StatusCode::CREATED, document))
}

/// Change a token: its name, its applications, when it expires. What is not given stays as it is.
#[utoipa::path(
    put, path = "/tokens/{id}", tag = "tokens",
    operation_id = "updateToken",
    params(("id" = String, Path, description = "Id of the token.")),
    request_body(content = TokenChangeRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 200, description = "The token as it is now.", body = TokenDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        NotFound,
        Invalid,
    ),
)]
pub(crate) async fn update(
    operator: Operator,
    State(api): State<Api>,
    Named(id): Named,
    body: JsonBody,
) -> Result<Document<TokenDocument>, ApiError> {
    let change: TokenChange = body.under("token")?;
    let changed = api.operations.change_token(operator, &id, change).await?;
    let data = Token::new(changed);
    Ok(Document(StatusCode::OK, TokenDocument { data }))
}

/// Change a token, as `PUT` does.
#[utoipa::path(
    patch, path = "/tokens/{id}", tag = "tokens",
    operation_id = "patchToken",
    params(("id" = String, Path, description = "Id of the token.")),
    request_body(content = TokenChangeRequest, content_type = "application/vnd.api+json"),
    responses(
        (status = 200, description = "The token as it is now.", body = TokenDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        UnreadableBody,
        NotFound,
        Invalid,
    ),
)]
pub(crate) async fn patch(
    operator: Operator,
    state: State<Api>,
    id: Named,
    body: JsonBody,
) -> Result<Document<TokenDocument>, ApiError> {
    update(operator, state, id, body).await
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
    operator: Operator,
    State(api): State<Api>,
    Named(id): Named,
) -> Result<StatusCode, ApiError> {
    api.operations.delete_token(operator, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
