//! Medians and how far they can be trusted.

use std::fmt;

/// A median and the interval that holds the true one with 95 % probability, from the order of the
/// values alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Median {
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Median {
    /// Median of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "no median of nothing");
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let middle = f64::midpoint(values[(count - 1) / 2], values[count / 2]);
        let (low, high) = interval(count);
        Self {
            value: middle,
            low: values[low],
            high: values[high],
        }
    }
}

/// Places, among `count` sorted values, of the ends of the interval: the number of values below the
/// true median is binomial, here taken as normal.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of rounds"
)]
fn interval(count: usize) -> (usize, usize) {
    let half = 0.98 * (count as f64).sqrt();
    let low = (count as f64 / 2.0 - half).floor().max(0.0) as usize;
    (low, count - 1 - low.min(count - 1))
}

impl fmt::Display for Median {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = out.precision().unwrap_or(2);
        write!(
            out,
            "{:.digits$} ({:.digits$}-{:.digits$})",
            self.value, self.low, self.high
        )
    }
}

/// Prints the head of a table.
pub(crate) fn print_head(title: &str, columns: &[&str]) {
    println!("\n### {title}\n\n| {} |", columns.join(" | "));
    let rules: Vec<&str> = (0..columns.len())
        .map(|i| if i == 0 { "---" } else { "---:" })
        .collect();
    println!("| {} |", rules.join(" | "));
}

/// Prints one line of a table.
pub(crate) fn print_row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_within_its_interval() {
        assert_eq!(Median::of([3.0, 1.0, 2.0]).to_string(), "2.00 (1.00-3.00)");
        let hundred = Median::of((0..100).map(f64::from));
        assert_eq!(format!("{hundred:.1}"), "49.5 (40.0-59.0)");
        assert_eq!(Median::of([7.0]).to_string(), "7.00 (7.00-7.00)");
    }
}
