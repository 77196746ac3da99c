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

/// What of a body the block says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// Whether the user is that of METADATA, and not the login.
    pub(super) user_from_metadata: bool,
    /// Whether digits of escapes are in upper case, as in Dovecot 2.4, or in lower case, as in 2.3.
    pub(super) escapes_in_upper_case: bool,
}

/// What is the same of all requests to an end-point.
pub(super) struct Request {
    uri: Uri,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
}

impl Request {
    /// What a URL says, and the text that it was written as; an error cites nothing of it.
    pub(super) fn new(url: &Url, written: &str) -> Result<Self, String> {
        let target = &url[Position::BeforePath..Position::AfterQuery];
        let uri = target
            .parse()
            .map_err(|_| "its path cannot be sent".to_owned())?;
        let authority = Authority::of(written);
        let host = authority.host_header(url);
        let host = HeaderValue::try_from(host).map_err(|_| "its host cannot be sent".to_owned())?;
        Ok(Self {
            uri,
            host,
            authorization: authority.authorization()?,
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

/// User, password, host and port as they were written: Dovecot sends a port that is the usual one,
/// and a password that is empty, neither of which is there any more in a URL that was parsed.
struct Authority<'a> {
    user: &'a str,
    password: Option<&'a str>,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// The authority of a text that is a URL.
    fn of(url: &'a str) -> Self {
        let behind = url.split_once(':').map_or(url, |(_, behind)| behind);
        let behind = behind.trim_start_matches(['/', '\\']);
        let end = behind.find(['/', '\\', '?', '#']);
        let authority = &behind[..end.unwrap_or(behind.len())];
        let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (login, None),
        };
        // An address of IPv6 has colons, too.
        let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let with_port = place.rsplit_once(':').filter(|(_, port)| is_port(port));
        let (host, port) = with_port.unwrap_or((place, ""));
        Self {
            user,
            password,
            host,
            port: port.parse().ok(),
        }
    }

    fn host_header(&self, url: &Url) -> String {
        let parsed = url.host_str().unwrap_or_default();
        let is_written = self.host.starts_with('[') || self.host.eq_ignore_ascii_case(parsed);
        // A name that Dovecot would not take is sent as it is looked up.
        let host = if is_written { self.host } else { parsed };
        match self.port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Without a password, or without a user, there is none: so it is in Dovecot.
    fn authorization(&self) -> Result<Option<HeaderValue>, String> {
        let Some(password) = self.password.filter(|_| !self.user.is_empty()) else {
            return Ok(None);
        };
        let mut pair: Vec<u8> = percent_decode_str(self.user).collect();
        pair.push(b':');
        pair.extend(percent_decode_str(password));
        let basic = format!("Basic {}", BASE64_STANDARD.encode(pair));
        let mut value =
            HeaderValue::try_from(basic).map_err(|_| "its user cannot be sent".to_owned())?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// The body for an event.
pub(super) fn body(event: &Event, style: Style) -> Result<Vec<u8>, Skipped> {
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
    let named = tab_unescaped(named);
    let user = if style.user_from_metadata {
        &named
    } else {
        &event.user
    };
    let mut json = Json {
        text: String::with_capacity(256),
        escapes_in_upper_case: style.escapes_in_upper_case,
    };
    json.string("{\"user\":", user);
    json.string(",\"event\":", "messageNew");
    json.string(",\"folder\":", &event.mailbox);
    json.number(",\"imap-uidvalidity\":", event.uidvalidity);
    json.number(",\"imap-uid\":", event.uid);
    let fields = [
        (",\"from\":", &event.from),
        (",\"subject\":", &event.subject),
        (",\"snippet\":", &event.snippet),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            json.string(name, value);
        }
    }
    if let Some(unseen) = event.unseen {
        json.number(",\"unseen\":", unseen);
    }
    json.text.push('}');
    Ok(json.text.into_bytes())
}

/// A value of the entry as it was before Dovecot escaped it, for lists that are divided by tabs.
fn tab_unescaped(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        if character != '\u{1}' {
            plain.push(character);
            continue;
        }
        plain.extend(characters.next().map(|escaped| match escaped {
            '0' => '\0',
            '1' => '\u{1}',
            't' => '\t',
            'r' => '\r',
            'n' => '\n',
            other => other,
        }));
    }
    plain
}

/// JSON as Dovecot's driver writes it.
struct Json {
    text: String,
    escapes_in_upper_case: bool,
}

impl Json {
    fn number(&mut self, name: &str, value: u32) {
        self.text.push_str(name);
        self.text.push_str(&value.to_string());
    }

    /// A string, of which the same characters are escaped by 2.3 (`json_append_escaped`) and 2.4
    /// (`json_generate_string`).
    fn string(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        self.text.push('"');
        for character in value.chars() {
            match character {
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\0'..=' ' if character != ' ' => self.escaped(character),
                '\u{2028}' | '\u{2029}' => self.escaped(character),
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
    }

    /// As four digits of hexadecimal: what is escaped so has no more.
    fn escaped(&mut self, character: char) {
        self.text.push_str("\\u");
        for shift in [12, 8, 4, 0] {
            let digit = char::from_digit((u32::from(character) >> shift) & 0xf, 16);
            self.text.extend(digit.map(|digit| {
                if self.escapes_in_upper_case {
                    digit.to_ascii_uppercase()
                } else {
                    digit
                }
            }));
        }
    }
}
