//! Connections that become streams: they give their place among requests to others, and have one
//! among streams instead (`push/streams`), so that neither kind takes the places of the other.

use std::sync::{Arc, Mutex, PoisonError};

use super::places::ConnectionPermit;
use super::progress::{Progress, UnderWay};

/// The connection of a request, as an extension of it.
#[derive(Clone)]
pub(crate) struct StreamConnection(Arc<Held>);

struct Held {
    place: Mutex<Option<ConnectionPermit>>,
    progress: Arc<Progress>,
}

/// A stream that is under way; while it lives no request is waited for on its connection.
pub(crate) struct Streaming {
    _under_way: UnderWay,
}

impl StreamConnection {
    pub(super) fn new(place: ConnectionPermit, progress: &Arc<Progress>) -> Self {
        Self(Arc::new(Held {
            place: Mutex::new(Some(place)),
            progress: Arc::clone(progress),
        }))
    }

    /// From now on the connection is a stream's, to its end.
    pub(crate) fn begin(&self) -> Streaming {
        let mut place = self.0.place.lock().unwrap_or_else(PoisonError::into_inner);
        drop(place.take());
        Streaming {
            _under_way: self.0.progress.begin(),
        }
    }
}
