//! Topics that are made before a record comes for them, and those that are removed.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Embedded;
use super::writer::{Command, Removal, RemoveTopic};
use crate::LogError;

impl Embedded {
    /// Makes topics that are not there yet, however many there are already.
    pub async fn create_topics<'n>(
        &self,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), LogError> {
        let checked = names.into_iter().map(|name| {
            check_topic(name)?;
            Ok(Arc::from(name))
        });
        let names: Vec<Arc<str>> = checked.collect::<Result<_, LogError>>()?;
        let (reply, done) = oneshot::channel();
        let command = Command::CreateTopics { names, reply };
        self.handle.send(command).await?;
        done.await.map_err(|_| LogError::Closed)?
    }

    /// Removes a topic, with all records and all that groups have committed of it; `false`: there
    /// is none of this name. Nothing is removed that is kept for a group.
    pub async fn remove_topic(&self, name: &str) -> Result<bool, LogError> {
        loop {
            let (reply, done) = oneshot::channel();
            let name = name.to_owned();
            let command = Command::RemoveTopic(RemoveTopic { name, reply });
            self.handle.send(command).await?;
            match done.await.map_err(|_| LogError::Closed)?? {
                Removal::Unknown => return Ok(false),
                Removal::Done => return Ok(true),
                Removal::Begun => {}
            }
        }
    }
}

pub(super) fn check_topic(name: &str) -> Result<(), LogError> {
    if is_topic(name) {
        return Ok(());
    }
    let text = format!(
        "`{name}` is no topic (1 to 249 of letters, digits, `.`, `_`, `-`; not `.` or `..`)"
    );
    Err(LogError::Invalid(text))
}

/// Kafka's rule for topic names.
fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".."
}
