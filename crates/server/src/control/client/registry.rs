//! Requests that list and change what is registered.

use anyhow::Result;
use bytes::Bytes;
use hyper::Method;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Client, percent_encoded, read_json};
use crate::control::json;

/// An endpoint, with the attributes that the server shows.
pub(crate) type ShownEndpoint = json::EndpointAnswer<Value>;

impl Client {
    pub(crate) async fn register(
        &self,
        registration: &Value,
        dry_run: bool,
    ) -> Result<json::Registered> {
        let path = format!("/v1/apps?dry_run={dry_run}");
        self.ask(Method::POST, &path, registration).await
    }

    pub(crate) async fn remove_app(&self, id: Uuid) -> Result<json::Done> {
        self.delete(&format!("/v1/apps/{id}")).await
    }

    pub(crate) async fn create_endpoint(
        &self,
        account: &str,
        fields: Map<String, Value>,
    ) -> Result<ShownEndpoint> {
        let new = json::NewEndpoint {
            account: account.to_owned(),
            endpoint: fields,
        };
        self.ask(Method::POST, "/v1/endpoints", &new).await
    }

    pub(crate) async fn endpoint(&self, id: Uuid) -> Result<ShownEndpoint> {
        self.get(&format!("/v1/endpoints/{id}")).await
    }

    pub(crate) async fn change_endpoint(
        &self,
        id: Uuid,
        fields: &Map<String, Value>,
    ) -> Result<ShownEndpoint> {
        let path = format!("/v1/endpoints/{id}");
        self.ask(Method::PUT, &path, fields).await
    }

    pub(crate) async fn delete_endpoint(&self, id: Uuid) -> Result<json::Done> {
        self.delete(&format!("/v1/endpoints/{id}")).await
    }

    pub(crate) async fn test_endpoint(&self, id: Uuid) -> Result<json::Done> {
        let path = format!("/v1/endpoints/{id}/test");
        self.ask(Method::POST, &path, &()).await
    }

    /// What an endpoint would be sent of a notification; `None`: it is neither owed nor dead.
    pub(crate) async fn render(
        &self,
        id: Uuid,
        what: &json::Render<Map<String, Value>>,
    ) -> Result<Option<json::Rendered>> {
        let path = format!("/v1/endpoints/{id}/render");
        let json::Rendering(rendered) = self.ask(Method::POST, &path, what).await?;
        Ok(rendered)
    }

    /// Gives an endpoint a new signing secret, which the answer has.
    pub(crate) async fn rotate_secret(&self, id: Uuid) -> Result<ShownEndpoint> {
        let path = format!("/v1/endpoints/{id}/secret");
        self.ask(Method::POST, &path, &()).await
    }

    pub(crate) async fn filters(
        &self,
        endpoint: Option<Uuid>,
        account: Option<&str>,
    ) -> Result<Vec<json::FilterLine>> {
        let path = match (endpoint, account) {
            (Some(endpoint), _) => format!("/v1/filters?endpoint={endpoint}"),
            (None, Some(number)) => format!("/v1/filters?account={}", percent_encoded(number)),
            (None, None) => "/v1/filters".to_owned(),
        };
        self.get(&path).await
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<json::TokenLine>> {
        self.get("/v1/tokens").await
    }

    pub(crate) async fn create_token(&self, fields: &Value) -> Result<json::NewToken> {
        self.ask(Method::POST, "/v1/tokens", fields).await
    }

    pub(crate) async fn change_token(&self, id: Uuid, fields: &Value) -> Result<json::TokenLine> {
        let path = format!("/v1/tokens/{id}");
        self.ask(Method::PUT, &path, fields).await
    }

    pub(crate) async fn delete_token(&self, id: Uuid) -> Result<json::Done> {
        self.delete(&format!("/v1/tokens/{id}")).await
    }

    /// Removes a topic of the embedded log.
    pub(crate) async fn remove_topic(&self, name: &str) -> Result<json::Done> {
        let name = percent_encoded(name);
        self.delete(&format!("/v1/topics/{name}")).await
    }

    async fn delete(&self, path: &str) -> Result<json::Done> {
        read_json(self.request(Method::DELETE, path, Bytes::new()).await?).await
    }
}
