//! Whether the text of a condition is one.

/// The longest condition.
const MAX_BYTES: usize = 4096;

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConditionError {
    /// What is wrong.
    pub(crate) message: String,
    /// Where, in characters from 1.
    pub(crate) column: usize,
}

/// Checks a condition before it is stored.
pub(crate) fn check_condition(text: &str) -> Result<(), ConditionError> {
    let failed = |message: &str, column| ConditionError {
        message: message.to_owned(),
        column,
    };
    if text.trim().is_empty() {
        return Err(failed("there is nothing in it", 1));
    }
    if text.len() > MAX_BYTES {
        let message = format!("it is longer than {MAX_BYTES} bytes");
        let fits = &text[..text.floor_char_boundary(MAX_BYTES)];
        return Err(failed(&message, fits.chars().count() + 1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_has_text_and_an_end() {
        assert_eq!(check_condition("message.mailbox == \"INBOX\""), Ok(()));
        for (text, column) in [("", 1), (" \n", 1), (&*"ä".repeat(2049), 2049)] {
            let error = check_condition(text).expect_err(text);
            assert_eq!(error.column, column, "{}", error.message);
        }
    }
}
