//! A notification that was just read, before it is a delivery to each of its endpoints.

use std::sync::{Arc, OnceLock};

use dovecast_log::Record;
use dovecast_notification::{Notification, OrderKey};
use tracing::Span;

use crate::budget::Reserved;
use crate::endpoint::Endpoint;
use crate::item::{Item, Origin, ReadTogether, What};
use crate::ledger::{KeyPlace, TopicPartition};
use crate::recorder::Recorder;

/// A notification that was just read, and where from.
pub(crate) struct Live {
    pub(crate) notification: Arc<Notification>,
    pub(crate) read_together: Arc<ReadTogether>,
    pub(crate) topic: Arc<str>,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) span: Span,
    /// The room that the notification takes in memory.
    pub(crate) held: Option<Arc<Reserved>>,
    /// Whether it was for an endpoint already, and is counted.
    pub(crate) is_matched: bool,
    /// Name of the log that the record stands in.
    log: Arc<str>,
    /// The place among the deliveries of its key, made when an endpoint asks for it.
    order: OnceLock<Option<Arc<KeyPlace>>>,
}

impl Live {
    pub(crate) fn new(
        notification: Notification,
        record: &Record,
        read_together: &Arc<ReadTogether>,
        span: Span,
        log: &Arc<str>,
    ) -> Self {
        Self {
            notification: Arc::new(notification.detached()),
            read_together: Arc::clone(read_together),
            topic: Arc::clone(&record.topic),
            partition: record.partition,
            offset: record.offset,
            span,
            held: None,
            is_matched: false,
            log: Arc::clone(log),
            order: OnceLock::new(),
        }
    }

    /// Makes the delivery to one endpoint: one more thing to be done of what was read together.
    pub(crate) fn item(&self, recorder: &Arc<Recorder>, endpoint: &Endpoint) -> Item {
        let order = if endpoint.is_ordered {
            self.order.get_or_init(|| self.key_place()).clone()
        } else {
            None
        };
        let what = What {
            endpoint: endpoint.id,
            notification: Arc::clone(&self.notification),
            content: endpoint.content.clone(),
            failures: 0,
            span: self.span.clone(),
            order,
        };
        let of = &self.read_together;
        let origin = Origin::live(of, &self.topic, self.partition, self.offset);
        let mut item = Item::new(recorder, what, origin);
        item.held.clone_from(&self.held);
        item
    }

    fn key_place(&self) -> Option<Arc<KeyPlace>> {
        let of = TopicPartition {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
        };
        key_place(&self.notification, &self.log, of, self.offset)
    }
}

/// The place of a notification among those of its key; `None`: its record has no key.
pub(crate) fn key_place(
    notification: &Notification,
    log: &str,
    of: TopicPartition,
    offset: u64,
) -> Option<Arc<KeyPlace>> {
    let key = notification.key.as_deref()?;
    let key = OrderKey::new(log, &of.topic, of.partition, key);
    Some(Arc::new(KeyPlace {
        of,
        key,
        offset,
        log: None,
    }))
}
