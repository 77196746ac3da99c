//! All options with their defaults, made of `options.def`.

/// An option and its default.
#[derive(Clone, Copy, Debug)]
pub struct OptionDefault {
    /// Name, as Dovecot's shim gives it to the plugin.
    pub name: &'static str,
    /// Value where the configuration gives none.
    pub value: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/options.rs"));
