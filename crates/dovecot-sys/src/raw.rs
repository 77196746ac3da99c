//! The declarations of shim.h, repeated for Rust. Change both together.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// Dovecot's `struct mail_user`; only pointers to it are passed round.
#[repr(C)]
pub(crate) struct MailUser {
    _opaque: [u8; 0],
}

/// Dovecot's `struct push_notification_driver_txn`; likewise.
#[repr(C)]
pub(crate) struct DriverTxn {
    _opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct Pair {
    pub(crate) key: *const c_char,
    pub(crate) value: *const c_char,
}

#[repr(C)]
pub(crate) struct User {
    pub(crate) handle: *mut MailUser,
    pub(crate) username: *const c_char,
    pub(crate) service: *const c_char,
    pub(crate) session_id: *const c_char,
    pub(crate) remote_ip: *const c_char,
    pub(crate) instance_name: *const c_char,
    pub(crate) options: *const Pair,
    pub(crate) settings: *const Pair,
    pub(crate) option_count: usize,
    pub(crate) setting_count: usize,
}

#[repr(C)]
pub(crate) struct Wanted {
    pub(crate) kinds: u32,
    pub(crate) content: bool,
    pub(crate) full: bool,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Strings {
    pub(crate) items: *const *const c_char,
    pub(crate) count: usize,
}

#[repr(C)]
pub(crate) struct Content {
    pub(crate) from: *const c_char,
    pub(crate) to: *const c_char,
    pub(crate) subject: *const c_char,
    pub(crate) snippet: *const c_char,
    pub(crate) message_id: *const c_char,
    pub(crate) date: i64,
    pub(crate) date_tz: i32,
    pub(crate) flags: u32,
    pub(crate) keywords: Strings,
}

#[repr(C)]
pub(crate) struct FlagChange {
    pub(crate) flags: u32,
    pub(crate) keywords: Strings,
}

#[repr(C)]
pub(crate) struct Message {
    pub(crate) mailbox: *const c_char,
    pub(crate) uid: u32,
    pub(crate) uidvalidity: u32,
    pub(crate) kinds: u32,
    pub(crate) content: Content,
    pub(crate) set: FlagChange,
    pub(crate) cleared: FlagChange,
    pub(crate) has_size: bool,
    pub(crate) has_old: bool,
    pub(crate) size: u64,
    pub(crate) old_flags: u32,
    pub(crate) old_keywords: Strings,
}

#[repr(C)]
pub(crate) struct MailboxEvent {
    pub(crate) mailbox: *const c_char,
    pub(crate) kinds: u32,
    pub(crate) uidvalidity: u32,
    pub(crate) old_mailbox: *const c_char,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct Status {
    pub(crate) guid_hex: [[u8; 11]; 3],
    pub(crate) highest_modseq: u64,
    pub(crate) messages: u32,
    pub(crate) unseen: u32,
    pub(crate) recent: u32,
    pub(crate) uidnext: u32,
}

#[repr(C)]
pub(crate) struct Driver {
    pub(crate) init: unsafe extern "C" fn(*const User) -> *mut c_void,
    pub(crate) begin: unsafe extern "C" fn(*mut c_void, *mut Wanted) -> *mut c_void,
    pub(crate) mailbox:
        unsafe extern "C" fn(*mut c_void, *mut c_void, *mut DriverTxn, *const MailboxEvent),
    pub(crate) message:
        unsafe extern "C" fn(*mut c_void, *mut c_void, *mut DriverTxn, *const Message),
    pub(crate) end: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub(crate) deinit: unsafe extern "C" fn(*mut c_void),
    pub(crate) timer: unsafe extern "C" fn(),
    pub(crate) exit: unsafe extern "C" fn(),
}

unsafe extern "C" {
    pub(crate) fn dovecast_register(driver: *const Driver);
    pub(crate) fn dovecast_unregister();
    pub(crate) fn dovecast_hostname() -> *const c_char;
    pub(crate) fn dovecast_log(level: c_int, text: *const c_char);
    pub(crate) fn dovecast_user_field(user: *mut MailUser, name: *const c_char) -> *const c_char;
    pub(crate) fn dovecast_mailbox_status(handle: *mut DriverTxn, status: *mut Status) -> bool;
    pub(crate) fn dovecast_metadata(
        user: *mut MailUser,
        entry: *const c_char,
        found: unsafe extern "C" fn(*mut c_void, *const c_char),
        context: *mut c_void,
    );
    pub(crate) fn dovecast_timer_set(msecs: c_uint);
    pub(crate) fn dovecast_timer_clear();
    pub(crate) fn dovecast_bound_thread_memory();
}
