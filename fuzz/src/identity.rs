//! The header that says which user a request comes from: JSON in base64.
//!
//! An input is tried as it is, and as the JSON in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dovecast_server::parsers::identity;
use serde_json::json;

use crate::expect::within;
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "identity",
    run,
};

/// Longest text that the store looks up, in characters.
const MAX_CHARS: usize = 255;

fn run(bytes: &[u8]) -> Outcome {
    let as_it_is = read(bytes);
    let in_base64 = read(STANDARD.encode(bytes).as_bytes());
    if as_it_is || in_base64 {
        Outcome::Read
    } else {
        Outcome::Refused
    }
}

fn read(header: &[u8]) -> bool {
    let Some((number, profile)) = within(header.len() * 64 + 8192, || identity(header)) else {
        return false;
    };
    for text in [&number, &profile.username] {
        assert!(!text.trim().is_empty() && text.chars().count() <= MAX_CHARS);
    }
    let texts = [
        Some(&number),
        Some(&profile.username),
        profile.email.as_ref(),
        profile.first_name.as_ref(),
        profile.last_name.as_ref(),
        profile.locale.as_ref(),
        profile.org_id.as_ref(),
    ];
    let has_nul = |text: &&String| text.contains('\0');
    assert!(!texts.iter().flatten().any(has_nul));
    let again = json!({"identity": {
        "account_number": number,
        "user": {
            "username": profile.username,
            "email": profile.email,
            "first_name": profile.first_name,
            "last_name": profile.last_name,
            "locale": profile.locale,
            "is_active": profile.is_active,
            "is_org_admin": profile.is_org_admin,
            "is_internal": profile.is_internal,
        },
        "internal": {"org_id": profile.org_id},
    }});
    let packed = STANDARD.encode(again.to_string());
    let again = identity(packed.as_bytes());
    // A backslash before `u0000` looks like a NUL; such a name is refused rather than looked into.
    let is_odd = texts.iter().flatten().any(|text| text.contains("\\u0000"));
    assert!(is_odd || again == Some((number, profile)));
    true
}
