//! Requests about accounts.

use anyhow::Result;
use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::{Client, percent_encoded, read_json};
use crate::control::json;

impl Client {
    pub(crate) async fn accounts(&self) -> Result<Vec<json::AccountLine>> {
        self.get("/v1/accounts").await
    }

    pub(crate) async fn account(&self, number: &str) -> Result<json::AccountAnswer<Value>> {
        let number = percent_encoded(number);
        self.get(&format!("/v1/accounts/{number}")).await
    }

    pub(crate) async fn close_account(&self, number: &str) -> Result<json::AccountClosed> {
        let path = format!("/v1/accounts/{}", percent_encoded(number));
        read_json(self.request(Method::DELETE, &path, Bytes::new()).await?).await
    }

    pub(crate) async fn reopen_account(&self, number: &str) -> Result<json::AccountLine> {
        let path = format!("/v1/accounts/{}/reopen", percent_encoded(number));
        self.ask(Method::POST, &path, &()).await
    }
}
