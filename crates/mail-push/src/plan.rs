//! What an event means for the devices of its person: what is pushed to which, in which form, and
//! when; and what is taken back.
//!
//! Pure: conditions are answered by whoever has compiled them, time is given.

use serde_json::Value;

use crate::message::{gathered, message};
use crate::retry::DEADLINE;
use crate::{MailEvent, Person, PushContent, Subscription, SubscriptionId, Tag, Topic};

/// How long messages of other topics than new mail are waited for, to be one push with others.
pub const GATHER_MS: i64 = 1_000;
/// Longest time for which such messages are gathered, from the first one on.
pub const GATHER_AT_MOST_MS: i64 = 10_000;

/// What a condition of a subscription says about the event.
pub trait Conditions {
    /// Whether so many steps may be taken for the event, besides those that were taken.
    fn pays(&mut self, steps: u64) -> bool;

    /// Whether the condition, an expression of CEL, is true for the event.
    fn holds(&mut self, condition: &str) -> bool;
}

/// A push that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedPush {
    /// For which subscription.
    pub subscription: SubscriptionId,
    /// Whose mail it is of.
    pub person: Person,
    /// Topic of the message.
    pub topic: Topic,
    /// What the device shows it as; a push that waits with the same one is replaced. `None`: the
    /// message is gathered with others.
    pub tag: Option<Tag>,
    /// Whether it tells of one mail that came, of which a device is told once.
    pub is_of_one_mail: bool,
    /// What is told.
    pub message: Value,
    /// What is told where the message is too large.
    pub short: Value,
    /// Unseen mails, where that is known.
    pub badge: Option<u32>,
    /// When it is due, in milliseconds since 1970.
    pub due_ms: i64,
    /// When it is dropped.
    pub deadline_ms: i64,
    /// End of the quiet hours that it waits for, if it does: others are gathered with it that wait
    /// for the same.
    pub quiet_until_ms: Option<i64>,
    /// Whether the device may ring in quiet hours, too, whenever the push becomes due.
    pub passes_quiet_hours: bool,
}

/// What an event means for the devices of its person.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventPlan {
    /// What is not to be shown any more, on no device, and the unseen mails that are left.
    pub take_back: Option<(Tag, Option<u32>)>,
    /// A mailbox, and the unseen mails in it now.
    pub unseen: Option<(String, u32)>,
    /// What is pushed.
    pub pushes: Vec<PlannedPush>,
    /// Subscriptions that are not the person's, which are passed over: there are none, unless
    /// something has gone wrong before.
    pub others: usize,
}

/// Plans what an event means. The subscriptions are those of its person that have not expired:
/// whoever keeps them knows the time in which they do.
pub fn plan(
    event: &MailEvent,
    subscriptions: &[Subscription],
    conditions: &mut dyn Conditions,
    now_ms: i64,
) -> EventPlan {
    let mut plan = EventPlan {
        unseen: event.unseen.map(|unseen| (event.mailbox.clone(), unseen)),
        ..EventPlan::default()
    };
    if event.is_take_back() {
        plan.take_back = event.tag().map(|tag| (tag, event.unseen));
    }
    for subscription in subscriptions {
        // The guard: nobody is rung for another's mail, whatever was found.
        if subscription.person != event.person {
            plan.others += 1;
            continue;
        }
        plan.pushes
            .extend(push(event, subscription, conditions, now_ms));
    }
    plan
}

fn push(
    event: &MailEvent,
    subscription: &Subscription,
    conditions: &mut dyn Conditions,
    now_ms: i64,
) -> Option<PlannedPush> {
    let wishes = &subscription.wishes;
    let topic = wishes.topics.form_of(event.kind)?;
    if !conditions.pays(wishes.filter.steps(event)) {
        return None;
    }
    let mut holds = |condition: &Option<String>, otherwise: bool| {
        let condition = condition.as_deref();
        condition.map_or(otherwise, |condition| conditions.holds(condition))
    };
    if !wishes.filter.passes(event) || !holds(&wishes.filter.condition, true) {
        return None;
    }
    // A condition costs time: asked only where there are quiet hours. They may begin while the push
    // waits, and the event is not at hand any more then.
    let quiet_hours = wishes.quiet_hours.as_ref();
    let is_critical = quiet_hours.is_some() && holds(&wishes.critical, false);
    let quiet_hours = quiet_hours.filter(|_| !is_critical);
    let quiet_until = quiet_hours.and_then(|hours| hours.end_of(now_ms));
    let is_gathered = !topic.is_new_mail();
    let in_form = |content: PushContent| {
        let message = message(event, topic, content);
        if is_gathered {
            gathered(topic, &message)
        } else {
            message
        }
    };
    let begins_ms = quiet_until.unwrap_or(now_ms);
    Some(PlannedPush {
        subscription: subscription.id,
        person: event.person.clone(),
        topic,
        tag: if is_gathered { None } else { event.tag() },
        is_of_one_mail: !is_gathered && event.mail.is_some(),
        message: in_form(wishes.content),
        short: in_form(PushContent::Ids),
        badge: event.unseen,
        due_ms: if is_gathered {
            begins_ms + GATHER_MS
        } else {
            begins_ms
        },
        // What waits for the end of quiet hours has as long from then on.
        deadline_ms: begins_ms.saturating_add(deadline_ms()),
        quiet_until_ms: quiet_until,
        passes_quiet_hours: is_critical,
    })
}

/// [`DEADLINE`] in milliseconds.
pub fn deadline_ms() -> i64 {
    i64::try_from(DEADLINE.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
