//! Progress of things outside the log, which is kept with it.

use std::hash::{BuildHasher, Hasher, RandomState};

use tokio::sync::oneshot;

use super::{Command, Embedded, Mark};
use crate::LogError;

impl Embedded {
    /// All marks, by name.
    pub async fn marks(&self) -> Result<Vec<Mark>, LogError> {
        self.query(|connection| {
            let mut statement = connection.prepare("SELECT name, value FROM mark ORDER BY name")?;
            let marks = statement.query_map([], |row| {
                Ok(Mark {
                    name: row.get(0)?,
                    value: row.get::<_, i64>(1)?.cast_unsigned(),
                })
            })?;
            marks.collect()
        })
        .await
    }

    /// A number that no other log has, made when it is asked for first.
    pub async fn identity(&self) -> Result<u64, LogError> {
        const NAME: &str = "identity";
        if let Some(mark) = self
            .marks()
            .await?
            .into_iter()
            .find(|mark| mark.name == NAME)
        {
            return Ok(mark.value);
        }
        let mark = Mark {
            name: NAME.to_owned(),
            value: random(),
        };
        let value = mark.value;
        self.append_marked(Vec::new(), mark).await?;
        Ok(value)
    }

    /// Writes something as records are written, in order to see whether they can be.
    pub async fn check_writable(&self) -> Result<(), LogError> {
        let (reply, done) = oneshot::channel();
        self.handle.send(Command::Probe { reply }).await?;
        done.await.map_err(|_| LogError::Closed)?
    }

    /// Forgets a mark.
    pub async fn forget_mark(&self, name: &str) -> Result<(), LogError> {
        let (reply, done) = oneshot::channel();
        let name = name.to_owned();
        self.handle
            .send(Command::ForgetMark { name, reply })
            .await?;
        done.await.map_err(|_| LogError::Closed)?
    }
}

/// What is written in order to see whether anything can be.
pub(super) fn probe() -> Mark {
    Mark {
        name: "probe".to_owned(),
        value: random(),
    }
}

/// The keys of a hasher are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
