//! `data` of an endpoint: what is written and never shown. No error repeats a value: it is read by
//! hand, because those of serde do.

use std::collections::{BTreeMap, BTreeSet};

use dovecast_drivers::headers;
use dovecast_drivers::webhook::Authorization;
use dovecast_drivers::webhook::MAX_PARAMETERS;
use dovecast_store::{Credentials, CustomHeaders};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::misspelling;
use crate::refusal::{Fault, Faults, escaped};

const PLACE: &str = "data";
/// Keys that are read. Others are dropped, as hooks-backend did, unless one of these was meant.
const KEYS: [&str; 4] = [
    "authorization",
    "headers",
    "parameters",
    "server_ca_certificate",
];
/// Longest certificates of one endpoint, in bytes.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;
/// Most headers of one endpoint.
const MAX_HEADERS: usize = 20;
/// Longest names and values of the headers of one endpoint together, in bytes.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// Longest user name, password or token, in bytes.
const MAX_CREDENTIAL_BYTES: usize = 4 * 1024;
/// Longest names and values of the parameters of one endpoint together, in bytes.
const MAX_PARAMETERS_BYTES: usize = 8 * 1024;

/// Settings of requests to an endpoint. A key that is not given changes nothing; one that is null
/// is removed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) struct DataFields {
    /// PEM certificates to trust instead of the system's, at most 64 KiB.
    server_ca_certificate: Option<String>,
    /// Headers that each request carries: values by names, at most 20. Headers of the connection
    /// and of the body, and `webhook-...`, are refused.
    headers: Option<BTreeMap<String, String>>,
    /// Credentials that each request carries in the header `Authorization`.
    authorization: Option<AuthorizationFields>,
    /// Texts for the preset or the template, values by names, at most 20.
    parameters: Option<BTreeMap<String, String>>,
}

/// Credentials for the endpoint.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes what is read")]
pub(crate) enum AuthorizationFields {
    /// User and password.
    Basic { username: String, password: String },
    /// A token.
    Bearer { token: String },
}

/// What was found out.
#[derive(Default)]
pub(super) struct CheckedData {
    pub(super) certificate: Option<Option<String>>,
    pub(super) headers: Option<Option<CustomHeaders>>,
    pub(super) credentials: Option<Option<Credentials>>,
    pub(super) parameters: Option<Option<Map<String, Value>>>,
}

/// What is said, `None`: null, which removes all of it.
pub(super) fn check(said: Option<Value>, errors: &mut Faults) -> CheckedData {
    let mut object = match said {
        Some(Value::Object(object)) => object,
        Some(_) => {
            errors.push(Fault::attribute(PLACE, "is not an object"));
            return CheckedData::default();
        }
        None => {
            return CheckedData {
                certificate: Some(None),
                headers: Some(None),
                credentials: Some(None),
                parameters: Some(None),
            };
        }
    };
    for name in object.keys().filter(|name| !KEYS.contains(&name.as_str())) {
        if let Some(meant) = misspelling::meant(name, &KEYS) {
            let place = format!("{PLACE}/{}", escaped(name));
            let detail = format!(
                "is not known; did you mean `{meant}`? Known are `{}`",
                KEYS.join("`, `")
            );
            errors.push(Fault::attribute(place, detail));
        }
    }
    CheckedData {
        certificate: key(&mut object, "server_ca_certificate")
            .map(|value| certificate(&value?, errors)),
        headers: key(&mut object, "headers").map(|value| custom_headers(value?, errors)),
        credentials: key(&mut object, "authorization").map(|value| credentials(value?, errors)),
        parameters: key(&mut object, "parameters").map(|value| parameters(value?, errors)),
    }
}

/// What a key says, if it is there; `Some(None)`: null.
fn key(object: &mut Map<String, Value>, name: &str) -> Option<Option<Value>> {
    let value = object.remove(name)?;
    Some((!value.is_null()).then_some(value))
}

fn certificate(value: &Value, errors: &mut Faults) -> Option<String> {
    let detail = match value.as_str() {
        None => "is not a string".to_owned(),
        Some(pem) if pem.trim().is_empty() => super::BLANK.to_owned(),
        Some(pem) if pem.len() > MAX_CERTIFICATE_BYTES => {
            format!("is too long (maximum is {MAX_CERTIFICATE_BYTES} bytes)")
        }
        Some(pem) => match dovecast_drivers::tls::check(pem) {
            Ok(()) => return Some(pem.to_owned()),
            Err(error) => format!("contains {error}"),
        },
    };
    let detail = format!("attribute server_ca_certificate {detail}");
    errors.push(Fault::attribute(PLACE, detail));
    None
}

fn custom_headers(value: Value, errors: &mut Faults) -> Option<CustomHeaders> {
    let place = format!("{PLACE}/headers");
    let Value::Object(object) = value else {
        errors.push(Fault::attribute(
            place,
            "is not an object of names and values",
        ));
        return None;
    };
    let mut refuse = |name: &str, detail: String| {
        let place = format!("{place}/{}", escaped(name));
        errors.push(Fault::attribute(place, detail));
    };
    let (mut names, mut found) = (BTreeSet::new(), Vec::new());
    for (name, value) in object {
        let Value::String(value) = value else {
            refuse(&name, "is not a string".to_owned());
            continue;
        };
        if let Err(error) = headers::check(&name, &value) {
            refuse(&name, error.to_string());
        } else if !names.insert(name.to_ascii_lowercase()) {
            refuse(&name, "is there more than once".to_owned());
        } else {
            found.push((name, value));
        }
    }
    let bytes: usize = found
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if found.len() > MAX_HEADERS {
        let detail = format!("are too many (maximum is {MAX_HEADERS})");
        errors.push(Fault::attribute(place, detail));
    } else if bytes > MAX_HEADER_BYTES {
        let detail = format!("are too long (maximum is {MAX_HEADER_BYTES} bytes)");
        errors.push(Fault::attribute(place, detail));
    }
    (!found.is_empty()).then(|| CustomHeaders::new(found))
}

fn credentials(value: Value, errors: &mut Faults) -> Option<Credentials> {
    let place = format!("{PLACE}/authorization");
    let Value::Object(mut object) = value else {
        errors.push(Fault::attribute(place, "is not an object"));
        return None;
    };
    let kind = object.remove("type");
    let read = match kind.as_ref().and_then(Value::as_str) {
        Some("basic") => {
            let username = part(&mut object, "username", errors);
            let password = part(&mut object, "password", errors);
            let pair = username.zip(password);
            pair.map(|(username, password)| Credentials::Basic { username, password })
        }
        Some("bearer") => {
            let token = part(&mut object, "token", errors);
            token.map(|token| Credentials::Bearer { token })
        }
        _ => {
            let detail = "is neither `basic` nor `bearer`";
            errors.push(Fault::attribute(format!("{place}/type"), detail));
            None
        }
    };
    if let Some(Err(error)) = read.as_ref().map(|read| authorization(read).value()) {
        errors.push(Fault::attribute(place, error.to_string()));
    }
    read
}

fn parameters(value: Value, errors: &mut Faults) -> Option<Map<String, Value>> {
    let detail = match value {
        Value::Object(found) if found.len() > MAX_PARAMETERS => {
            format!("are too many (maximum is {MAX_PARAMETERS})")
        }
        Value::Object(found) if found.values().all(Value::is_string) => {
            let bytes = found.iter().map(|(name, value)| {
                let value = value.as_str().unwrap_or_default();
                name.len() + value.len()
            });
            if bytes.sum::<usize>() <= MAX_PARAMETERS_BYTES {
                return (!found.is_empty()).then_some(found);
            }
            format!("are too long (maximum is {MAX_PARAMETERS_BYTES} bytes)")
        }
        _ => "is not an object of texts".to_owned(),
    };
    errors.push(Fault::attribute(format!("{PLACE}/parameters"), detail));
    None
}

fn part(object: &mut Map<String, Value>, key: &str, errors: &mut Faults) -> Option<String> {
    let detail = match object.remove(key) {
        Some(Value::String(text)) if text.len() <= MAX_CREDENTIAL_BYTES => return Some(text),
        Some(Value::String(_)) => {
            format!("is too long (maximum is {MAX_CREDENTIAL_BYTES} bytes)")
        }
        Some(Value::Null) | None => super::BLANK.to_owned(),
        Some(_) => "is not a string".to_owned(),
    };
    let place = format!("{PLACE}/authorization/{key}");
    errors.push(Fault::attribute(place, detail));
    None
}

/// As the driver takes it.
fn authorization(credentials: &Credentials) -> Authorization {
    match credentials.clone() {
        Credentials::Basic { username, password } => Authorization::Basic(username, password),
        Credentials::Bearer { token } => Authorization::Bearer(token),
    }
}
