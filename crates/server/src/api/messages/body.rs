//! The body of `POST /messages`: one notification, or an array of them that may be longer.
//!
//! A body that is longer than other requests may be is read only while few others are: senders
//! cannot fill the memory together.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::de::IgnoredAny;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::body::{json_type, without_mark};
use crate::api::error::ApiError;
use crate::api::{Api, MAX_BODY_BYTES};
use crate::config::Http;

/// Bodies longer than [`MAX_BODY_BYTES`] that are in memory at a time; more wait for their turn.
const LONG_BODIES: usize = 4;

/// What an array may be, and how many long ones are in memory.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Most notifications of an array.
    most: usize,
    /// Longest body with an array.
    bytes: usize,
    long: Arc<Semaphore>,
}

impl Bounds {
    pub(crate) fn new(http: &Http) -> Self {
        Self {
            most: http.max_messages.get_usize(),
            bytes: http.max_messages_bytes.get_usize(),
            long: Arc::new(Semaphore::new(LONG_BODIES)),
        }
    }
}

/// A body, as it came.
pub(crate) struct MessagesBody {
    bytes: Bytes,
    /// Given back when the request is answered.
    _room: Option<OwnedSemaphorePermit>,
}

impl MessagesBody {
    /// The JSON of the body.
    pub(super) fn json(&self) -> &[u8] {
        without_mark(&self.bytes)
    }

    /// Whether the body is an array of notifications.
    pub(super) fn is_array(&self) -> bool {
        is_array(&self.bytes)
    }
}

impl FromRequest<Api> for MessagesBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        json_type(&request)?;
        let mut body = request.into_body();
        let first = next(&mut body).await?.unwrap_or_default();
        if body.is_end_stream() && first.len() <= MAX_BODY_BYTES {
            return Ok(Self {
                bytes: first,
                _room: None,
            });
        }
        let bounds = &api.messages;
        let mut read = Vec::from(first);
        let mut room = None;
        loop {
            let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
            let length = read.len().saturating_add(expected);
            let longest = if is_array(&read) {
                bounds.bytes
            } else {
                MAX_BODY_BYTES
            };
            if length > longest {
                return Err(too_long(longest));
            }
            if length > MAX_BODY_BYTES && room.is_none() {
                // It is never closed; the request has a time that it may take.
                room = Arc::clone(&bounds.long).acquire_owned().await.ok();
            }
            read.reserve(expected);
            match next(&mut body).await? {
                Some(more) => read.extend_from_slice(&more),
                None => break,
            }
        }
        Ok(Self {
            bytes: read.into(),
            _room: room,
        })
    }
}

fn too_long(longest: usize) -> ApiError {
    ApiError::payload_too_large(format!("The body is longer than {longest} bytes"))
}

fn is_array(body: &[u8]) -> bool {
    without_mark(body).trim_ascii_start().first() == Some(&b'[')
}

/// The next piece of a body; `None`: that was all.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::bad_request("the body cannot be read"))?;
        // Others are trailers.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// The items of an array as they stand in it. They are JSON but for two things that only whoever
/// reads one can tell: whether texts are UTF-8, and how deep it is nested.
pub(super) fn items<'a>(body: &'a [u8], bounds: &Bounds) -> Result<Vec<&'a [u8]>, ApiError> {
    let mut rest = Rest { body, at: 0 };
    let mut items = Vec::new();
    // The bracket that has made it an array.
    rest.peek();
    rest.at += 1;
    if rest.peek() == Some(b']') {
        return Err(ApiError::bad_request("the array is empty"));
    }
    loop {
        items.push(rest.item(items.len())?);
        if items.len() > bounds.most {
            return Err(ApiError::payload_too_large(format!(
                "The array has more than {} notifications",
                bounds.most
            )));
        }
        match rest.peek() {
            Some(b',') => rest.at += 1,
            Some(b']') => break,
            _ => return Err(rest.broken()),
        }
    }
    rest.at += 1;
    match rest.peek() {
        None => Ok(items),
        Some(_) => Err(rest.broken()),
    }
}

/// What is still to be read of a body.
struct Rest<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.body.get(self.at..)?;
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.at += rest.iter().take_while(|byte| blank(byte)).count();
        self.body.get(self.at).copied()
    }

    fn item(&mut self, place: usize) -> Result<&'a [u8], ApiError> {
        self.peek();
        let rest = self.body.get(self.at..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(IgnoredAny)) => {}
            None => return Err(self.broken()),
            Some(Err(error)) => {
                return Err(ApiError::bad_request(format!(
                    "the body is not JSON: its notification {place}: {error}"
                )));
            }
        }
        let (item, _) = rest.split_at(values.byte_offset());
        self.at += item.len();
        Ok(item)
    }

    fn broken(&self) -> ApiError {
        ApiError::bad_request(format!(
            "the body is not JSON: expected `,` or `]` and nothing after it, at byte {}",
            self.at
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(body: &[u8]) -> Result<Vec<&[u8]>, String> {
        let mut http = Http::default();
        http.max_messages = crate::config::Bounded::new(3);
        items(body, &Bounds::new(&http)).map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn items_are_what_stands_between_the_commas() {
        for (body, expected) in [
            (&b" [1]"[..], &[&b"1"[..]][..]),
            (
                b"[ {\"a\":[1,\"],\"]} ,[ ], \"\\\"\" ] \n",
                &[b"{\"a\":[1,\"],\"]}", b"[ ]", b"\"\\\"\""],
            ),
            (b"[\"\xff\", {}]", &[b"\"\xff\"", b"{}"]),
        ] {
            assert_eq!(split(body).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_array_is_refused_as_a_whole() {
        for (body, reason) in [
            (&b"[]"[..], "is empty"),
            (b"[1,2,3,4]", "more than 3"),
            (b"[", "not JSON"),
            (b"[1", "at byte 2"),
            (b"[1,", "not JSON"),
            (b"[1,]", "not JSON"),
            (b"[1]2", "at byte 3"),
            (b"[1 2]", "at byte 3"),
            (b"[{\"a\" \"b\"}]", "notification 0"),
        ] {
            let said = split(body).expect_err(reason);
            assert!(said.contains(reason), "{said}");
        }
    }
}
