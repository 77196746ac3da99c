//! Why a case has failed, said at once.

/// Prints why a case has failed, where its name is printed; gives it for the list of failures that
/// ends the suite. Of a suite that takes minutes, the end may be all that a report leaves out.
#[must_use]
pub fn failure(error: &anyhow::Error) -> String {
    let text = format!("{error:?}");
    println!("\n{text}");
    text
}
