//! Acts of the operator on devices of a person: listed, tested, and why one did not ring.

use dovecast_mail_push::Person;
use dovecast_store::{LastAnswer, PushTraces, SubscriptionRecord, WaitingPush};
use jiff::Timestamp;

use super::users::named;
use super::{MailPush, PushCaller, PushTest};
use crate::Result;
use crate::caller::Operator;

/// What became of the test of a device.
#[derive(Clone, Debug)]
pub struct TestedDevice {
    /// The device, as it was.
    pub record: SubscriptionRecord,
    /// What its service has answered, or why it was not asked.
    pub test: std::result::Result<PushTest, String>,
}

/// Why a device did not ring, as far as is known.
#[derive(Clone, Debug)]
pub struct DeviceHistory {
    /// The device.
    pub record: SubscriptionRecord,
    /// A line for each hop.
    pub hops: Vec<String>,
}

impl MailPush {
    /// Devices of a person, all or those of a client.
    pub async fn devices(
        &self,
        _: &Operator,
        whose: (&str, &str),
        client: Option<&str>,
    ) -> Result<Vec<SubscriptionRecord>> {
        let person = named(whose.0, whose.1)?;
        self.devices_of(&person, client).await
    }

    /// Sends a push that says that it is a test to each device of a person, or of a client.
    pub async fn test_devices(
        &self,
        Operator(by): &Operator,
        whose: (&str, &str),
        client: Option<&str>,
    ) -> Result<Vec<TestedDevice>> {
        let person = named(whose.0, whose.1)?;
        let mut tested = Vec::new();
        for record in self.devices_of(&person, client).await? {
            let caller = PushCaller::of_person(record.subscription.person.clone());
            let id = record.subscription.id.to_string();
            tracing::info!(%person, subscription.id = id, %by, "a device is tested");
            let test = self.test(&caller, &id).await;
            let test = test.map_err(|refusal| refusal.to_string());
            tested.push(TestedDevice { record, test });
        }
        Ok(tested)
    }

    /// Why devices of a person did not ring, hop by hop.
    pub async fn why_silent(
        &self,
        _: &Operator,
        whose: (&str, &str),
        client: Option<&str>,
    ) -> Result<Vec<DeviceHistory>> {
        let person = named(whose.0, whose.1)?;
        let traces = self.store.push_traces(&person).await?;
        let most = self.parts.pushes_per_minute;
        let devices = self.devices_of(&person, client).await?;
        let history = |record: SubscriptionRecord| {
            let hops = hops(&record, &traces, most);
            DeviceHistory { record, hops }
        };
        Ok(devices.into_iter().map(history).collect())
    }

    async fn devices_of(
        &self,
        person: &Person,
        client: Option<&str>,
    ) -> Result<Vec<SubscriptionRecord>> {
        let mut records = self.store.subscriptions(person).await?;
        records.retain(|record| client.is_none_or(|name| record.subscription.client == name));
        Ok(records)
    }
}

/// The way of a mail to a device: what is asked for, what waits and why, what the service said.
fn hops(record: &SubscriptionRecord, traces: &PushTraces, per_minute: u64) -> Vec<String> {
    let subscription = &record.subscription;
    let wishes = &subscription.wishes;
    let mut hops = Vec::new();
    hops.push(match subscription.expires_ms {
        Some(end) if end <= traces.now_ms => {
            format!(
                "subscription: its time was over at {}: nothing is pushed",
                time(end)
            )
        }
        Some(end) => format!("subscription: is there until {}", time(end)),
        None => "subscription: is there".to_owned(),
    });
    let topics: Vec<&str> = wishes.topics.names().collect();
    let topics = topics.join(", ");
    hops.push(if wishes.topics.have_new_mail() {
        format!("topics: {topics}: new mail rings")
    } else {
        format!("topics: {topics}: new mail does not ring")
    });
    let mut only = Vec::new();
    for (what, patterns) in [
        ("mailboxes", &wishes.filter.mailboxes),
        ("senders", &wishes.filter.senders),
    ] {
        if let Some(patterns) = patterns {
            only.push(format!("{what} {}", patterns.join(", ")));
        }
    }
    if let Some(condition) = &wishes.filter.condition {
        only.push(format!("condition {condition}"));
    }
    hops.push(if only.is_empty() {
        "filter: none: each mail rings".to_owned()
    } else {
        format!("filter: only {}", only.join("; "))
    });
    let hours = wishes.quiet_hours.as_ref();
    hops.push(match hours.map(|hours| hours.end_of(traces.now_ms)) {
        None => "quiet hours: none".to_owned(),
        Some(None) => "quiet hours: not now".to_owned(),
        Some(Some(end)) => format!("quiet hours: until {}: what comes waits", time(end)),
    });
    let mine = |push: &&WaitingPush| push.subscription == subscription.id;
    let waiting: Vec<&WaitingPush> = traces.waiting.iter().filter(mine).collect();
    hops.push(format!("waiting: {}", waiting.len()));
    let is_full = traces.within_minute >= per_minute;
    hops.extend(
        waiting
            .iter()
            .map(|push| waits(push, traces.now_ms, is_full)),
    );
    hops.push(format!(
        "pushes_per_minute: {} of {per_minute} in the last minute",
        traces.within_minute
    ));
    let accepted = traces
        .accepted
        .iter()
        .find(|one| one.subscription == subscription.id);
    hops.push(match accepted {
        Some(one) => format!(
            "accepted within a day: {}, the last one at {}",
            one.count,
            time(one.last_ms)
        ),
        None => "accepted within a day: none".to_owned(),
    });
    hops.push(match &record.answer {
        Some(answer) => format!(
            "last answer of the service: {}, at {}",
            said(answer),
            time(answer.time_ms)
        ),
        None => "last answer of the service: none yet".to_owned(),
    });
    hops
}

fn waits(push: &WaitingPush, now_ms: i64, is_full: bool) -> String {
    let written = format!("  {} of {}: ", push.topic, time(push.created_ms));
    let reason = if push.is_claimed {
        "is being sent".to_owned()
    } else if push.due_ms > now_ms && push.failures > 0 {
        format!(
            "has failed {} times, is tried again at {}, dropped at {}",
            push.failures,
            time(push.due_ms),
            time(push.deadline_ms)
        )
    } else if push.due_ms > now_ms {
        format!(
            "waits until {}: for quiet hours, for others to come with it, or as its host has asked for time",
            time(push.due_ms)
        )
    } else if is_full {
        "waits: the person has had `pushes_per_minute`".to_owned()
    } else {
        "is sent as soon as there is a place for it".to_owned()
    };
    written + &reason
}

/// What a service has answered, in words.
pub fn said(answer: &LastAnswer) -> String {
    match (answer.status, &*answer.reason) {
        (None, "") => "no answer".to_owned(),
        (None, reason) => reason.to_owned(),
        (Some(status), "") => status.to_string(),
        (Some(status), reason) => format!("{status} {reason}"),
    }
}

fn time(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms);
    time.map_or_else(|_| "-".to_owned(), |time| format!("{time:.0}"))
}

#[cfg(test)]
mod tests;
