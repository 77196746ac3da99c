//! Where in a file an error is, without showing the line: there may be a password in it.

/// `LINE:COLUMN: ...`, with the key where the error is about a value.
pub(super) fn describe(text: &str, error: &toml::de::Error) -> String {
    let message = &*plain(error.message());
    let Some(span) = error.span() else {
        return format!(" {message}");
    };
    let before = &text[..text.floor_char_boundary(span.start)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    match key_before(&before[line_start..]) {
        Some(key) => format!("{line}:{column}: `{key}`: {message}"),
        None => format!("{line}:{column}: {message}"),
    }
}

/// The key of `key = ` at the start of a line.
fn key_before(line: &str) -> Option<&str> {
    let key = line.split_once('=')?.0.trim();
    (!key.is_empty() && !key.contains(['"', '\'', '#'])).then_some(key)
}

/// A message in words of the file: it has tables and lists, and no structures of a program.
fn plain(message: &str) -> String {
    let message = message
        .replace("expected a sequence", "expected a list")
        .replace("unknown variant", "unknown value");
    match message.split_once("expected struct ") {
        None => message,
        Some((before, rest)) => {
            let behind = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let rest = behind.map_or("", |behind| &rest[behind..]);
            format!("{before}expected a table{rest}")
        }
    }
}
