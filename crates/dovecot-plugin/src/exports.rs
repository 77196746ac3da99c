//! The symbols Dovecot's module loader looks up: `NAME_version`, `NAME_dependencies`, `NAME_init`,
//! `NAME_deinit`, where NAME is the file name without `lib`, digits and `.so`.

#![allow(unreachable_pub, reason = "reached by the module loader, by name")]

use std::ffi::{c_char, c_void};
use std::ptr;

use dovecast_dovecot_sys as dovecot;

use crate::instance::Instance;

/// A C string constant, exported.
#[repr(transparent)]
pub struct Constant(*const c_char);

// SAFETY: points to a string literal, which nobody writes to.
unsafe impl Sync for Constant {}

/// The ABI this plugin was built for; Dovecot refuses to load it into another.
// SAFETY: the name is the plugin's own.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the module loader's spelling")]
pub static push_notification_kafka_plugin_version: Constant =
    Constant(concat!(env!("DOVECOT_ABI_VERSION"), "\0").as_ptr().cast());

/// Plugins that have to be loaded before this one.
// SAFETY: the name is the plugin's own.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "the module loader's spelling")]
pub static push_notification_kafka_plugin_dependencies: [Constant; 2] = [
    Constant(c"push_notification".as_ptr()),
    Constant(ptr::null()),
];

/// Called once when the plugin is loaded.
// SAFETY: the name is the plugin's own.
#[unsafe(no_mangle)]
pub extern "C" fn push_notification_kafka_plugin_init(_module: *mut c_void) {
    dovecot::register::<Instance>();
}

/// Called once at process exit, after all users are gone.
// SAFETY: the name is the plugin's own.
#[unsafe(no_mangle)]
pub extern "C" fn push_notification_kafka_plugin_deinit() {
    dovecot::unregister();
}
