//! The request that lasts as long as a benchmark.

use std::convert::Infallible;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, future, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::Method;
use hyper::body::{Frame, Incoming};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{Client, percent_encoded};
use crate::control::json;

/// Both lines are short.
const MAX_BYTES: usize = 64 * 1024;

/// What was made for a benchmark. The server removes it when this is dropped, too.
pub(crate) struct Benchmark {
    pub(crate) made: json::Benchmark,
    /// The body of the request ends with it.
    end: oneshot::Sender<Infallible>,
    lines: Incoming,
    buffer: BytesMut,
}

impl Client {
    /// Has an application made, and an account with an endpoint for this URL.
    pub(crate) async fn benchmark(&self, url: &str) -> Result<Benchmark> {
        let (end, ended) = oneshot::channel::<Infallible>();
        let nothing = |_| future::ready(None::<Result<Frame<Bytes>, Infallible>>);
        let body = StreamBody::new(stream::once(ended).filter_map(nothing).boxed());
        let path = format!("/v1/benchmark?url={}", percent_encoded(url));
        let mut lines = self.request_with(Method::POST, &path, body).await?;
        let mut buffer = BytesMut::new();
        let made = next(&mut lines, &mut buffer).await?;
        Ok(Benchmark {
            made,
            end,
            lines,
            buffer,
        })
    }
}

impl Benchmark {
    /// Has everything removed.
    pub(crate) async fn end(mut self) -> Result<()> {
        drop(self.end);
        let end: json::BenchmarkEnd = next(&mut self.lines, &mut self.buffer).await?;
        match end.error {
            None => Ok(()),
            Some(error) => bail!(
                "the endpoint and the application of the benchmark could not be removed: {error}"
            ),
        }
    }
}

async fn next<T: DeserializeOwned>(body: &mut Incoming, buffer: &mut BytesMut) -> Result<T> {
    loop {
        if let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(end + 1);
            return serde_json::from_slice(&line)
                .context("the server has answered with something unexpected");
        }
        ensure!(
            buffer.len() <= MAX_BYTES,
            "the server has sent too long a line"
        );
        let frame = body
            .frame()
            .await
            .context("the server has closed the connection")?;
        let frame = frame.context("the connection to the server is broken")?;
        if let Ok(data) = frame.into_data() {
            buffer.extend_from_slice(&data);
        }
    }
}
