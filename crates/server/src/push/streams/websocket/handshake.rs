//! The opening handshake of a WebSocket (RFC 6455 section 4.2).

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::api::error::ApiError;
use crate::push::routes::PushError;

/// What the key of a client is hashed with (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a client's key.
const KEY_BYTES: usize = 16;

/// A handshake that can be answered.
pub(in crate::push::streams) struct Handshake {
    accept: HeaderValue,
}

/// Why a request is none: 426 says what it should be.
pub(in crate::push::streams) struct NotUpgraded(&'static str);

impl Handshake {
    /// Reads the headers of the request.
    pub(in crate::push::streams) fn read(headers: &HeaderMap) -> Result<Self, NotUpgraded> {
        if !has(headers, &header::CONNECTION, "upgrade")
            || !has(headers, &header::UPGRADE, "websocket")
        {
            return Err(NotUpgraded("this is asked for as a WebSocket"));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION) != Some(&HeaderValue::from_static("13")) {
            return Err(NotUpgraded("the version of a WebSocket is 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let decoded = key.and_then(|key| STANDARD.decode(key.as_bytes()).ok());
        let key = key.filter(|_| decoded.is_some_and(|bytes| bytes.len() == KEY_BYTES));
        let key = key.ok_or(NotUpgraded("Sec-WebSocket-Key is no key"))?;
        let digest = Sha1::new()
            .chain_update(key.as_bytes())
            .chain_update(GUID)
            .finalize();
        let accept = HeaderValue::from_str(&STANDARD.encode(digest));
        let accept = accept.map_err(|_| NotUpgraded("Sec-WebSocket-Key is no key"))?;
        Ok(Self { accept })
    }

    /// The answer, behind which the connection is a WebSocket.
    pub(in crate::push::streams) fn answer(self) -> Response {
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response()
    }
}

impl IntoResponse for NotUpgraded {
    fn into_response(self) -> Response {
        let mut response = PushError::from(ApiError::bad_request(self.0)).into_response();
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        response
    }
}

/// Whether a header has a word in one of its lists.
fn has(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .any(|one| one.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let asked = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
        let answer = Handshake::read(&asked).ok().expect("a handshake").answer();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(
            answer.headers()["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        for name in [
            "connection",
            "upgrade",
            "sec-websocket-version",
            "sec-websocket-key",
        ] {
            let mut less = asked.clone();
            less.remove(name);
            let refused = Handshake::read(&less).err().expect(name).into_response();
            assert_eq!(refused.status(), StatusCode::UPGRADE_REQUIRED, "{name}");
        }
    }
}
