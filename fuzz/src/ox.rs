//! What Dovecot's own driver `ox` sends, and the event that is made of it.

use dovecast_event::{EventKind, parse};
use dovecast_notification::EventAccount;
use dovecast_notification::Notification;
use dovecast_server::parsers::ox;

use crate::expect::{readable_text, within};
use crate::outbox::record;
use crate::{Outcome, Target, json};

/// See the module.
pub const TARGET: Target = Target { name: "ox", run };

fn run(bytes: &[u8]) -> Outcome {
    let mail = match within(bytes.len() * 256 + 65_536, || ox(bytes)) {
        Ok(mail) => mail,
        Err(reason) => {
            readable_text(&reason);
            return Outcome::Refused;
        }
    };
    // The plugin could have sent it.
    assert!(json::is_json(&mail.event));
    let event = parse(&mail.event).expect("an event");
    assert_eq!(event.kind, EventKind::MessageNew);
    assert_eq!(event.user, mail.user);
    assert!(!event.user.is_empty() && !event.mailbox.is_empty());
    assert!(event.uid > Some(0) && event.uidvalidity > Some(0));
    let texts = [
        &event.from,
        &event.subject,
        &event.snippet,
        &event.from_address,
        &event.from_display_name,
        &event.subject_decoded,
    ];
    assert!(texts.into_iter().flatten().all(|text| !text.contains('\0')));
    assert!(
        event
            .from_address
            .is_none_or(|address| address.contains('@'))
    );
    let notification = Notification::from_event(&record(&mail.event), &EventAccount::User);
    assert_eq!(*notification.expect("a notification").account, *mail.user);
    // Told of again it is the same.
    assert_eq!(ox(bytes), Ok(mail));
    Outcome::Read
}
