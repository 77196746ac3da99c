//! Whether the log takes records, judged by what it has counted: nothing is written in order to
//! find out.

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    commits: u64,
    errors: u64,
    is_failing: bool,
}

impl Readiness {
    /// Whether commits fail, given the counters of now. Where nothing was counted since, nothing
    /// has changed.
    pub(super) fn is_failing(&mut self, commits: u64, errors: u64) -> bool {
        if commits > self.commits {
            self.is_failing = false;
        } else if errors > self.errors {
            self.is_failing = true;
        }
        (self.commits, self.errors) = (commits, errors);
        self.is_failing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_fails_from_an_error_without_a_commit_until_the_next_commit() {
        let mut readiness = Readiness::default();
        for (commits, errors, expected) in [
            (0, 0, false),
            (5, 1, false),
            (5, 1, false),
            (5, 2, true),
            (5, 2, true),
            (6, 3, false),
        ] {
            assert_eq!(
                readiness.is_failing(commits, errors),
                expected,
                "{commits} {errors}"
            );
        }
    }
}
