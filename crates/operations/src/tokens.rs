//! Acts on API tokens. The token itself is returned by the act that makes it, and never again.

pub(crate) mod fields;

use dovecast_store::{ApiToken, NewToken};

use crate::{Operations, Operator, Refusal, Resource, Result, TokenChange, TokenFields};

impl Operations {
    /// All tokens, in the order in which they were made.
    pub async fn tokens(&self, _: Operator) -> Result<Vec<ApiToken>> {
        Ok(self.store.tokens().await?)
    }

    /// Makes a token; its account is made if it is not there.
    pub async fn create_token(
        &self,
        Operator(by): Operator,
        fields: TokenFields,
    ) -> Result<NewToken> {
        let (name, grant) = fields.check()?;
        let made = self.store.create_token(&name, grant).await?;
        let token = &made.token;
        tracing::info!(
            token.id = %token.id,
            token.scope = token.scope.as_str(),
            account.number = token.scope.account_number(),
            %by,
            "an API token was created"
        );
        Ok(made)
    }

    /// Changes a token; on other nodes that counts within a second.
    pub async fn change_token(
        &self,
        Operator(by): Operator,
        id: &str,
        change: TokenChange,
    ) -> Result<ApiToken> {
        let none = || Refusal::no(Resource::Token, id);
        let parsed = id.parse().map_err(|_| none())?;
        let found = self.store.token(parsed).await?.ok_or_else(none)?;
        let edit = change.check(&found.scope)?;
        if !self.store.edit_token(parsed, &edit).await? {
            return Err(none());
        }
        tracing::info!(token.id = id, %by, "an API token was changed");
        self.store.token(parsed).await?.ok_or_else(none)
    }

    /// Deletes a token, which is refused from now on; on other nodes within a second.
    pub async fn delete_token(&self, Operator(by): Operator, id: &str) -> Result<()> {
        let none = || Refusal::no(Resource::Token, id);
        let parsed = id.parse().map_err(|_| none())?;
        if !self.store.delete_token(parsed).await? {
            return Err(none());
        }
        tracing::info!(token.id = id, %by, "an API token was deleted");
        Ok(())
    }
}
