//! How the configuration of a version of Dovecot spells options.

use crate::list::{GENERAL_SETTINGS, INSTANCE_OPTIONS};

/// The version of Dovecot whose configuration is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// Options behind `kafka:`, settings `kafka.notification.NAME`.
    V2_3,
    /// Blocks `push_notification NAME { driver = kafka }`, settings `kafka_NAME`.
    V2_4,
}

impl Spelling {
    /// How a driver instance is called in messages.
    pub fn instance_label(self, name: &str) -> String {
        match self {
            Self::V2_3 => format!("driver kafka:{name}"),
            Self::V2_4 => format!("push_notification {name} {{ driver = kafka }}"),
        }
    }

    /// How the configuration spells an option of an instance.
    pub fn option_name(self, name: &str) -> String {
        match self {
            Self::V2_3 => name.to_owned(),
            Self::V2_4 => format!("kafka_{name}"),
        }
    }

    /// How the configuration spells a general setting.
    pub fn setting_name(self, name: &str) -> String {
        if self == Self::V2_3 {
            return format!("kafka.notification.{name}");
        }
        match name.strip_prefix("settings.") {
            Some(property) => format!("kafka_settings/{property}"),
            None if name.starts_with("kafka_") => name.to_owned(),
            None => format!("kafka_{name}"),
        }
    }

    /// All options of an instance, as the configuration spells them.
    pub fn known_options(self) -> String {
        let names = INSTANCE_OPTIONS.iter();
        let names: Vec<String> = names.map(|option| self.option_name(option.name)).collect();
        names.join(", ")
    }

    /// All general settings, as the configuration spells them.
    pub fn known_settings(self) -> String {
        let names = GENERAL_SETTINGS.iter().map(|setting| setting.name);
        let names = names.chain(["settings.*"]);
        let names: Vec<String> = names.map(|name| self.setting_name(name)).collect();
        names.join(", ")
    }
}
