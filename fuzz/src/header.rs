//! Headers of mail, as the plugin and the source `ox` read them.

use dovecast_mail_header::{decode_text, first_mailbox};

use crate::expect::within;
use crate::{Outcome, Target};

/// See the module.
pub const TARGET: Target = Target {
    name: "header",
    run,
};

fn run(bytes: &[u8]) -> Outcome {
    let max_bytes = bytes.len() * 256 + 8192;
    let text = within(max_bytes, || decode_text(bytes));
    assert!(!text.contains('\0'));
    // Folded lines say what one line says.
    let line: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    assert_eq!(decode_text(&line), text);
    let mailbox = within(max_bytes, || first_mailbox(bytes));
    assert_eq!(first_mailbox(&line), mailbox);
    if let Some(name) = &mailbox.display_name {
        assert!(!name.trim().is_empty() && !name.contains('\0'), "{name:?}");
    }
    let Some(address) = mailbox.address else {
        return Outcome::Refused;
    };
    let (local, domain) = address.rsplit_once('@').expect("an address has a domain");
    assert!(!local.is_empty() && !domain.is_empty(), "{address:?}");
    let is_bad = |c: char| c.is_control() || c.is_whitespace();
    assert!(!domain.contains(is_bad), "{address:?}");
    // An address says itself, in angle brackets and without.
    let bracketed = format!("Somebody <{address}>");
    for again in [address.as_str(), bracketed.as_str()] {
        let again = first_mailbox(again.as_bytes());
        assert_eq!(again.address.as_deref(), Some(address.as_str()));
    }
    Outcome::Read
}
