//! Names that are nearly one that is known: where unknown names are dropped, one of these was meant
//! to be the other, and is refused.

/// Most letters that are wrong, missing or too many in a misspelled name: two are a slip, or two
/// letters that have changed places; more may be another word.
const MAX_SLIPS: usize = 2;

/// The known name that was meant, if any was.
pub(crate) fn meant<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // What is longer is no misspelling of any, however long it is.
    let longest = known.iter().map(|known| known.len()).max().unwrap_or(0);
    if name.len() > 2 * longest {
        return None;
    }
    let name = plain(name);
    let is_near = |known: &&&str| strsim::levenshtein(&name, &plain(known)) <= MAX_SLIPS;
    known.iter().find(is_near).copied()
}

/// Letters and digits of a name, in lower case: how words are joined is no matter.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(|letter| !"_-. ".contains(*letter));
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_known_for_what_was_meant_and_another_word_is_not() {
        let known = ["authorization", "headers", "server_ca_certificate"];
        for (name, expected) in [
            ("authorisation", Some("authorization")),
            ("Authorization", Some("authorization")),
            ("autohrization", Some("authorization")),
            ("header", Some("headers")),
            ("serverCaCertificate", Some("server_ca_certificate")),
            ("SERVER-CA-CERTIFICATE", Some("server_ca_certificate")),
            ("server_ca_certificates", Some("server_ca_certificate")),
            ("anything", None),
            ("handlers", None),
            ("certificate", None),
            ("", None),
        ] {
            assert_eq!(meant(name, &known), expected, "{name}");
        }
        assert_eq!(meant(&"headers".repeat(100_000), &known), None);
        assert_eq!(meant("a", &[]), None);
    }
}
