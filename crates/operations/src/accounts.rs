//! Acts of the operator on accounts: list, show, close, open again.

use dovecast_store::{
    AccountRecord, ApiToken, ClosedAccount, Endpoint, EndpointOrder, EndpointQuery, Page, Search,
};

use crate::{Operations, Operator, Refusal, Resource, Result, account_number};

/// Most endpoints that are shown with an account.
const MAX_ENDPOINTS: i64 = 1000;

/// An account with what it has.
#[derive(Clone, Debug)]
pub struct ShownAccount {
    /// The account.
    pub account: AccountRecord,
    /// Endpoints of the account, a thousand at most.
    pub endpoints: Vec<Endpoint>,
    /// Tokens of the account.
    pub tokens: Vec<ApiToken>,
}

impl Operations {
    /// Some of all accounts, in the order in which they were first seen.
    pub async fn accounts(
        &self,
        _: Operator,
        limit: i64,
        offset: i64,
    ) -> Result<Page<AccountRecord>> {
        Ok(self.store.accounts(limit, offset).await?)
    }

    /// An account with its endpoints and its tokens.
    pub async fn show_account(&self, _: Operator, number: &str) -> Result<ShownAccount> {
        let number = known(number)?;
        let account = self.store.account_record(number).await?;
        let account = account.ok_or_else(|| Refusal::no(Resource::Account, number))?;
        let all = EndpointQuery {
            search: Search::All,
            order: EndpointOrder::Name,
            descending: false,
            limit: MAX_ENDPOINTS,
            offset: 0,
        };
        Ok(ShownAccount {
            endpoints: self.store.endpoints(account.id, &all).await?.items,
            tokens: self.store.tokens_of(account.id).await?,
            account,
        })
    }

    /// Closes an account: nobody acts for it from now on, and its tokens, its endpoints with their
    /// filters, and what they owe go. A closing that was interrupted is finished by the next start
    /// of a dispatcher, or when it is asked for again.
    pub async fn close_account(
        &self,
        Operator(by): Operator,
        number: &str,
    ) -> Result<ClosedAccount> {
        let number = known(number)?;
        let closed = self.store.close_account(number).await?;
        let closed = closed.ok_or_else(|| Refusal::no(Resource::Account, number))?;
        tracing::info!(
            account.number = ?number,
            endpoints = closed.endpoints,
            tokens = closed.tokens,
            %by,
            "an account was closed"
        );
        Ok(closed)
    }

    /// Opens an account again that was closed. What it had is gone.
    pub async fn reopen_account(
        &self,
        Operator(by): Operator,
        number: &str,
    ) -> Result<AccountRecord> {
        let number = known(number)?;
        let none = || Refusal::no(Resource::Account, number);
        if !self.store.reopen_account(number).await? {
            return Err(none());
        }
        tracing::info!(account.number = ?number, %by, "an account was opened again");
        let account = self.store.account_record(number).await?;
        account.ok_or_else(none)
    }
}

/// The number of an account that may be there: what nobody can type is the number of none that
/// others than dovecast itself know.
fn known(number: &str) -> Result<&str> {
    account_number(number).map_err(|_| Refusal::no(Resource::Account, number))
}
