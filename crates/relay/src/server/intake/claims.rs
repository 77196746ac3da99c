//! Who takes which spill file in: one at a time for each.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

type ClaimLock = Arc<tokio::sync::Mutex<()>>;

/// Files that are being taken in, or waited for.
#[derive(Default)]
pub(super) struct Claims {
    places: Mutex<HashMap<String, ClaimLock>>,
}

/// Given back by drop.
pub(super) struct Claim {
    claims: Arc<Claims>,
    name: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Claims {
    fn places(&self) -> MutexGuard<'_, HashMap<String, ClaimLock>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no one else has the file.
    pub(super) async fn claim(self: &Arc<Self>, name: &str) -> Claim {
        // Made before waiting: one who gives up gives its place back, too.
        let mut claim = Claim {
            claims: Arc::clone(self),
            name: name.to_owned(),
            guard: None,
        };
        let place = Arc::clone(self.places().entry(name.to_owned()).or_default());
        claim.guard = Some(place.lock_owned().await);
        claim
    }

    /// `None`: someone else has the file.
    pub(super) fn try_claim(self: &Arc<Self>, name: &str) -> Option<Claim> {
        let mut places = self.places();
        if places.contains_key(name) {
            return None;
        }
        let place = ClaimLock::default();
        let guard = Arc::clone(&place).try_lock_owned().ok();
        places.insert(name.to_owned(), place);
        Some(Claim {
            claims: Arc::clone(self),
            name: name.to_owned(),
            guard,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut places = self.claims.places();
        // Under the lock of all places, where others take their share of this one.
        drop(self.guard.take());
        let is_last = places
            .get(&self.name)
            .is_some_and(|place| Arc::strong_count(place) == 1);
        if is_last {
            places.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
        std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())
        })
        .await
    }

    #[tokio::test]
    async fn a_file_is_claimed_by_one_at_a_time_and_nothing_is_left_behind() {
        let claims = Arc::<Claims>::default();
        let first = claims.claim("a").await;
        assert!(claims.try_claim("a").is_none());
        let other = claims.try_claim("b");
        assert!(other.is_some());
        let mut second = Box::pin(claims.claim("a"));
        assert!(is_pending(&mut second).await);
        let mut given_up = Box::pin(claims.claim("a"));
        assert!(is_pending(&mut given_up).await);
        drop(given_up);
        drop(first);
        let second = second.await;
        assert!(claims.try_claim("a").is_none());
        drop((second, other));
        assert!(claims.places().is_empty());
    }
}
