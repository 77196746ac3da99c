//! What others than consumer groups still need of the log, as they say: a dispatcher has committed
//! what it owes as a range, and reads it later. It is removed like anything else when its time is
//! over; what is removed so is counted and warned of.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::TopicPartition;

/// Offsets that are needed, by who needs them.
#[derive(Clone, Debug, Default)]
pub(in crate::embedded) struct Needed(Arc<Mutex<Places>>);

#[derive(Debug, Default)]
struct Places {
    who: String,
    offsets: HashMap<TopicPartition, Range<u64>>,
}

impl Needed {
    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces what was said before.
    pub(in crate::embedded) fn set(
        &self,
        who: &str,
        offsets: impl IntoIterator<Item = (TopicPartition, Range<u64>)>,
    ) {
        let mut places = self.places();
        who.clone_into(&mut places.who);
        places.offsets = offsets.into_iter().collect();
    }

    /// Who needs something of these offsets, and from where on.
    pub(super) fn of(
        &self,
        topic: &Arc<str>,
        partition: u32,
        offsets: Range<u64>,
    ) -> Option<(String, u64)> {
        let places = self.places();
        let place = TopicPartition {
            topic: Arc::clone(topic),
            partition,
        };
        let needed = places.offsets.get(&place)?;
        let is_among = needed.start < offsets.end && needed.end > offsets.start;
        is_among.then(|| (places.who.clone(), needed.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_known_until_it_is_said_anew() {
        let needed = Needed::default();
        let topic: Arc<str> = "dovecot".into();
        let place = TopicPartition {
            topic: Arc::clone(&topic),
            partition: 1,
        };
        needed.set("endpoints", [(place, 10..20)]);
        let of = |partition, offsets| needed.of(&topic, partition, offsets);
        let expected = Some(("endpoints".to_owned(), 10));
        assert_eq!(of(1, 0..11), expected);
        assert_eq!(of(1, 19..30), expected);
        assert_eq!(of(1, 0..10), None);
        assert_eq!(of(1, 20..30), None);
        assert_eq!(of(0, 0..30), None);
        needed.set("endpoints", []);
        assert_eq!(of(1, 0..30), None);
    }
}
