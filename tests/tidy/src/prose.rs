//! First lines of docs: they name their subject, so that each can be read without the line before
//! it.

use crate::Finding;
use crate::source::Source;

/// Beginnings that leave out what is spoken of.
const WITHOUT_SUBJECT: [&str; 9] = [
    "It", "Its", "They", "This", "The same", "So many", "Of", "One that", "Those",
];

/// Ends of lines that declare a field which holds a bool.
const BOOLEANS: [&str; 3] = [": bool,", ": AtomicBool,", ": Arc<AtomicBool>,"];

/// Docs whose first line begins with one of those, and docs of a bool that do not begin with
/// "Whether".
#[must_use]
pub fn first_lines(source: &Source) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().map(str::trim_start).collect();
    let mut findings = Vec::new();
    let mut is_inside = false;
    for (index, line) in lines.iter().enumerate() {
        let doc = line.strip_prefix("///").or(line.strip_prefix("//!"));
        if let Some(doc) = doc
            && !is_inside
            && let Some(what) = complain(doc.trim(), &lines[index..])
        {
            findings.push(Finding {
                place: source.path.clone(),
                line: index + 1,
                what,
            });
        }
        is_inside = doc.is_some();
    }
    findings
}

fn complain(doc: &str, lines: &[&str]) -> Option<String> {
    let begins = |words: &str| {
        let rest = doc.strip_prefix(words);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric()))
    };
    if let Some(words) = WITHOUT_SUBJECT.iter().find(|words| begins(words)) {
        return Some(format!("name what is spoken of instead of `{words}`"));
    }
    let documented = lines.iter().find(|line| {
        let is_beside = line.starts_with("//") || line.starts_with("#[");
        !is_beside
    })?;
    let name = BOOLEANS.iter().find_map(|of| documented.strip_suffix(*of));
    let name = name
        .unwrap_or_default()
        .trim_start_matches("pub(crate) ")
        .trim_start_matches("pub ");
    let is_bool_field = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (is_bool_field && !begins("Whether")).then(|| "begin the docs of a bool with `Whether`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_without_a_subject_is_found() {
        for (text, found) in [
            ("/// It waits.\nfn a() {}", true),
            ("//! They wait.\n", true),
            ("    /// The same, later.\n    b: u8,", true),
            ("/// Of a lane.\nconst A: u8 = 1;", true),
            ("/// Items of a lane.\nconst A: u8 = 1;", false),
            ("/// Item of a lane.\n/// It waits.\nstruct A;", false),
            ("/// Offset of a record.\nstruct A;", false),
            ("// It is no doc.\nfn a() {}", false),
            ("/// Is over.\npub(crate) is_over: bool,", true),
            ("/// Is over.\n#[serde(default)]\nis_over: bool,", true),
            ("/// Whether it is over.\nis_over: bool,", false),
            ("/// Is over.\npub(crate) is_over: AtomicBool,", true),
            ("/// Is over.\nis_over: Arc<AtomicBool>,", true),
            ("/// Whether it is over.\nis_over: AtomicBool,", false),
            ("/// Ends.\nfn end(is_over: bool,", false),
        ] {
            let findings = first_lines(&Source::new("a.rs", text));
            assert_eq!(!findings.is_empty(), found, "{text:?}: {findings:?}");
        }
    }
}
