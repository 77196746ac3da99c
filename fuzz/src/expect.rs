//! What is expected of every reader.

use std::error::Error;

use dovecast_server::parsers::Refused;

/// The longest error, with all of its causes. It stands in logs, in dead letters and in answers.
const MAX_ERROR_BYTES: usize = 600;

/// Things that are wrong at once.
const MAX_COMPLAINTS: usize = 100;

/// An error is there to be read: it says something, and not all of the input again.
pub(crate) fn readable_error(error: &(dyn Error + 'static)) {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    readable_text(&text);
}

/// Fails unless the words of an error can be read.
pub(crate) fn readable_text(text: &str) {
    assert!(!text.is_empty(), "an error without words");
    assert!(
        text.len() <= MAX_ERROR_BYTES,
        "an error of {} bytes: {text:.200}...",
        text.len()
    );
}

/// What a client is told: with one of these statuses, at least one thing and not all of them, and
/// where if it is known.
pub(crate) fn complaints(refused: &Refused, statuses: &[u16]) {
    assert!(statuses.contains(&refused.status), "{refused:?}");
    assert!((1..=MAX_COMPLAINTS).contains(&refused.complaints.len()));
    for complaint in &refused.complaints {
        readable_text(&complaint.detail);
        match &complaint.place {
            Some(place) => readable_text(place),
            None => assert_eq!(refused.status, 400, "{complaint:?} says no place"),
        }
    }
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
