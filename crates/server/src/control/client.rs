//! The other side of the control socket. One connection per request.

mod accounts;
mod benchmark;
mod place;
mod push;
mod registry;
mod unasked;

use std::fmt::Write;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{Buf, Bytes, BytesMut};
use dovecast_log::{Appended, GroupStatus, NewRecord, PartitionStatus, Record, TopicStatus};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use uuid::Uuid;

use self::place::{Connection, ServerAddress};
use super::json::{self, Damaged, Line};
use crate::cli::Begin;
use crate::config::Config;

pub(crate) use benchmark::Benchmark;
pub(crate) use place::HttpPlace;
pub(crate) use registry::ShownEndpoint;
pub(crate) use unasked::{NoServer, NotLetIn};

/// The longest line that is read: more than any record can be.
const MAX_LINE_BYTES: usize = 64 * 1024 * 1024;
/// Longest answer that is read as a whole, in bytes: more than the list of half a million endpoints
/// has. Who answers more is no server of ours, or has more than a command can show.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;
/// Longest answer that says why a request was refused, in bytes: one has some hundreds.
const MAX_FAILURE_BYTES: usize = 64 * 1024;

/// A running server.
pub(crate) struct Client(ServerAddress);

impl Client {
    /// The server of this configuration; connects at the first request.
    pub(crate) fn new(config: &Config) -> Self {
        Self(ServerAddress::Socket {
            path: config.control_socket(),
            is_found: config.control.is_found,
        })
    }

    /// Another server, for what `pushusers` asks.
    pub(crate) fn over_http(place: HttpPlace) -> Self {
        Self(ServerAddress::Http(place))
    }

    pub(crate) async fn topics(&self) -> Result<Vec<TopicStatus>> {
        let topics: Vec<json::Topic> = self.get("/v1/topics").await?;
        let status = |topic: json::Topic| TopicStatus {
            name: topic.topic,
            partitions: topic
                .partitions
                .into_iter()
                .map(|json::PartitionEnds { begin, end, .. }| PartitionStatus { begin, end })
                .collect(),
        };
        Ok(topics.into_iter().map(status).collect())
    }

    pub(crate) async fn groups(&self) -> Result<Vec<GroupStatus>> {
        let groups: Vec<json::GroupPlace> = self.get("/v1/groups").await?;
        let status = |group: json::GroupPlace| GroupStatus {
            group: group.group,
            topic: group.topic,
            partition: group.partition,
            committed: group.committed,
            end: group.end,
        };
        Ok(groups.into_iter().map(status).collect())
    }

    pub(crate) async fn append(&self, records: &[NewRecord]) -> Result<Appended> {
        let records = records.iter().map(json::AppendRecord::from).collect();
        let body = serde_json::to_vec(&json::Append { records })?;
        let answer = self
            .request(Method::POST, "/v1/records", body.into())
            .await?;
        let done: json::Appended = read_json(answer).await?;
        Ok(Appended {
            appended: done.appended,
            duplicates: done.duplicates,
            refused: done.refused,
            // The socket says how many, and the server's log why.
            refusals: Vec::new(),
        })
    }

    /// Where a reader would begin.
    pub(crate) async fn positions(&self, topic: &str, from: Begin) -> Result<Vec<u64>> {
        let topic = percent_encoded(topic);
        self.get(&format!("/v1/positions?topic={topic}&from={from}"))
            .await
    }

    pub(crate) async fn endpoints(&self, account: Option<&str>) -> Result<Vec<json::EndpointLine>> {
        match account {
            None => self.get("/v1/endpoints").await,
            Some(number) => {
                let number = percent_encoded(number);
                self.get(&format!("/v1/endpoints?account={number}")).await
            }
        }
    }

    pub(crate) async fn attempts(
        &self,
        endpoint: Uuid,
        most: usize,
    ) -> Result<Vec<json::AttemptLine>> {
        self.get(&format!("/v1/attempts?endpoint={endpoint}&most={most}"))
            .await
    }

    /// The latest dead letters before one, as many as a page holds; none: there are no older ones.
    pub(crate) async fn dead_letters(
        &self,
        endpoint: Option<Uuid>,
        before: Option<Uuid>,
        most: usize,
    ) -> Result<Vec<json::DeadLetterLine>> {
        let of = endpoint.map_or_else(String::new, |id| format!("endpoint={id}&"));
        let before = before.map_or_else(String::new, |id| format!("before={id}&"));
        self.get(&format!("/v1/dead-letters?{of}{before}most={most}"))
            .await
    }

    pub(crate) async fn drop_dead_letters(
        &self,
        what: &json::DropLetters,
    ) -> Result<json::Dropped> {
        self.ask(Method::POST, "/v1/dead-letters/drop", what).await
    }

    pub(crate) async fn explain(&self, notification: String) -> Result<Vec<json::Explanation>> {
        let body = notification.into();
        read_json(self.request(Method::POST, "/v1/explain", body).await?).await
    }

    pub(crate) async fn explain_record(&self, record: &Record) -> Result<Vec<json::Explanation>> {
        let body = serde_json::to_vec(&json::ReadRecord::from(record))?;
        let answer = self.request(Method::POST, "/v1/explain-record", body.into());
        read_json(answer.await?).await
    }

    /// How many deliveries are due now.
    pub(crate) async fn redeliver(&self, what: &json::Redeliver) -> Result<json::Redelivered> {
        let body = serde_json::to_vec(what)?;
        let answer = self.request(Method::POST, "/v1/redeliver", body.into());
        read_json(answer.await?).await
    }

    pub(crate) async fn apps(&self) -> Result<Vec<json::AppLine>> {
        self.get("/v1/apps").await
    }

    pub(crate) async fn secret_keys(&self) -> Result<Vec<json::KeyLine>> {
        self.get("/v1/secrets").await
    }

    pub(crate) async fn rotate_secret_key(&self) -> Result<json::Rotated> {
        let answer = self.request(Method::POST, "/v1/secrets/rotate", Bytes::new());
        read_json(answer.await?).await
    }

    /// Begins to read; the place is fixed when this returns.
    pub(crate) async fn read(&self, topic: &str, from: Begin) -> Result<Lines> {
        let path = format!("/v1/records?topic={}&from={from}", percent_encoded(topic));
        let body = self.request(Method::GET, &path, Bytes::new()).await?;
        Ok(Lines {
            body,
            buffer: BytesMut::new(),
        })
    }

    /// Sends a body in JSON.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        what: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(what)?;
        read_json(self.request(method, path, body.into()).await?).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        read_json(self.request(Method::GET, path, Bytes::new()).await?).await
    }

    /// Fails unless the server is root's, the caller's own, or that of whoever has the socket, if
    /// that was named: what a path leads to may have been put there a moment ago.
    fn check_peer(stream: &UnixStream, path: &Path, is_found: bool) -> Result<()> {
        let socket = path.display();
        let context = || format!("cannot see whose server answers on `{socket}`");
        let peer = stream.peer_cred().with_context(context)?.uid();
        let own = rustix::process::geteuid().as_raw();
        if peer == 0 || peer == own {
            return Ok(());
        }
        let owner = path.metadata().with_context(context)?.uid();
        ensure!(
            peer == owner && !is_found,
            "the server on `{socket}` runs as the user id {peer}, which is neither yours nor root's: it is not asked"
        );
        Ok(())
    }

    /// The socket, or host and port.
    fn name(&self) -> String {
        match &self.0 {
            ServerAddress::Socket { path, .. } => path.display().to_string(),
            ServerAddress::Http(place) => place.authority(),
        }
    }

    async fn connect(&self) -> Result<Box<dyn Connection>> {
        let (path, is_found) = match &self.0 {
            ServerAddress::Http(place) => return place.connect().await,
            ServerAddress::Socket { path, is_found } => (path, *is_found),
        };
        let connected = UnixStream::connect(path).await;
        let is_denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        let what_to_do = match connected.as_ref().err().map(is_denied) {
            Some(true) => {
                "run this as root, or as the server's user: `sudo -u dovecast dovecast ...`"
            }
            _ => "--config and --data-dir say which",
        };
        let stream = connected.with_context(|| NoServer {
            socket: path.display().to_string(),
            what_to_do,
        })?;
        Self::check_peer(&stream, path, is_found)?;
        Ok(Box::new(stream))
    }

    async fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Incoming> {
        self.request_with(method, path, Full::new(body)).await
    }

    async fn request_with<B>(&self, method: Method, path: &str, body: B) -> Result<Incoming>
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = self.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer's body; what goes wrong on it is an error of that.
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .header("content-type", "application/json");
        request = match &self.0 {
            ServerAddress::Socket { .. } => request.uri(path).header("host", "dovecast"),
            ServerAddress::Http(place) => request
                .uri(HttpPlace::path(path))
                .header("host", place.authority())
                .header("authorization", &place.authorization),
        };
        let answer = sender
            .send_request(request.body(body)?)
            .await
            .with_context(|| format!("no answer on `{}`", self.name()))?;
        let (head, body) = answer.into_parts();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let text = collected(body, MAX_FAILURE_BYTES).await?;
        let is_shut = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::TOO_MANY_REQUESTS,
        ]
        .contains(&head.status);
        match serde_json::from_slice::<json::Failed>(&text) {
            Ok(failed) if is_shut => Err(NotLetIn(failed.error).into()),
            Ok(failed) => Err(anyhow!(failed.error)),
            Err(_) => Err(anyhow!("the server answers {}", head.status)),
        }
    }
}

async fn read_json<T: DeserializeOwned>(body: Incoming) -> Result<T> {
    let bytes = collected(body, MAX_ANSWER_BYTES).await?;
    serde_json::from_slice(&bytes).context("the server has answered with something unexpected")
}

/// A whole body, if it is not longer than this.
async fn collected(body: Incoming, most: usize) -> Result<Bytes> {
    let announced = body.size_hint().lower();
    let too_long = || format!("the server answers more than {most} bytes");
    ensure!(
        usize::try_from(announced).is_ok_and(|bytes| bytes <= most),
        too_long()
    );
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(anyhow!(too_long())),
        Err(error) => Err(anyhow!(error)).context("the connection to the server is broken"),
    }
}

/// RFC 3986: all but what is unreserved.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing into a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Records as they come.
pub(crate) struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

/// What a line says.
pub(crate) enum Item {
    /// A record.
    Record(Record),
    /// Records that cannot be read.
    Damaged(Damaged),
}

impl Lines {
    /// The next items, at least one; `None`: the server is being stopped.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Item>>> {
        loop {
            let items = self.buffered()?;
            if !items.is_empty() {
                return Ok(Some(items));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(data) = frame
                .context("the connection to the server is broken")?
                .into_data()
            {
                self.buffer.extend_from_slice(&data);
            }
            ensure!(
                self.buffer.len() <= MAX_LINE_BYTES,
                "the server sends a line of more than {MAX_LINE_BYTES} bytes"
            );
        }
    }

    fn buffered(&mut self) -> Result<Vec<Item>> {
        let Some(last) = self.buffer.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(Vec::new());
        };
        let whole = self.buffer.split_to(last);
        self.buffer.advance(1);
        whole[..].split(|byte| *byte == b'\n').map(item).collect()
    }
}

fn item(line: &[u8]) -> Result<Item> {
    let line = serde_json::from_slice(line)
        .context("the server has sent something that is not a record")?;
    match line {
        Line::Record(record) => Record::try_from(record)
            .map(Item::Record)
            .map_err(|error| anyhow!(error)),
        Line::Damaged(damaged) => Ok(Item::Damaged(damaged)),
        Line::Failed(error) => Err(anyhow!(error)),
    }
}
