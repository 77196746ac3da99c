//! The description of the API: the OpenAPI document, made of the code, and a page to read it.

use axum::Router;
use axum::http::header;
use axum::response::Html;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::server::Server;
use utoipa::{IntoResponses, Modify, OpenApi};

use super::Api;
use super::error::described::{AnyTime, UnreadableQuery};
use super::error::{AuthenticationError, ErrorDocument};

/// Page that shows the document; it asks no other host for anything.
const PAGE: &str = include_str!("reference.html");

/// What the document begins with.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "dovecast",
        description = "Applications, endpoints and filters of dovecast, as JSON:API. Compatible with hooks-backend.",
        license(name = "Apache-2.0"),
        version = "1"
    ),
    components(schemas(AuthenticationError, ErrorDocument)),
    security(("token" = []), ("identity" = [])),
    modifiers(&Schemes)
)]
pub(super) struct Reference;

/// How requests are authenticated.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API token"))
            .build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let description =
            "User of an account, as base64 of JSON. Accepted from trusted proxies only";
        let identity = ApiKeyValue::with_description("X-RH-IDENTITY", description);
        let identity = SecurityScheme::ApiKey(ApiKey::Header(identity));
        components.add_security_scheme("identity", identity);
    }
}

/// Adds what holds for every call: where the API is, and answers that any request may get. What is
/// optional in a query is left out, and never null; numbers there count from 1, but for `offset`.
fn complete(document: &mut utoipa::openapi::OpenApi, prefix: &str) {
    document.servers = Some(vec![Server::new(prefix)]);
    for path in document.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.put,
            &mut path.post,
            &mut path.delete,
            &mut path.patch,
        ];
        for operation in operations.into_iter().flatten() {
            let answers = &mut operation.responses.responses;
            let mut has_query = false;
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    has_query |= parameter.parameter_in == ParameterIn::Query;
                    in_text(parameter);
                }
            }
            let mut more = AnyTime::responses();
            if has_query {
                more.append(&mut UnreadableQuery::responses());
            }
            for (status, answer) in more {
                answers.entry(status).or_insert(answer);
            }
        }
    }
}

/// Describes a parameter as it stands in a query, a path or a header.
fn in_text(parameter: &mut Parameter) {
    let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema else {
        return;
    };
    if let SchemaType::Array(types) = &object.schema_type
        && let Some(only) = types.iter().find(|of| **of != Type::Null)
    {
        object.schema_type = SchemaType::Type(only.clone());
    }
    if parameter.name == "limit" {
        object.minimum = Some(1_isize.into());
    }
}

/// Serves the document of an API below `prefix`.
pub(super) fn router(mut document: utoipa::openapi::OpenApi, prefix: &str) -> Router<Api> {
    complete(&mut document, prefix);
    // The document is made of constants; it cannot fail to be written.
    let json = document.to_pretty_json().unwrap_or_default();
    let page = PAGE.replace("{prefix}", prefix);
    let policy = policy(&page);
    Router::new()
        .route(
            "/v1/openapi.json",
            get(async move || ([(header::CONTENT_TYPE, "application/json")], json.clone())),
        )
        .route(
            "/api-docs",
            get(async move || {
                let policy = [(header::CONTENT_SECURITY_POLICY, policy.clone())];
                (policy, Html(page.clone()))
            }),
        )
}

/// What a browser may do with the page: run the script and show the style that are in it, by their
/// hashes, and ask this server.
fn policy(page: &str) -> String {
    let hash = |element: &str| {
        let inner = page.split_once(&format!("<{element}>"));
        let inner = inner.and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
        let inner = inner.map_or("", |(inner, _)| inner);
        STANDARD.encode(Sha256::digest(inner))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const REVIEWED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

    #[test]
    fn the_reviewed_document_is_that_of_the_code() {
        let (_, mut document) = super::super::described().split_for_parts();
        complete(&mut document, "/api/hooks");
        let made = document.to_pretty_json().expect("a document") + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(REVIEWED, &made).expect("write");
        }
        let reviewed = std::fs::read_to_string(REVIEWED).unwrap_or_default();
        assert!(
            made == reviewed,
            "docs/openapi.json does not describe this code: run this test with UPDATE_OPENAPI=1 and review what changes"
        );
    }
}
