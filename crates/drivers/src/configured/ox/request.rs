//! The request of the driver `ox`, as Dovecot sends it: the order of the headers and of the fields,
//! what is escaped and how.

use std::time::SystemTime;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE as TYPE, DATE, HOST, HeaderMap,
    HeaderValue,
};
use hyper::{Method, Uri};
use percent_encoding::percent_decode_str;
use url::{Position, Url};

use super::super::event::Event;

/// Type of the body.
pub(super) const CONTENT_TYPE: &str = "application/json; charset=utf-8";
/// The entry of METADATA that enables it for a user.
const METADATA: &str = "/private/vendor/vendor.dovecot/http-notify";

/// Why nothing is sent for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Skipped {
    /// Only mails that were delivered are told of, and only in INBOX.
    #[error("it is no MessageNew in INBOX")]
    NotWatched,
    /// The plugin does not add what is needed.
    #[error("the event has no METADATA, the plugin has not got `detail=full`")]
    NoDetail,
    /// The user has no such entry of METADATA, or the plugin does not add it.
    #[error("not active ({METADATA} METADATA not set)")]
    NotActive,
    /// The entry names no user.
    #[error("No user provided in config")]
    NoUser,
}

/// What is the same of all requests to an end-point.
pub(super) struct Request {
    uri: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Request {
    /// What a URL says; an error cites nothing of it.
    pub(super) fn new(url: &Url) -> Result<Self, String> {
        let target = &url[Position::BeforePath..Position::AfterQuery];
        let uri = target
            .parse()
            .map_err(|_| "its path cannot be sent".to_owned())?;
        let mut host = url.host_str().unwrap_or_default().to_owned();
        if let Some(port) = url.port() {
            host = format!("{host}:{port}");
        }
        let host = HeaderValue::try_from(host).map_err(|_| "its host cannot be sent".to_owned())?;
        Ok(Self {
            uri,
            host,
            authorization: authorization(url)?,
        })
    }

    /// The request with a body.
    pub(super) fn put(&self, body: Vec<u8>) -> hyper::Request<Full<Bytes>> {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(HOST, self.host.clone());
        let date = httpdate::fmt_http_date(SystemTime::now());
        if let Ok(date) = HeaderValue::try_from(date) {
            headers.insert(DATE, date);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(CONNECTION, HeaderValue::from_static("Keep-Alive"));
        headers.insert(TYPE, HeaderValue::from_static(CONTENT_TYPE));
        let mut request = hyper::Request::new(Full::from(body));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
    }
}

/// The user and the password of a URL. Without a password there is none: so it is in Dovecot.
fn authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    let Some(password) = url.password().filter(|_| !url.username().is_empty()) else {
        return Ok(None);
    };
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let mut value =
        HeaderValue::try_from(basic).map_err(|_| "its user cannot be sent".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// The body for an event.
pub(super) fn body(event: &Event, user_from_metadata: bool) -> Result<Vec<u8>, Skipped> {
    if event.kind != "MessageNew" || event.mailbox != "INBOX" {
        return Err(Skipped::NotWatched);
    }
    let Some(metadata) = event.metadata.get(METADATA) else {
        return Err(match event.timestamp {
            Some(_) => Skipped::NotActive,
            None => Skipped::NoDetail,
        });
    };
    let mut users = metadata
        .split('\t')
        .filter_map(|item| item.strip_prefix("user="));
    let named = users.next_back().ok_or(Skipped::NoUser)?;
    let user = if user_from_metadata {
        named
    } else {
        &event.user
    };
    let mut json = String::with_capacity(256);
    text(&mut json, "{\"user\":", user);
    json.push_str(",\"event\":\"messageNew\"");
    text(&mut json, ",\"folder\":", &event.mailbox);
    number(&mut json, ",\"imap-uidvalidity\":", event.uidvalidity);
    number(&mut json, ",\"imap-uid\":", event.uid);
    let fields = [
        (",\"from\":", &event.from),
        (",\"subject\":", &event.subject),
        (",\"snippet\":", &event.snippet),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            text(&mut json, name, value);
        }
    }
    if let Some(unseen) = event.unseen {
        number(&mut json, ",\"unseen\":", unseen);
    }
    json.push('}');
    Ok(json.into_bytes())
}

fn number(json: &mut String, name: &str, value: u32) {
    json.push_str(name);
    json.push_str(&value.to_string());
}

/// A text as Dovecot's `json_append_escaped` writes it.
fn text(json: &mut String, name: &str, value: &str) {
    json.push_str(name);
    json.push('"');
    for character in value.chars() {
        match character {
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\0'..=' ' if character != ' ' => escaped(json, character),
            '\u{2028}' | '\u{2029}' => escaped(json, character),
            _ => json.push(character),
        }
    }
    json.push('"');
}

/// As four digits of hexadecimal: what is escaped so has no more.
fn escaped(json: &mut String, character: char) {
    json.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        let digit = (u32::from(character) >> shift) & 0xf;
        json.extend(char::from_digit(digit, 16));
    }
}
