//! Patterns with `*` (any run of characters) and `?` (one character), over a whole text, whatever
//! the case of its letters.

/// Whether the text is one that the pattern describes. Takes time in proportion to the product of
/// the lengths, which callers bound.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().flat_map(char::to_lowercase).collect();
    let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
    let (mut at, mut from) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(one) if *one == '?' || *one == text[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((place, taken)) = star else {
                    return false;
                };
                star = Some((place, taken + 1));
                at = place + 1;
                from = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_and_a_question_mark_is_one_character() {
        for (pattern, text, expected) in [
            ("USM-EAS*", "usm-eas-7", true),
            ("USM-EAS*", "USM-EAS", true),
            ("USM-EAS*", "x-USM-EAS", false),
            (
                "open-xchange-mobile-api-facade*",
                "open-xchange-mobile-api-facade-1",
                true,
            ),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("phone?", "phone", false),
            ("*@example.org", "Bob@Example.ORG", true),
            ("*@example.org", "bob@example.org.evil", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "ab-b-a", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("?", "ä", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
