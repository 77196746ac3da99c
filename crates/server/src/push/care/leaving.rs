//! Takes away what was set elsewhere for a person who is not heard by it any more: the METADATA
//! entry of the source `dovecot`.
//!
//! The store knows whose entry may be set, so that a restart forgets none. It is taken away by
//! whoever has leased the person, as nobody else could set it then, and is tried again until the
//! lease ends.

use std::sync::Arc;
use std::time::Duration;

use dovecast_log::LineLimit;
use dovecast_mail_push::placement::Lease;
use dovecast_mail_push::sources::back_off::delay;
use dovecast_mail_push::sources::{Fence, HttpNotify};

use super::Parts;
use crate::push::counters::Count;

/// Bounds of the delay before it is tried again.
const RETRY_DELAYS: std::ops::Range<Duration> = Duration::from_secs(5)..Duration::from_mins(15);

/// About entries of METADATA that cannot be taken away.
static LINES: LineLimit = LineLimit::a_minute(1);

impl Parts {
    /// Takes a person's entry away, until the future is dropped or it is done. `named`: name of the
    /// password that there is.
    pub(super) async fn leave(&self, lease: &Lease, named: Option<&Arc<str>>) {
        let Some(notify) = &self.sources.dovecot else {
            return;
        };
        let mut failures = 0_u32;
        while let Err(error) = self.take_away(notify, lease, named).await {
            self.counters.add(Count::NotTakenAway, 1);
            if LINES.take() {
                let person = &lease.person;
                tracing::warn!(
                    %person,
                    error,
                    "the METADATA entry `http-notify` cannot be taken away; this is retried"
                );
            }
            tokio::time::sleep(delay(failures, &RETRY_DELAYS)).await;
            failures = failures.saturating_add(1);
        }
    }

    async fn take_away(
        &self,
        notify: &HttpNotify,
        lease: &Lease,
        named: Option<&Arc<str>>,
    ) -> Result<(), String> {
        let person = &lease.person;
        let login = if notify.needs_login() {
            let _turn = self.sink.turn().await;
            let login = self.sources.login(&self.vault, person).await;
            login.map_err(|_| "its password cannot be had".to_owned())?
        } else {
            None
        };
        let fence: &dyn Fence = &*self.sink;
        match notify
            .unregister_fenced(person, login.as_ref(), fence)
            .await
        {
            Ok(_) => {}
            Err(error) => {
                let is_refused = error.is_refused_login();
                if let Some(name) = named.filter(|_| is_refused && self.sources.master.is_none()) {
                    self.refuse(person, name).await;
                }
                return Err(dovecast_mail_push::causes(&error));
            }
        }
        let forgotten = self.store.forget_metadata(lease).await;
        forgotten.map_err(|error| dovecast_mail_push::causes(&error))
    }
}
