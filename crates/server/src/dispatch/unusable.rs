//! The target of an endpoint that cannot be delivered to for now: every attempt fails with the
//! reason, and is retried. A driver may be part of the next build, a cluster may be configured
//! again; a dead letter would have to be delivered by hand. An endpoint whose secrets cannot be
//! opened is paused besides, so that no attempt is made (`following.rs`).

use std::sync::Arc;

use dovecast_dispatch::driver::{Attempt, Boxed, Courier, Delivery, Target};

/// Why nothing can be delivered for now.
#[derive(Clone, Debug)]
pub(super) struct Unusable(Arc<str>);

impl Unusable {
    pub(super) fn target(why: &str) -> Arc<dyn Target> {
        Arc::new(Self(why.into()))
    }
}

impl Target for Unusable {
    fn authority(&self) -> Option<&str> {
        None
    }

    fn open(self: Arc<Self>) -> Box<dyn Courier> {
        Box::new(Self::clone(&self))
    }
}

impl Courier for Unusable {
    fn deliver<'a>(&'a mut self, _: &'a Delivery) -> Boxed<'a, Attempt> {
        let attempt = Attempt::failed(&self.0);
        Box::pin(std::future::ready(attempt))
    }
}
