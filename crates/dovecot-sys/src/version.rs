//! The version of Dovecot this was built for.

/// ABI version as the module loader compares it.
pub const ABI: &str = env!("DOVECOT_ABI_VERSION");

/// Whether this was built for Dovecot 2.4.
pub const IS_2_4: bool = cfg!(dovecot_2_4);
