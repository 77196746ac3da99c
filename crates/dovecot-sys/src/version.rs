//! The version of Dovecot this was built for, and how its configuration spells things.

/// ABI version as the module loader compares it.
pub const ABI: &str = env!("DOVECOT_ABI_VERSION");

/// Whether this was built for Dovecot 2.4.
pub const IS_2_4: bool = cfg!(dovecot_2_4);

/// An option and its default.
pub struct OptionDefault {
    /// Name, as [`User::options`](crate::User::options) and
    /// [`User::settings`](crate::User::settings) give it.
    pub name: &'static str,
    /// Value where the configuration gives none.
    pub value: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/options.rs"));

/// How a driver instance is called in messages.
pub fn instance_label(name: &str) -> String {
    if IS_2_4 {
        format!("push_notification {name} {{ driver = kafka }}")
    } else {
        format!("driver kafka:{name}")
    }
}

/// How the configuration spells an option of an instance.
pub fn option_name(name: &str) -> String {
    if IS_2_4 {
        format!("kafka_{name}")
    } else {
        name.to_owned()
    }
}

/// How the configuration spells a general setting, given as
/// [`User::settings`](crate::User::settings) names it.
pub fn setting_name(name: &str) -> String {
    if !IS_2_4 {
        return format!("kafka.notification.{name}");
    }
    match name.strip_prefix("settings.") {
        Some(property) => format!("kafka_settings/{property}"),
        None if name.starts_with("kafka_") => name.to_owned(),
        None => format!("kafka_{name}"),
    }
}
