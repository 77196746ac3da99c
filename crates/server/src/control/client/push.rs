//! Requests about mail push.

use anyhow::Result;
use hyper::Method;

use super::Client;
use crate::control::json;

impl Client {
    pub(crate) async fn push_users(&self) -> Result<Vec<json::PushUserLine>> {
        self.get("/v1/push/users").await
    }

    pub(crate) async fn push_clients(&self) -> Result<Vec<json::PushClientLine>> {
        self.get("/v1/push/clients").await
    }

    /// How many subscriptions were deleted.
    pub(crate) async fn unregister(&self, what: &json::PushRegistration) -> Result<u64> {
        let path = "/v1/push/unregister";
        let done: json::Unregistered = self.ask(Method::POST, path, what).await?;
        Ok(done.deleted)
    }

    pub(crate) async fn explain_listener(
        &self,
        person: &json::PushPerson,
    ) -> Result<json::ExplainedListener> {
        self.ask(Method::POST, "/v1/push/explain", person).await
    }

    pub(crate) async fn devices(&self, of: &json::PushDevices) -> Result<Vec<json::DeviceLine>> {
        self.ask(Method::POST, "/v1/push/devices", of).await
    }

    pub(crate) async fn test_devices(
        &self,
        of: &json::PushDevices,
    ) -> Result<Vec<json::TestedLine>> {
        self.ask(Method::POST, "/v1/push/test", of).await
    }

    pub(crate) async fn why_silent(&self, of: &json::PushDevices) -> Result<json::WhySilent> {
        self.ask(Method::POST, "/v1/push/why", of).await
    }
}
