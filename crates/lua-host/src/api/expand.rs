//! `user:var_expand()` and `dovecot.var_expand()`: variables of Dovecot in a text, as far as they
//! are known here.
//!
//! `%u`, `%{user}`, modifiers before the letter (`%Lu`), and 2.4's filters behind a bar
//! (`%{user | username | upper}`). Without a user there are only 2.4's variables of the process and
//! of the system.

use std::ffi::CStr;

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

/// What a variable is, by its name.
type Lookup<'a> = &'a dyn Fn(&str) -> Result<String, String>;

/// The text with its variables replaced, or why that cannot be done.
pub(super) fn expand(format: &str, user: &User) -> Result<String, String> {
    expand_with(format, &|name| Ok(variable(name, user)))
}

/// A text that belongs to no user.
pub(super) fn expand_without_user(format: &str) -> Result<String, String> {
    expand_with(format, &of_no_user)
}

fn expand_with(format: &str, lookup: Lookup<'_>) -> Result<String, String> {
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
                long(&inside[..end], lookup)?
            }
            Some(letter) => {
                rest = characters.as_str();
                let found = LETTERS.iter().find(|(of, _)| *of == letter);
                match found {
                    Some((_, name)) => lookup(name)?,
                    None => lookup(&letter.to_string())?,
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
fn long(text: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut parts = text.split('|').map(str::trim);
    let mut value = lookup(parts.next().unwrap_or_default())?;
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

/// A variable that has nothing to do with a user.
fn of_no_user(name: &str) -> Result<String, String> {
    // Asked of the kernel: the unit of the package hides /proc/sys (`ProcSubset=pid`).
    let system = rustix::system::uname();
    let text = |of: &CStr| of.to_string_lossy().into_owned();
    match name.split_once(':') {
        // As in Dovecot one that is not set is empty; here that is each, the process has none.
        Some(("env", _)) => Ok(String::new()),
        Some(("process", "pid")) => Ok(std::process::id().to_string()),
        Some(("system", "hostname")) => Ok(text(system.nodename())),
        Some(("system", "os")) => Ok(text(system.sysname())),
        Some(("system", "os-version")) => Ok(text(system.release())),
        Some((_, field)) => Err(format!("Unsupported field '{field}'")),
        None if name == "%" => Ok("%".to_owned()),
        None => Err(format!("Unknown variable '{name}'")),
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
    #[test]
    fn without_a_user_there_are_variables_of_the_process_and_the_system() {
        let pid = std::process::id().to_string();
        assert_eq!(expand_without_user("%{process:pid}"), Ok(pid));
        assert_eq!(
            expand_without_user("100%% %{system:os | lower}%{env:NONE}"),
            Ok("100% linux".to_owned())
        );
        let system = rustix::system::uname();
        for (format, expected) in [
            ("%{system:hostname}", system.nodename()),
            ("%{system:os-version}", system.release()),
        ] {
            let expected = expected.to_string_lossy().into_owned();
            assert_eq!(expand_without_user(format), Ok(expected), "{format}");
        }
        for (format, expected) in [
            ("%{user}", "Unknown variable 'user'"),
            ("%{system:weather}", "Unsupported field 'weather'"),
        ] {
            assert_eq!(expand_without_user(format), Err(expected.to_owned()));
        }
    }
}
