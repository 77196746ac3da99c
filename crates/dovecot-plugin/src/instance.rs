//! One driver instance of one user: what Dovecot calls.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::rc::Rc;
use std::time::{Duration, Instant};

#[cfg(feature = "kafka")]
use dovecast_dovecot_sys::host;
use dovecast_dovecot_sys::host::Level;
use dovecast_dovecot_sys::{
    Driver, MailboxEvent, Message, Transaction, User, UserHandle, Wanted, version,
};
use dovecast_event::{Context, Details, Event, Field, MailboxStatus, UnixMillis};
use dovecast_options::{GeneralSettings, InstanceOptions, Spelling, without_secrets};

use crate::record::{Envelope, Record};
use crate::transaction::{Txn, now};
use crate::transport::{self, Transport};
use crate::{error_log, selection};

/// METADATA entries of a user are read again after this time.
const METADATA_LIFETIME: Duration = Duration::from_mins(1);

/// How the configuration of this Dovecot spells options.
const SPELLING: Spelling = if version::IS_2_4 {
    Spelling::V2_4
} else {
    Spelling::V2_3
};

/// A driver instance of a user for whom it is on.
pub(crate) struct Instance {
    options: InstanceOptions,
    transport: Rc<Transport>,
    /// Topic, user and host.
    envelope: Rc<Envelope>,
    userdb: Vec<Field>,
    service: Vec<u8>,
    session: Option<Vec<u8>>,
    client_ip: Option<Vec<u8>>,
    handle: UserHandle,
    metadata: RefCell<Vec<Field>>,
    metadata_read: Cell<Option<Instant>>,
    /// Panic at events of these kinds.
    #[cfg(feature = "fault-injection")]
    fault: dovecast_event::EventSet,
}

impl Driver for Instance {
    type Txn = Txn;

    fn init(user: &User<'_>) -> Option<Self> {
        match Self::configure(user) {
            Ok(instance) => instance,
            Err(error) => {
                let name = String::from_utf8_lossy(user.instance_name());
                let label = SPELLING.instance_label(&without_secrets(&name));
                error_log::once(Level::Error, &format!("{label} is off: {error}"));
                None
            }
        }
    }

    fn begin(&self) -> Option<(Wanted, Txn)> {
        let kinds = self
            .options
            .events
            .iter()
            .fold(0, |bits, kind| bits | 1 << kind as u32);
        let wanted = Wanted {
            kinds,
            content: self.options.content,
            full: self.options.full,
        };
        Some((wanted, Txn::new()))
    }

    fn mailbox(&self, txn: &mut Txn, host: &Transaction<'_>, event: &MailboxEvent<'_>) {
        selection::mailbox_events(&self.options, event, |details| {
            self.send(txn, host, event.mailbox(), details);
        });
    }

    fn message(&self, txn: &mut Txn, host: &Transaction<'_>, message: &Message<'_>) {
        selection::message_events(&self.options, message, |details| {
            self.send(txn, host, message.mailbox(), details);
        });
    }

    fn end(&self, txn: Txn) {
        if let Some(record) = txn.finish() {
            self.transport.send(record);
            self.transport.end_transaction();
        }
    }

    fn timer() {
        transport::serve_all();
    }

    fn exit() {
        transport::finish_all();
    }
}

impl Instance {
    /// `Ok(None)`: nothing is wrong, but the driver is not for this user.
    fn configure(user: &User<'_>) -> Result<Option<Self>, Box<dyn std::error::Error>> {
        let options = InstanceOptions::parse(SPELLING, &user.options())?;
        let general = GeneralSettings::parse(SPELLING, &user.settings())?;
        for name in &general.obsolete {
            error_log::once(
                Level::Warning,
                &format!("setting `{name}` has no meaning any more and is ignored"),
            );
        }
        let transport = transport::for_settings(&general.settings)?;
        if !is_on(user, options.feature.as_ref()) {
            return Ok(None);
        }
        let field = |name: &CString| {
            let value = user.field(name)?.to_vec();
            Some(Field {
                name: name.as_bytes().to_vec(),
                value,
            })
        };
        let envelope = Rc::new(Envelope {
            topic: options.topic.clone(),
            key: user.username().to_vec(),
            #[cfg(feature = "kafka")]
            host: host::hostname(),
        });
        Ok(Some(Self {
            userdb: options.userdb.iter().filter_map(field).collect(),
            options,
            transport,
            envelope,
            service: user.service().to_vec(),
            session: user.session_id().map(<[u8]>::to_vec),
            client_ip: user.remote_ip().map(<[u8]>::to_vec),
            handle: user.handle(),
            metadata: RefCell::default(),
            metadata_read: Cell::default(),
            #[cfg(feature = "fault-injection")]
            fault: user
                .field(c"dovecast_fault")
                .map(|kinds| dovecast_event::EventSet::parse(&String::from_utf8_lossy(kinds)))
                .transpose()?
                .unwrap_or_default(),
        }))
    }

    fn send(&self, txn: &mut Txn, host: &Transaction<'_>, mailbox: &[u8], details: Details<'_>) {
        #[cfg(feature = "fault-injection")]
        assert!(
            !self.fault.contains(details.kind()),
            "fault injected into {}",
            details.kind()
        );

        let time = now();
        let event = Event {
            user: &self.envelope.key,
            userdb: &self.userdb,
            mailbox,
            details,
            context: None,
        };
        let before = if self.options.full {
            self.push_full(txn, host, &event, time)
        } else {
            txn.push(&event, time, &self.envelope)
        };
        if let Some(record) = before {
            self.transport.send(record);
        }
    }

    /// Adds what `detail=full` shows of the mailbox and the session.
    fn push_full(
        &self,
        txn: &mut Txn,
        host: &Transaction<'_>,
        event: &Event<'_>,
        time: UnixMillis,
    ) -> Option<Record> {
        let is_gone = matches!(event.details, Details::MailboxDelete);
        let status = txn
            .status
            .get_or_init(|| if is_gone { None } else { host.mailbox_status() })
            .clone();
        self.read_metadata(host);
        let metadata = self.metadata.borrow();
        let context = Context {
            timestamp: time,
            service: &self.service,
            session: self.session.as_deref(),
            client_ip: self.client_ip.as_deref(),
            mailbox_id: status.as_ref().map(|status| status.guid.as_bytes()),
            status: status.as_ref().map(|status| MailboxStatus {
                modseq: status.highest_modseq,
                messages: status.messages,
                unseen: status.unseen,
                recent: status.recent,
                uidnext: status.uidnext,
            }),
            metadata: &metadata,
        };
        txn.push(
            &Event {
                context: Some(&context),
                ..*event
            },
            time,
            &self.envelope,
        )
    }

    fn read_metadata(&self, host: &Transaction<'_>) {
        let is_fresh = self
            .metadata_read
            .get()
            .is_some_and(|read| read.elapsed() < METADATA_LIFETIME);
        if self.options.metadata.is_empty() || is_fresh {
            return;
        }
        let entry = |name: &CString| {
            let mut value = host.metadata(self.handle, name)?;
            // The IMAP user has written it.
            let kept = selection::cut_bytes(self.options.max_field_bytes, &value).len();
            value.truncate(kept);
            Some(Field {
                name: name.as_bytes().to_vec(),
                value,
            })
        };
        let entries = self.options.metadata.iter().filter_map(entry).collect();
        self.metadata.replace(entries);
        self.metadata_read.set(Some(Instant::now()));
    }
}

/// Whether the field named by `feature=` says `on` for this user; without the option it is on for
/// all.
fn is_on(user: &User<'_>, feature: Option<&CString>) -> bool {
    feature.is_none_or(|name| {
        user.field(name)
            .is_some_and(|value| value.eq_ignore_ascii_case(b"on"))
    })
}
