//! What is expected of every reader.

use std::error::Error;

/// The longest error, with all of its causes. It stands in logs, in dead letters and in answers.
const MAX_ERROR_BYTES: usize = 600;

/// An error is there to be read: it says something, and not all of the input again.
pub(crate) fn readable_error(error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    assert!(!text.is_empty(), "an error without words");
    assert!(
        text.len() <= MAX_ERROR_BYTES,
        "an error of {} bytes: {text:.200}...",
        text.len()
    );
}

/// Does `work`, which may have so many bytes allocated at a time.
pub(crate) fn within<T>(max_bytes: usize, work: impl FnOnce() -> T) -> T {
    let mut done = None;
    let used = allocation_counter::measure(|| done = Some(work())).bytes_max;
    assert!(
        used <= max_bytes as u64,
        "{used} bytes were allocated at a time, more than {max_bytes}"
    );
    done.expect("the work is done")
}
