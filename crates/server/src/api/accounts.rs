//! Accounts, for an admin: who has been seen, what each has, and its end.

use axum::extract::State;
use axum::http::StatusCode;
use dovecast_operations::Operator;
use dovecast_store::AccountRecord;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::documents::{Document, Endpoint, ListLinks, ListMeta, time};
use super::error::ApiError;
use super::error::described::{AnyRequest, Invalid, NotFound};
use super::path::Named;
use super::query::Query;
use super::tokens::Token;

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Account {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    attributes: AccountAttributes,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountAttributes {
    /// Number that notifications have in `account_id`.
    number: String,
    /// Time at which the account was first seen, RFC 3339.
    created_at: String,
    /// Time at which the account was closed, RFC 3339; null: it is open.
    closed_at: Option<String>,
    /// Number of its endpoints.
    endpoints: i64,
    /// Number of its tokens.
    tokens: i64,
    /// Number of its users that were seen.
    users: i64,
}

/// Accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountList {
    data: Vec<Account>,
    meta: ListMeta,
    links: ListLinks,
}

/// An account that was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountDocument {
    data: Account,
}

/// An account with what it has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ShownAccountDocument {
    data: Account,
    /// Endpoints of the account, at most 1000, and its tokens.
    included: Vec<OfAccount>,
}

/// Resource of an account.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OfAccount {
    Endpoint(Box<Endpoint>),
    Token(Box<Token>),
}

impl Account {
    fn new(account: AccountRecord) -> Self {
        Self {
            id: account.id.to_string(),
            kind: "account",
            attributes: AccountAttributes {
                number: account.number,
                created_at: time(account.created_ms),
                closed_at: account.closed_ms.map(time),
                endpoints: account.endpoints,
                tokens: account.tokens,
                users: account.users,
            },
        }
    }
}

/// List the accounts, in the order in which they were first seen.
#[utoipa::path(
    get, path = "/accounts", tag = "accounts",
    operation_id = "listAccounts",
    params(
        ("limit" = Option<i64>, Query, minimum = 1, description = "Most resources to return: 1000 if not given, and at most."),
        ("offset" = Option<i64>, Query, minimum = 0, description = "How many resources to skip."),
    ),
    responses(
        (status = 200, description = "The accounts.", body = AccountList, content_type = "application/vnd.api+json"),
        AnyRequest,
        Invalid,
    ),
)]
pub(crate) async fn list(
    operator: Operator,
    State(api): State<Api>,
    query: Query,
) -> Result<Document<AccountList>, ApiError> {
    let part = query.whole()?;
    let listed = api.operations.accounts(operator, part.limit, part.offset);
    let page = listed.await?;
    let (meta, links) = query.describe(part, page.total);
    let data = page.items.into_iter().map(Account::new).collect();
    let list = AccountList { data, meta, links };
    Ok(Document(StatusCode::OK, list))
}

/// Show an account, with its endpoints and its tokens.
#[utoipa::path(
    get, path = "/accounts/{number}", tag = "accounts",
    operation_id = "showAccount",
    params(("number" = String, Path, description = "Number of the account.")),
    responses(
        (status = 200, description = "The account, with its endpoints and tokens in `included`.", body = ShownAccountDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn show(
    operator: Operator,
    State(api): State<Api>,
    Named(number): Named,
) -> Result<Document<ShownAccountDocument>, ApiError> {
    let shown = api.operations.show_account(operator, &number).await?;
    let endpoints = shown.endpoints.iter().map(Endpoint::new).map(Box::new);
    let tokens = shown.tokens.into_iter().map(Token::new);
    let included = endpoints
        .map(OfAccount::Endpoint)
        .chain(tokens.map(Box::new).map(OfAccount::Token))
        .collect();
    let data = Account::new(shown.account);
    let document = ShownAccountDocument { data, included };
    Ok(Document(StatusCode::OK, document))
}

/// Close an account. Nobody acts for it from now on; its tokens, its endpoints with their filters,
/// what is still to be delivered to them, and its users go. A request that is not answered in time
/// can be sent again: it goes on where it was.
#[utoipa::path(
    delete, path = "/accounts/{number}", tag = "accounts",
    operation_id = "closeAccount",
    params(("number" = String, Path, description = "Number of the account.")),
    responses(
        (status = 204, description = "The account is closed."),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn close(
    operator: Operator,
    State(api): State<Api>,
    Named(number): Named,
) -> Result<StatusCode, ApiError> {
    api.operations.close_account(operator, &number).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Open an account again that was closed. What it had is gone.
#[utoipa::path(
    post, path = "/accounts/{number}/reopen", tag = "accounts",
    operation_id = "reopenAccount",
    params(("number" = String, Path, description = "Number of the account.")),
    responses(
        (status = 200, description = "The account is open.", body = AccountDocument, content_type = "application/vnd.api+json"),
        AnyRequest,
        NotFound,
    ),
)]
pub(crate) async fn reopen(
    operator: Operator,
    State(api): State<Api>,
    Named(number): Named,
) -> Result<Document<AccountDocument>, ApiError> {
    let account = api.operations.reopen_account(operator, &number).await?;
    let data = Account::new(account);
    Ok(Document(StatusCode::OK, AccountDocument { data }))
}
