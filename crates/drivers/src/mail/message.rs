//! The mail that tells of a notification, and which notifications are told by none.
//!
//! It says that a program has written it (`Auto-Submitted`, RFC 3834), so that nothing answers, and
//! its Message-ID is the same each time it is sent.

use std::time::SystemTime;

use dovecast_dispatch::driver::Delivery;
use dovecast_notification::{DOVECOT, Notification};
use lettre::Message;
use lettre::error::Error;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use serde::Deserialize;

use super::server::Server;

/// Our header, with the id of the delivery.
const DELIVERY: &str = "Dovecast-Delivery";

/// What a mail says.
pub(super) struct Letter<'a> {
    pub(super) to: &'a Mailbox,
    pub(super) subject: &'a str,
    pub(super) text: &'a str,
    pub(super) html: Option<&'a str>,
}

impl Letter<'_> {
    /// The mail.
    pub(super) fn message(&self, server: &Server, id: &str) -> Result<Message, Error> {
        let mut builder = Message::builder()
            .from(server.from().clone())
            .to(self.to.clone())
            .envelope(server.envelope(self.to)?)
            .subject(self.subject)
            .date(SystemTime::now())
            .message_id(Some(server.message_id(id, self.to)));
        let raw = [
            ("Auto-Submitted", Some("auto-generated")),
            ("List-Id", server.list_id()),
            (DELIVERY, Some(id)),
        ];
        for (name, value) in raw {
            if let Some(value) = value {
                let name = HeaderName::new_from_ascii_str(name);
                builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
            }
        }
        match self.html {
            Some(html) => builder.multipart(MultiPart::alternative_plain_html(
                self.text.to_owned(),
                html.to_owned(),
            )),
            None => builder.singlepart(
                SinglePart::builder()
                    .header(ContentType::TEXT_PLAIN)
                    .body(self.text.to_owned()),
            ),
        }
    }
}

/// What an event says of its mail.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event {
    #[serde(rename = "messageID")]
    message_id: Option<String>,
    from_address: Option<String>,
    from: Option<String>,
    user: Option<String>,
}

/// Why a notification is told by no mail; `None`: it is told.
pub(super) fn why_untold(delivery: &Delivery, server: &Server) -> Option<&'static str> {
    delivery
        .notifications
        .iter()
        .find_map(|one| why(one, server))
}

fn why(notification: &Notification, server: &Server) -> Option<&'static str> {
    if *notification.application != *DOVECOT {
        return None;
    }
    if !matches!(&*notification.event_type, "MessageNew" | "MessageAppend") {
        // Who reads the mail that tells of a flag sets another flag.
        return Some("not sent: of events only new mails are told by mail");
    }
    // What cannot be read says nothing about a mail of ours.
    let event: Event = serde_json::from_slice(&notification.message).unwrap_or_default();
    // A bounce is a new mail: told of to where the bounced one went, it would make the next.
    if event.user.is_some_and(|user| server.gets_bounces(&user)) {
        return Some("not sent: it came to the address that mails are sent from");
    }
    let from = event.from_address.or(event.from);
    if event.message_id.is_none() && from.is_none() {
        return Some("not sent: it is not seen who sends the mail, which may be one of ours");
    }
    // Without `detail=full` an event does not say its Message-ID; and some mail servers on the way
    // write one of their own.
    let is_ours = event.message_id.is_some_and(|id| server.is_message_id(&id))
        || from.is_some_and(|from| server.is_sender(&from));
    is_ours.then_some("not sent: it tells of a mail that was sent from here")
}
