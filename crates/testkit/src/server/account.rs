//! Accounts and endpoints of a running server, over its REST API.

use anyhow::{Context, Result, ensure};

use super::Server;
use crate::http::Request;

impl Server {
    /// A token of an account, made with the admin token of the first start.
    pub fn account_token(&self, number: &str) -> Result<String> {
        let body =
            format!(r#"{{"token":{{"name":"t","scope":"account","account_number":"{number}"}}}}"#);
        let made = self.make(&self.admin_token()?, "/tokens", &body)?;
        value(&made, "token")
    }

    /// Makes an endpoint, whose filter has this condition, for the account of a token; gives its
    /// id.
    pub fn endpoint(
        &self,
        token: &str,
        (name, url): (&str, &str),
        condition: &str,
    ) -> Result<String> {
        let body = format!(
            r#"{{"endpoint":{{"name":"{name}","url":"{url}","active":true,"filter":{{"condition":"{condition}"}}}}}}"#
        );
        value(&self.make(token, "/endpoints", &body)?, "id")
    }

    fn make(&self, token: &str, path: &str, body: &str) -> Result<String> {
        let request = Request::new("POST", &format!("/api/hooks{path}"))
            .header("Authorization", &format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(body);
        let answer = self.ask(&request)?;
        ensure!(answer.status == 201, "POST {path}: {answer:?}");
        Ok(answer.body)
    }
}

/// The first text of this name in JSON that is ours.
fn value(json: &str, name: &str) -> Result<String> {
    let rest = json.split_once(&format!("\"{name}\":\""));
    let text = rest.and_then(|(_, rest)| rest.split('"').next());
    let text = text.with_context(|| format!("no `{name}` in `{json}`"))?;
    Ok(text.to_owned())
}
