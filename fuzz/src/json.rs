//! JSON as a second reader sees it.

use serde_json::Value;
use serde_json::value::RawValue;

/// What a reader that asks for nothing takes: JSON in UTF-8, however deep and with numbers of any
/// size.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<&RawValue>(text).is_ok())
}

/// The fields of an object; `None` where it is too deep, or has numbers that are too large, for
/// values to be made of it.
pub(crate) fn value(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}
