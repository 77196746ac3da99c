//! Bodies of requests: which type they are of, how long they may be, and what they say as JSON.

mod nul;
mod yaml;

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Api;
use super::error::ApiError;
use nul::HasNul;

const JSON: [&str; 2] = ["application/json", "application/vnd.api+json"];
const YAML: [&str; 5] = [
    "application/yaml",
    "application/x-yaml",
    "application/vnd.yaml",
    "text/yaml",
    "text/x-yaml",
];

/// A body in JSON.
pub(crate) struct JsonBody(pub(crate) Value);

/// A body in JSON with a `message`, which is any JSON and stays as it was written: nothing of it is
/// stored.
pub(crate) struct MessageBody(Bytes);

/// A body in JSON or YAML.
pub(crate) struct AnyBody(pub(crate) Value);

impl JsonBody {
    /// What stands under `key`, or in JSON:API's own form, `{"data": {"type": key, "attributes":
    /// {...}}}`. One of them has to be there.
    pub(crate) fn under<T: DeserializeOwned>(mut self, key: &str) -> Result<T, ApiError> {
        let value = match &mut self.0 {
            Value::Object(object) => match object.remove(key) {
                None => attributes(object.remove("data"), key)?,
                value => value,
            },
            _ => None,
        };
        match value {
            Some(value @ Value::Object(_)) => {
                serde_json::from_value(value).map_err(ApiError::bad_request)
            }
            Some(_) => Err(ApiError::bad_request(format!("`{key}` is not an object"))),
            None => Err(ApiError::bad_request(format!("`{key}` is missing"))),
        }
    }
}

/// Fields of an object as they stand in the JSON; of several of one name the last counts.
type RawFields<'a> = BTreeMap<String, &'a RawValue>;

impl MessageBody {
    /// As [`JsonBody::under`].
    pub(crate) fn under<T: DeserializeOwned>(&self, key: &str) -> Result<T, ApiError> {
        let json = without_mark(&self.0);
        let nothing = || ApiError::bad_request(format!("`{key}` is missing"));
        if !is_object(json) {
            return Err(nothing());
        }
        let body: RawFields<'_> = parsed(json)?;
        let raw = match (body.get(key), body.get("data")) {
            (Some(raw), _) => raw,
            (None, Some(data)) if is_object(data.get().as_bytes()) => raw_attributes(data, key)?,
            (None, _) => return Err(nothing()),
        };
        if !is_object(raw.get().as_bytes()) {
            return Err(ApiError::bad_request(format!("`{key}` is not an object")));
        }
        inner(raw)
    }
}

/// Reads a part of the body. Lines and columns of errors would be counted from its beginning.
fn inner<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, ApiError> {
    serde_json::from_str(raw.get()).map_err(|error| {
        let text = error.to_string();
        ApiError::bad_request(text.split(" at line ").next().unwrap_or_default())
    })
}

/// As [`attributes`].
fn raw_attributes<'a>(data: &'a RawValue, key: &str) -> Result<&'a RawValue, ApiError> {
    let data: RawFields<'_> = inner(data)?;
    let kind = data.get("type").map(|kind| inner(kind));
    match kind {
        Some(Ok(Value::String(kind))) if kind == key => {}
        _ => return Err(ApiError::bad_request(format!("`data.type` is not `{key}`"))),
    }
    let attributes = data.get("attributes").copied();
    attributes.ok_or_else(|| ApiError::bad_request("`data.attributes` is missing"))
}

fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// The attributes of a resource object (JSON:API 1.1, section 7.2).
fn attributes(data: Option<Value>, key: &str) -> Result<Option<Value>, ApiError> {
    let Some(Value::Object(mut data)) = data else {
        return Ok(None);
    };
    match data.get("type").and_then(Value::as_str) {
        Some(kind) if kind == key => {}
        _ => return Err(ApiError::bad_request(format!("`data.type` is not `{key}`"))),
    }
    match data.remove("attributes") {
        Some(attributes) => Ok(Some(attributes)),
        None => Err(ApiError::bad_request("`data.attributes` is missing")),
    }
}

impl FromRequest<Api> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        json_type(&request)?;
        Ok(Self(json(&bytes(request, api).await?)?))
    }
}

impl FromRequest<Api> for MessageBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        json_type(&request)?;
        let bytes = bytes(request, api).await?;
        let HasNul(has_nul) = parsed(&bytes)?;
        if has_nul {
            return Err(nul());
        }
        Ok(Self(bytes))
    }
}

impl FromRequest<Api> for AnyBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        unpacked(&request)?;
        let media_type = media_type(&request);
        let is_yaml = YAML.contains(&&*media_type);
        if !is_yaml && !JSON.contains(&&*media_type) {
            let expected = "application/json or application/yaml";
            return Err(refused(&media_type, expected));
        }
        let bytes = bytes(request, api).await?;
        let value = if is_yaml {
            yaml(&bytes)?
        } else {
            json(&bytes)?
        };
        Ok(Self(value))
    }
}

/// Refuses a body that is packed.
fn unpacked(request: &Request) -> Result<(), ApiError> {
    match request.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(ApiError::media_type(format!(
            "The Content-Encoding is {}; bodies are taken as they are, without one",
            encoding.to_str().unwrap_or("unreadable")
        ))),
        _ => Ok(()),
    }
}

/// Refuses a body that is not said to be JSON.
pub(crate) fn json_type(request: &Request) -> Result<(), ApiError> {
    unpacked(request)?;
    let media_type = media_type(request);
    if JSON.contains(&&*media_type) {
        Ok(())
    } else {
        Err(refused(&media_type, "application/vnd.api+json"))
    }
}

/// Without parameters, in lower case.
fn media_type(request: &Request) -> String {
    let value = request.headers().get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next();
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

fn refused(media_type: &str, expected: &str) -> ApiError {
    let detail = match media_type {
        "" => format!("There is no Content-Type; expected {expected}"),
        _ => format!("The Content-Type is {media_type}; expected {expected}"),
    };
    ApiError::media_type(detail)
}

async fn bytes(request: Request, api: &Api) -> Result<Bytes, ApiError> {
    let read = Bytes::from_request(request, api).await;
    read.map_err(|rejection: BytesRejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            ApiError::too_large()
        } else {
            ApiError::bad_request("the body cannot be read")
        }
    })
}

/// A text without the byte order mark of UTF-8 before it, which a reader of JSON may pass over
/// (RFC 8259, 8.1). Every body goes through here before it is read.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

pub(crate) fn json(bytes: &[u8]) -> Result<Value, ApiError> {
    storable(parsed(bytes)?)
}

fn parsed<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    let value = serde_json::from_slice(without_mark(bytes));
    value.map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))
}

pub(super) fn yaml(bytes: &[u8]) -> Result<Value, ApiError> {
    let read = yaml::read(without_mark(bytes));
    storable(read.map_err(|error| ApiError::bad_request(format!("the body is not YAML: {error}")))?)
}

/// Refuses NUL characters: PostgreSQL stores none in text, and both stores take the same.
fn storable(value: Value) -> Result<Value, ApiError> {
    if has_nul(&value) {
        Err(nul())
    } else {
        Ok(value)
    }
}

fn nul() -> ApiError {
    ApiError::bad_request("a string contains a NUL character")
}

/// Whether a text of it has a NUL.
pub(super) fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(values) => values.iter().any(has_nul),
        Value::Object(object) => object
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
