//! Accounts over the control socket.

use axum::Json;
use axum::extract::{Path, State};
use dovecast_store::AccountRecord;

use super::{Control, Failure, json};
use crate::api::documents;

/// Accounts that are read at a time.
const PAGE: i64 = 1000;

/// `GET /v1/accounts`.
pub(super) async fn list(
    State(control): State<Control>,
) -> Result<Json<Vec<json::AccountLine>>, Failure> {
    let (mut lines, mut offset) = (Vec::new(), 0);
    loop {
        let (operations, operator) = control.operator()?;
        let page = operations.accounts(operator, PAGE, offset).await?;
        if page.items.is_empty() {
            return Ok(Json(lines));
        }
        offset += PAGE;
        lines.extend(page.items.into_iter().map(json::AccountLine::from));
    }
}

/// `GET /v1/accounts/{number}`.
pub(super) async fn show(
    State(control): State<Control>,
    Path(number): Path<String>,
) -> Result<Json<json::AccountAnswer<documents::Endpoint>>, Failure> {
    let (operations, operator) = control.operator()?;
    let shown = operations.show_account(operator, &number).await?;
    Ok(Json(json::AccountAnswer {
        account: shown.account.into(),
        endpoints: shown
            .endpoints
            .iter()
            .map(documents::Endpoint::new)
            .collect(),
        tokens: shown.tokens.into_iter().map(Into::into).collect(),
    }))
}

/// `DELETE /v1/accounts/{number}`.
pub(super) async fn close(
    State(control): State<Control>,
    Path(number): Path<String>,
) -> Result<Json<json::AccountClosed>, Failure> {
    let (operations, operator) = control.operator()?;
    let closed = operations.close_account(operator, &number).await?;
    operations.settled().await;
    Ok(Json(json::AccountClosed {
        endpoints: closed.endpoints,
        tokens: closed.tokens,
    }))
}

/// `POST /v1/accounts/{number}/reopen`.
pub(super) async fn reopen(
    State(control): State<Control>,
    Path(number): Path<String>,
) -> Result<Json<json::AccountLine>, Failure> {
    let (operations, operator) = control.operator()?;
    let account = operations.reopen_account(operator, &number).await?;
    Ok(Json(account.into()))
}

impl From<AccountRecord> for json::AccountLine {
    fn from(account: AccountRecord) -> Self {
        Self {
            number: account.number,
            created_ms: account.created_ms,
            closed_ms: account.closed_ms,
            endpoints: account.endpoints,
            tokens: account.tokens,
            users: account.users,
        }
    }
}
