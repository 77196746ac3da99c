//! What of an endpoint is found out by trying only, before it is saved.

use std::sync::Arc;

use dovecast_dispatch::driver::Target;

use crate::refusal::escaped;
use crate::{Refusal, Result};

/// A receiver whose settings are not fully checked yet, if there is one.
#[derive(Debug, Default)]
#[must_use]
pub struct Trial(Option<(Arc<dyn Target>, &'static str)>);

impl Trial {
    /// A receiver whose settings stand in attributes that begin with `prefix`.
    pub(super) fn of(target: Arc<dyn Target>, prefix: &'static str) -> Self {
        Self(Some((target, prefix)))
    }

    /// Refuses what does not work.
    pub(crate) async fn run(self) -> Result<()> {
        let Some((target, prefix)) = self.0 else {
            return Ok(());
        };
        target.check().await.map_err(|error| {
            let name = format!("{prefix}{}", escaped(&error.key));
            Refusal::attribute(&name, error.reason)
        })
    }
}
