//! Whether a text of a body has a NUL, apart from what stands under `message`, which is any JSON:
//! halves of surrogate pairs, numbers of any size, and any depth.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The key of what may be any JSON.
const MESSAGE: &str = "message";

/// Whether a text of a body has a NUL, outside of `message`.
pub(super) struct HasNul(pub(super) bool);

/// Name of a field, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for HasNul {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Looking)
    }
}

struct Looking;

impl<'de> Visitor<'de> for Looking {
    type Value = HasNul;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<HasNul, E> {
        Ok(HasNul(false))
    }

    fn visit_bool<E>(self, _: bool) -> Result<HasNul, E> {
        Ok(HasNul(false))
    }

    fn visit_i64<E>(self, _: i64) -> Result<HasNul, E> {
        Ok(HasNul(false))
    }

    fn visit_u64<E>(self, _: u64) -> Result<HasNul, E> {
        Ok(HasNul(false))
    }

    fn visit_f64<E>(self, _: f64) -> Result<HasNul, E> {
        Ok(HasNul(false))
    }

    fn visit_str<E>(self, text: &str) -> Result<HasNul, E> {
        Ok(HasNul(text.contains('\0')))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<HasNul, A::Error> {
        let mut found = false;
        while let Some(HasNul(has_nul)) = seq.next_element()? {
            found |= has_nul;
        }
        Ok(HasNul(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HasNul, A::Error> {
        let mut found = false;
        while let Some(Name(name)) = map.next_key()? {
            found |= name.contains('\0');
            if name == MESSAGE {
                map.next_value::<IgnoredAny>()?;
            } else {
                found |= map.next_value::<HasNul>()?.0;
            }
        }
        Ok(HasNul(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_found_wherever_it_is_but_in_a_message() {
        let deep = format!(r#"{{"message":{}{}}}"#, "[".repeat(500), "]".repeat(500));
        for (json, expected) in [
            (r#""\u0000""#, true),
            (r#"{"a":[1,{"b":"x\u0000"}]}"#, true),
            (r#"{"\u0000":1}"#, true),
            (
                r#"{"message":{"\u0000":["\u0000"]},"a":[null,true,-1,1,1.5,"x"]}"#,
                false,
            ),
            (r#"{"message":"\ud83d","a":{"message":1e400}}"#, false),
            (r#"{"message":1,"a":"\u0000"}"#, true),
            (&deep, false),
        ] {
            let HasNul(found) = serde_json::from_str(json).expect(json);
            assert_eq!(found, expected, "{json}");
        }
        for json in ["{", r#"{"message":nil}"#, r#"{"a":"\ud83d"}"#] {
            assert!(serde_json::from_str::<HasNul>(json).is_err(), "{json}");
        }
    }
}
