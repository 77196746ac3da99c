//! The polling thread's consumer is replaced, because it has failed for good or is silent.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;

use super::{POLL, Polling};
use crate::kafka::source::{Source, create};

impl<S: Source> Polling<S> {
    /// Makes another consumer, until one works: librdkafka repeats a fatal error for ever. Two that
    /// replace each other, because they have one `group.instance.id`, do so seldom.
    pub(super) fn renew(&mut self, error: &KafkaError) {
        let fatal = self.consumer.client().fatal_error();
        let reason = fatal.map(|(_, reason)| reason).unwrap_or_default();
        tracing::error!(%error, reason, "the consumer has failed for good; it is replaced");
        self.replace();
    }

    pub(super) fn replace(&mut self) {
        // What was fetched and not handed out is another member's now.
        self.assigned.clear();
        self.renewal.failed(Instant::now());
        while self.goes_on() {
            let delay = self.renewal.next_delay();
            self.wait(delay);
            let made =
                create(&self.options, self.source.group(), &self.assigned).and_then(|consumer| {
                    self.source.begin(&consumer, &mut self.gaps)?;
                    Ok(Arc::new(consumer))
                });
            match made {
                Ok(consumer) => {
                    self.counters.renewed.fetch_add(1, Ordering::Relaxed);
                    self.renewal.made(Instant::now());
                    self.current.replace(&consumer);
                    let old = std::mem::replace(&mut self.consumer, consumer);
                    self.is_paused = false;
                    self.ends.replaced(Instant::now());
                    // Its end may take a while.
                    std::thread::spawn(move || drop(old));
                    return;
                }
                Err(error) => self.log(&error),
            }
        }
    }

    /// Waits, but for no longer than anybody listens.
    fn wait(&self, delay: Duration) {
        let end = Instant::now() + delay;
        while self.goes_on() && Instant::now() < end {
            std::thread::sleep(POLL);
        }
    }
}
