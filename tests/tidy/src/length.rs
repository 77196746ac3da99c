//! Sizes: module docs at the top of each file, the width of comments, the length of files.

use crate::Finding;
use crate::source::Source;

/// Columns of a comment: what fits beside a diff, and what rustfmt gives code.
pub const COMMENT_COLUMNS: usize = 100;
/// Lines of a file that no file may exceed, listed or not.
pub const MOST_FILE_LINES: usize = 700;
/// Lines of a file that are wanted at most: what is read in one go. Longer ones are listed with
/// their lines.
pub const WANTED_FILE_LINES: usize = 400;

/// Files that do not begin with `//!`.
#[must_use]
pub fn missing_module_docs(source: &Source) -> Vec<Finding> {
    let begins = source.text.starts_with("//! ");
    let what = "begin with `//!`: what the file is for, what it leaves out".to_owned();
    (!begins)
        .then(|| Finding {
            place: source.path.clone(),
            line: 1,
            what,
        })
        .into_iter()
        .collect()
}

/// Comments that are wider than [`COMMENT_COLUMNS`]. A comment that is one word (a URL) cannot be
/// wrapped.
#[must_use]
pub fn wide_comments(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let comment = line.trim_start();
        let columns = line.chars().count();
        let can_wrap = comment.split_whitespace().nth(2).is_some();
        if comment.starts_with("//") && columns > COMMENT_COLUMNS && can_wrap {
            findings.push(Finding {
                place: source.path.clone(),
                line: number,
                what: format!("wrap the comment: {columns} columns, {COMMENT_COLUMNS} at most"),
            });
        }
    }
    findings
}

/// Lines of a file beyond [`WANTED_FILE_LINES`], one finding each, so that a list of counts may
/// only shrink.
#[must_use]
pub fn long_files(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let what = format!("divide the file: {lines} lines, {WANTED_FILE_LINES} wanted at most");
    let finding = |line| Finding {
        place: source.path.clone(),
        line,
        what: what.clone(),
    };
    (WANTED_FILE_LINES + 1..=lines).map(finding).collect()
}

/// Files beyond [`MOST_FILE_LINES`].
#[must_use]
pub fn too_long_files(source: &Source) -> Vec<Finding> {
    let lines = source.text.lines().count();
    let finding = Finding {
        place: source.path.clone(),
        line: lines,
        what: format!("divide the file: {lines} lines, {MOST_FILE_LINES} at most"),
    };
    (lines > MOST_FILE_LINES)
        .then_some(finding)
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: &[Finding]) -> Vec<usize> {
        findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_file_without_module_docs_is_found() {
        for (text, found) in [("//! A.\n", 0), ("use a;\n", 1), ("// A.\n", 1), ("", 1)] {
            let findings = missing_module_docs(&Source::new("a.rs", text));
            assert_eq!(findings.len(), found, "{text:?}");
        }
    }

    #[test]
    fn a_wide_comment_is_found_and_a_wide_string_is_not() {
        let wide = "a ".repeat(60);
        let text = format!(
            "// {wide}\n// a\n    /// {wide}\nlet a = \"{wide}\";\n// https://{}\n",
            "a".repeat(120)
        );
        assert_eq!(lines(&wide_comments(&Source::new("a.rs", &text))), [1, 3]);
        // Columns, not bytes.
        let text = format!("// ä {}\n", "ä".repeat(90));
        assert_eq!(wide_comments(&Source::new("a.rs", &text)), []);
    }

    #[test]
    fn each_line_too_many_counts() {
        let file = |lines: usize| Source::new("a.rs", &"\n".repeat(lines));
        for (length, over, refused) in [(400, 0, 0), (402, 2, 0), (701, 301, 1)] {
            assert_eq!(long_files(&file(length)).len(), over);
            assert_eq!(too_long_files(&file(length)).len(), refused);
        }
    }
}
