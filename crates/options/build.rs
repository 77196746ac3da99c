//! Takes the list of options that the shim and the settings module are made of over into Rust.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Read by the C preprocessor, too.
const LIST: &str = "../dovecot-sys/shim/options.def";

fn main() {
    println!("cargo:rerun-if-changed={LIST}");
    let (mut instance, mut general) = (String::new(), String::new());
    let list =
        fs::read_to_string(LIST).unwrap_or_else(|error| panic!("cannot read {LIST}: {error}"));
    for line in list.lines() {
        let Some((kind, rest)) = line.split_once('(') else {
            continue;
        };
        let (list, prefix) = match kind {
            "INSTANCE" | "LIST" => (&mut instance, ""),
            "GENERAL" => (&mut general, "kafka_"),
            "OURS" => (&mut general, ""),
            _ => continue,
        };
        let pair = rest
            .strip_suffix(')')
            .and_then(|rest| rest.split_once(", "));
        let (name, value) =
            pair.unwrap_or_else(|| panic!("options.def: `{line}` is not KIND(name, \"default\")"));
        write!(
            list,
            "OptionDefault {{ name: \"{prefix}{name}\", value: {value} }}, "
        )
        .expect("memory suffices");
    }
    assert!(
        !instance.is_empty() && !general.is_empty(),
        "options.def has no options"
    );
    let text = format!(
        "/// Every option of an instance.\n\
         pub const INSTANCE_OPTIONS: &[OptionDefault] = &[{instance}];\n\
         /// Every general setting.\n\
         pub const GENERAL_SETTINGS: &[OptionDefault] = &[{general}];\n"
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(Path::new(&out).join("options.rs"), text).expect("OUT_DIR can be written");
}
