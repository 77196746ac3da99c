//! What streams are told of one event: its message in one form, rendered once for all of them.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use dovecast_mail_push::message::message;
use dovecast_mail_push::{MailEvent, Person, PushContent, Topic};
use serde_json::json;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::cursor::{Cursor, RecordAt};

/// A message to the streams of one person.
pub(super) struct Told {
    /// Whose mail it is of: compared once more when it is sent.
    pub(super) person: Person,
    pub(super) topic: Topic,
    pub(super) place: RecordAt,
    id: Arc<str>,
    /// The message, JSON.
    data: String,
    sse: OnceLock<Bytes>,
    frame: OnceLock<Utf8Bytes>,
    socket_io: OnceLock<Utf8Bytes>,
}

/// An event, rendered in the forms that were asked for so far.
pub(super) struct Forms<'a> {
    event: &'a MailEvent,
    place: RecordAt,
    id: Arc<str>,
    made: Vec<(Topic, PushContent, Arc<Told>)>,
}

impl<'a> Forms<'a> {
    pub(super) fn new(event: &'a MailEvent, place: RecordAt, time_ms: i64) -> Self {
        let id = Cursor::at(time_ms, place.clone()).to_string().into();
        Self {
            event,
            place,
            id,
            made: Vec::new(),
        }
    }

    /// The event in the form of a topic.
    pub(super) fn told(&mut self, topic: Topic, content: PushContent) -> Arc<Told> {
        let is_it = |made: &&(Topic, PushContent, Arc<Told>)| (made.0, made.1) == (topic, content);
        if let Some((_, _, told)) = self.made.iter().find(is_it) {
            return Arc::clone(told);
        }
        let told = Arc::new(Told {
            person: self.event.person.clone(),
            topic,
            place: self.place.clone(),
            id: Arc::clone(&self.id),
            data: message(self.event, topic, content).to_string(),
            sse: OnceLock::new(),
            frame: OnceLock::new(),
            socket_io: OnceLock::new(),
        });
        self.made.push((topic, content, Arc::clone(&told)));
        told
    }
}

impl Told {
    /// Bytes that it counts in the queue of a stream.
    pub(super) fn weight(&self) -> usize {
        self.data.len() + self.id.len()
    }

    /// As an event of SSE. JSON has no line ends, so that its data is one line.
    pub(super) fn sse(&self) -> Bytes {
        let made = self.sse.get_or_init(|| {
            let (id, topic, data) = (&self.id, self.topic, &self.data);
            let mut text = String::with_capacity(data.len() + id.len() + 64);
            // Writing into a String cannot fail.
            let _ = write!(text, "id: {id}\nevent: {topic}\ndata: {data}\n\n");
            text.into()
        });
        made.clone()
    }

    /// As an event of Socket.IO, in the packet of Engine.IO.
    pub(super) fn socket_io(&self) -> Utf8Bytes {
        let made = self.socket_io.get_or_init(|| {
            let (topic, data) = (self.topic, &self.data);
            format!(r#"42["{topic}",{data}]"#).into()
        });
        made.clone()
    }

    /// As a text frame of a WebSocket.
    pub(super) fn frame(&self) -> Utf8Bytes {
        let made = self.frame.get_or_init(|| {
            let (id, topic, data) = (json!(&*self.id), self.topic, &self.data);
            format!(r#"{{"topic":"{topic}","id":{id},"data":{data}}}"#).into()
        });
        made.clone()
    }
}
