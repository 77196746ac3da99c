//! `user:var_expand()`: variables of Dovecot in a text, as far as they are known here.
//!
//! `%u`, `%{user}`, modifiers before the letter (`%Lu`), and 2.4's filters behind a bar
//! (`%{user | username | upper}`).

use super::user::User;

/// Variables of one letter, with their long names.
const LETTERS: [(char, &str); 9] = [
    ('u', "user"),
    ('n', "username"),
    ('d', "domain"),
    ('s', "service"),
    ('h', "home"),
    ('r', "rip"),
    ('i', "uid"),
    ('g', "gid"),
    ('%', "%"),
];

/// The text with its variables replaced, or why that cannot be done.
pub(super) fn expand(format: &str, user: &User) -> Result<String, String> {
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let letters = rest.find(|c| !matches!(c, 'L' | 'U'));
        let letters = letters.unwrap_or(rest.len());
        let (modifiers, behind) = rest.split_at(letters);
        let mut characters = behind.chars();
        let value = match characters.next() {
            None => return Err("the text ends with `%`".to_owned()),
            Some('{') => {
                let inside = characters.as_str();
                let end = inside.find('}').ok_or("`%{` has no `}`")?;
                rest = &inside[end + 1..];
                long(&inside[..end], user)?
            }
            Some(letter) => {
                rest = characters.as_str();
                let found = LETTERS.iter().find(|(of, _)| *of == letter);
                match found {
                    Some((_, name)) => variable(name, user),
                    None => unsupported(&letter.to_string()),
                }
            }
        };
        out.push_str(&modified(value, modifiers));
    }
    out.push_str(rest);
    Ok(out)
}

fn modified(mut value: String, modifiers: &str) -> String {
    for modifier in modifiers.chars() {
        value = match modifier {
            'L' => value.to_lowercase(),
            _ => value.to_uppercase(),
        };
    }
    value
}

/// What stands between braces.
fn long(text: &str, user: &User) -> Result<String, String> {
    let mut parts = text.split('|').map(str::trim);
    let mut value = variable(parts.next().unwrap_or_default(), user);
    for filter in parts {
        value = match filter {
            "lower" => value.to_lowercase(),
            "upper" => value.to_uppercase(),
            "username" => local_part(&value).to_owned(),
            "domain" => domain(&value).to_owned(),
            _ => return Err(format!("No such function '{filter}'")),
        };
    }
    Ok(value)
}

/// What Dovecot 2.3 has instead of a variable that it does not know.
fn unsupported(name: &str) -> String {
    format!("UNSUPPORTED_VARIABLE_{name}")
}

fn variable(name: &str, user: &User) -> String {
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    match name {
        "%" => "%".to_owned(),
        "user" => user.name.clone(),
        "username" => local_part(&user.name).to_owned(),
        "domain" => domain(&user.name).to_owned(),
        "service" | "protocol" => optional(&user.service),
        "session" => optional(&user.session),
        "rip" | "remote_ip" => optional(&user.client_ip),
        "home" | "uid" | "gid" => user.field(name).unwrap_or_default().to_owned(),
        _ => {
            let field = name
                .strip_prefix("userdb:")
                .and_then(|name| user.field(name));
            field.map_or_else(|| unsupported(name), str::to_owned)
        }
    }
}

fn local_part(user: &str) -> &str {
    user.split_once('@').map_or(user, |(local, _)| local)
}

fn domain(user: &str) -> &str {
    user.split_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn variables_are_replaced_in_both_spellings_and_unknown_ones_are_named() {
        let plugin = BTreeMap::from([("home".to_owned(), "/home/a".to_owned())]);
        let user = User::new("Ann@Example.org", None, &plugin);
        for (format, expected) in [
            ("%u %n %d", Ok("Ann@Example.org Ann Example.org")),
            ("%Lu%%%Un", Ok("ann@example.org%ANN")),
            (
                "%{user | domain | lower}:%{home}",
                Ok("example.org:/home/a"),
            ),
            ("nothing", Ok("nothing")),
            ("%z", Ok("UNSUPPORTED_VARIABLE_z")),
            ("%{nonsense}", Ok("UNSUPPORTED_VARIABLE_nonsense")),
            ("%{user", Err("`%{` has no `}`")),
            ("%{user | rot13}", Err("No such function 'rot13'")),
            ("100%", Err("the text ends with `%`")),
        ] {
            let expanded = expand(format, &user);
            let expanded = expanded.as_deref().map_err(String::as_str);
            assert_eq!(expanded, expected, "{format}");
        }
    }
}
