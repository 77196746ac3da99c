//! The target of an endpoint whose secrets cannot be opened: every attempt fails with the reason,
//! and is retried. The key may be put back; a dead letter would have to be delivered by hand.

use std::sync::Arc;

use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Target};

/// Why nothing can be delivered for now.
#[derive(Clone, Debug)]
pub(super) struct Unopened(Arc<str>);

impl Unopened {
    pub(super) fn target(why: &str) -> Arc<dyn Target> {
        Arc::new(Self(why.into()))
    }
}

impl Target for Unopened {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Self::clone(&self))
    }
}

impl Courier for Unopened {
    fn deliver<'a>(&'a mut self, _: &'a Delivery) -> Boxed<'a, Attempt> {
        let attempt = Attempt::failed(self.0.to_string());
        Box::pin(std::future::ready(attempt))
    }
}
