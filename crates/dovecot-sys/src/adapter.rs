//! The trait [`Driver`] and the one place where C calls it.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr;

use crate::boundary::{self, guard, guard_exit};
use crate::event::{MailboxEvent, MailboxStatus, Message, bytes};
use crate::{host, raw};

/// A push-notification driver: the behaviour, without C.
///
/// Dovecot calls everything from one thread and never from within another call. Several
/// transactions of one instance may be open at a time.
pub trait Driver: Sized + 'static {
    /// State of one mailbox transaction.
    type Txn: 'static;

    /// A driver instance of a user, to be configured by what `user` tells. `None`: it stays silent.
    fn init(user: &User<'_>) -> Option<Self>;
    /// A transaction begins. `None`: this instance has no interest in it.
    fn begin(&self) -> Option<(Wanted, Self::Txn)>;
    /// Something happened to a mailbox.
    fn mailbox(&self, txn: &mut Self::Txn, host: &Transaction<'_>, event: &MailboxEvent<'_>);
    /// Something happened to a message.
    fn message(&self, txn: &mut Self::Txn, host: &Transaction<'_>, message: &Message<'_>);
    /// The transaction has ended, or was rolled back: then nothing was reported in it.
    fn end(&self, txn: Self::Txn);
    /// The timer of [`host::set_timer`] has run off.
    fn timer();
    /// The process ends; every instance is gone. The only place that may wait, and the only one
    /// that is called even after a panic elsewhere.
    fn exit();
}

/// What an instance wants to hear of in a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Kinds of event, one bit each, numbered alphabetically.
    pub kinds: u32,
    /// Whether From, To, subject and snippet of new messages are wanted.
    pub content: bool,
    /// Whether the fields that `detail=full` shows are wanted.
    pub full: bool,
}

/// The user of a driver instance, and how the instance is configured, while it is being set up.
pub struct User<'a> {
    raw: &'a raw::User,
}

impl<'a> User<'a> {
    /// How the configuration calls this driver instance: in 2.3 all that stands behind `kafka:`, in
    /// 2.4 the name of the block.
    pub fn instance_name(&self) -> &'a [u8] {
        // SAFETY: `raw` comes from the shim and lives for 'a with all it points to.
        unsafe { bytes(self.raw.instance_name) }.unwrap_or_default()
    }

    /// Login name.
    pub fn username(&self) -> &'a [u8] {
        // SAFETY: as above.
        unsafe { bytes(self.raw.username) }.unwrap_or_default()
    }

    /// Dovecot's service: `imap`, `lmtp`, `lda`, ...
    pub fn service(&self) -> &'a [u8] {
        // SAFETY: as above.
        unsafe { bytes(self.raw.service) }.unwrap_or_default()
    }

    /// Session id, where there is one.
    pub fn session_id(&self) -> Option<&'a [u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.raw.session_id) }
    }

    /// The client's IP address, where there is one.
    pub fn remote_ip(&self) -> Option<&'a [u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.raw.remote_ip) }
    }

    /// A plugin setting or userdb field of this user.
    pub fn field(&self, name: &CStr) -> Option<&'a [u8]> {
        // SAFETY: the handle is the live user of this callback; the value lives as long as the
        // user.
        unsafe { bytes(raw::dovecast_user_field(self.raw.handle, name.as_ptr())) }
    }

    /// The options of this instance: name and value, in no particular order.
    pub fn options(&self) -> Vec<(&'a [u8], &'a [u8])> {
        // SAFETY: `raw` comes from the shim, with `option_count` pairs at `options` that live for
        // 'a.
        unsafe { pairs(self.raw.options, self.raw.option_count) }
    }

    /// The settings for all instances: `kafka_...`, `transport`, `settings.PROPERTY`, and their
    /// values.
    pub fn settings(&self) -> Vec<(&'a [u8], &'a [u8])> {
        // SAFETY: likewise.
        unsafe { pairs(self.raw.settings, self.raw.setting_count) }
    }

    /// The user for as long as the instance lives, to ask for METADATA later.
    pub fn handle(&self) -> UserHandle {
        UserHandle(self.raw.handle)
    }
}

/// A user that outlives the instance configured for it. Opaque; [`Transaction::metadata`] takes it.
#[derive(Clone, Copy)]
pub struct UserHandle(*mut raw::MailUser);

/// The transaction an event belongs to: what Dovecot can tell beyond the event itself.
pub struct Transaction<'a> {
    handle: *mut raw::DriverTxn,
    borrowed: PhantomData<&'a ()>,
}

impl Transaction<'_> {
    /// Status of the transaction's mailbox as it is now. Opens the mailbox a second time: ask once
    /// per transaction.
    pub fn mailbox_status(&self) -> Option<MailboxStatus> {
        let mut status = raw::Status::default();
        // SAFETY: `handle` is the live transaction of this callback, `status` is ours.
        unsafe { raw::dovecast_mailbox_status(self.handle, &raw mut status) }.then(|| status.into())
    }

    /// Value of a server METADATA entry (RFC 5464) of the user. `entry` begins with `/private/` or
    /// `/shared/`.
    pub fn metadata(&self, user: UserHandle, entry: &CStr) -> Option<Vec<u8>> {
        unsafe extern "C" fn found(context: *mut c_void, value: *const c_char) {
            // SAFETY: `context` is the Option below; the string lives during this call and is
            // copied.
            unsafe { *context.cast::<Option<Vec<u8>>>() = bytes(value).map(<[u8]>::to_vec) }
        }
        let mut value: Option<Vec<u8>> = None;
        // SAFETY: a transaction is open, so its user is alive, and an instance belongs to one user.
        // `found` gets our Option and is not kept; it only copies bytes and so does not unwind.
        unsafe {
            raw::dovecast_metadata(user.0, entry.as_ptr(), found, (&raw mut value).cast());
        }
        value
    }
}

/// Registers `D` as the driver `kafka`. To be called from the plugin's init function, once.
pub fn register<D: Driver>() {
    host::set_main_thread();
    boundary::install_hook();
    // SAFETY: the table is a promoted constant and so lives for ever; we are in Dovecot's init
    // callback.
    unsafe { raw::dovecast_register(const { &Callbacks::<D>::TABLE }) }
}

/// Calls [`Driver::exit`] and unregisters the driver. To be called from the plugin's deinit
/// function.
pub fn unregister() {
    // SAFETY: `register` came before: Dovecot calls deinit only for a plugin it has initialised.
    unsafe { raw::dovecast_unregister() }
}

/// The C side of `D`. Every function is behind the panic boundary.
struct Callbacks<D>(PhantomData<D>);

impl<D: Driver> Callbacks<D> {
    const TABLE: raw::Driver = raw::Driver {
        init: Self::init,
        begin: Self::begin,
        mailbox: Self::mailbox,
        message: Self::message,
        end: Self::end,
        deinit: Self::deinit,
        timer: Self::timer,
        exit: Self::exit,
    };

    /// # Safety
    /// As shim.h says of `init`: a live user with all it points to.
    unsafe extern "C" fn init(user: *const raw::User) -> *mut c_void {
        guard(ptr::null_mut(), || {
            // SAFETY: by this function's contract.
            let user = unsafe { &*user };
            D::init(&User { raw: user }).map_or(ptr::null_mut(), |instance| {
                Box::into_raw(Box::new(instance)).cast()
            })
        })
    }

    /// # Safety
    /// `instance` comes from `init` and is not null; `wanted` is the shim's to fill in.
    unsafe extern "C" fn begin(instance: *mut c_void, wanted: *mut raw::Wanted) -> *mut c_void {
        guard(ptr::null_mut(), || {
            // SAFETY: by this function's contract; instances are only ever borrowed shared.
            let instance = unsafe { &*instance.cast::<D>() };
            let Some((want, txn)) = instance.begin() else {
                return ptr::null_mut();
            };
            // SAFETY: by this function's contract.
            unsafe {
                *wanted = raw::Wanted {
                    kinds: want.kinds,
                    content: want.content,
                    full: want.full,
                };
            }
            Box::into_raw(Box::new(txn)).cast()
        })
    }

    /// # Safety
    /// `instance` from `init`, `txn` from `begin`, not ended; `event` as shim.h says.
    unsafe extern "C" fn mailbox(
        instance: *mut c_void,
        txn: *mut c_void,
        handle: *mut raw::DriverTxn,
        event: *const raw::MailboxEvent,
    ) {
        guard((), || {
            // SAFETY: by this function's contract; a transaction is in one callback at a time.
            let (instance, txn) = unsafe { (&*instance.cast::<D>(), &mut *txn.cast::<D::Txn>()) };
            // SAFETY: likewise.
            let event = unsafe { MailboxEvent::new(&*event) };
            instance.mailbox(
                txn,
                &Transaction {
                    handle,
                    borrowed: PhantomData,
                },
                &event,
            );
        });
    }

    /// # Safety
    /// As `mailbox`.
    unsafe extern "C" fn message(
        instance: *mut c_void,
        txn: *mut c_void,
        handle: *mut raw::DriverTxn,
        message: *const raw::Message,
    ) {
        guard((), || {
            // SAFETY: by this function's contract; a transaction is in one callback at a time.
            let (instance, txn) = unsafe { (&*instance.cast::<D>(), &mut *txn.cast::<D::Txn>()) };
            // SAFETY: likewise.
            let message = unsafe { Message::new(&*message) };
            instance.message(
                txn,
                &Transaction {
                    handle,
                    borrowed: PhantomData,
                },
                &message,
            );
        });
    }

    /// # Safety
    /// `instance` from `init`, `txn` from `begin`; `txn` is not used again.
    unsafe extern "C" fn end(instance: *mut c_void, txn: *mut c_void) {
        guard((), || {
            // SAFETY: by this function's contract, the box is ours again.
            let (instance, txn) =
                unsafe { (&*instance.cast::<D>(), *Box::from_raw(txn.cast::<D::Txn>())) };
            instance.end(txn);
        });
    }

    /// # Safety
    /// `instance` comes from `init` and is not used again.
    unsafe extern "C" fn deinit(instance: *mut c_void) {
        guard((), || {
            // SAFETY: by this function's contract, the box is ours again.
            drop(unsafe { Box::from_raw(instance.cast::<D>()) });
        });
    }

    unsafe extern "C" fn timer() {
        guard((), D::timer);
    }

    unsafe extern "C" fn exit() {
        guard_exit(D::exit);
    }
}

/// # Safety
/// `count` pairs of strings stand at `first` and live for `'a`.
unsafe fn pairs<'a>(first: *const raw::Pair, count: usize) -> Vec<(&'a [u8], &'a [u8])> {
    let pair = |i| {
        // SAFETY: by this function's contract.
        unsafe {
            let pair = &*first.add(i);
            (
                bytes(pair.key).unwrap_or_default(),
                bytes(pair.value).unwrap_or_default(),
            )
        }
    };
    (0..count).map(pair).collect()
}
