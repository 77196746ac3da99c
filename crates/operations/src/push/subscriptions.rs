//! Acts on subscriptions of the person who asks.

use std::time::{Duration, Instant};

use dovecast_log::now_ms;
use dovecast_mail_push::message::person as person_json;
use dovecast_mail_push::subscription::{BadFields, FieldFault, SubscriptionFields};
use dovecast_mail_push::{
    DeviceAddress, Push, PushVerdict, SubscriptionId, Tag, Topic, Transport, TransportKind,
};
use dovecast_store::{LastAnswer, NewSubscription, SubscriptionEdit, SubscriptionRecord};
use serde_json::{Value, json};

use super::{MailPush, PushCaller};
use crate::refusal::{Fault, Faults};
use crate::{Refusal, Resource, Result};

/// Longest time that a test of a subscription takes.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the service may keep a test.
const TEST_LIVES: Duration = Duration::from_mins(1);

/// A subscription as an act returns it.
#[derive(Clone, Debug)]
pub struct ShownSubscription {
    /// As it is listed.
    pub record: SubscriptionRecord,
    /// Whether it was not there before.
    pub is_new: bool,
    /// What a new webhook signs with, this once.
    pub signing_secret: Option<String>,
}

/// What the service of a device has answered to a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushTest {
    /// Whether the service has it.
    pub is_accepted: bool,
    /// What it has answered.
    pub answer: LastAnswer,
}

impl MailPush {
    /// Makes a subscription; one of the same device keeps its id.
    pub async fn subscribe(&self, caller: &PushCaller, body: &Value) -> Result<ShownSubscription> {
        let fields = SubscriptionFields::read(body, now_ms(), true).map_err(refused)?;
        let wishes = fields.wishes();
        let (Some(client), Some(address)) = (fields.client, fields.address) else {
            return Err(Refusal::unreadable("client or address is missing"));
        };
        self.must_be_good(&address)?;
        let person = caller.person();
        let new = NewSubscription {
            person: person.clone(),
            client,
            address,
            wishes,
            expires_ms: fields.expires_ms.flatten(),
        };
        let most = self.parts.limits.max_subscriptions;
        let put = self.store.put_subscription(new, most).await?;
        let subscription = &put.record.subscription;
        tracing::info!(
            %person,
            subscription.id = %subscription.id,
            transport = subscription.transport.name(),
            is_new = put.is_new,
            is_taken_over = put.is_taken_over,
            "a device was subscribed for mail push"
        );
        Ok(ShownSubscription {
            record: put.record,
            is_new: put.is_new,
            signing_secret: put.signing_secret.map(|secret| secret.expose().to_owned()),
        })
    }

    /// The person's subscriptions, in the order in which they were made.
    pub async fn subscriptions(&self, caller: &PushCaller) -> Result<Vec<SubscriptionRecord>> {
        Ok(self.store.subscriptions(caller.person()).await?)
    }

    /// One of them.
    pub async fn subscription(&self, caller: &PushCaller, id: &str) -> Result<SubscriptionRecord> {
        let found = self.store.subscription(caller.person(), named(id)?).await?;
        found.ok_or_else(|| Refusal::no(Resource::Subscription, id))
    }

    /// Changes what is named of a subscription.
    pub async fn change_subscription(
        &self,
        caller: &PushCaller,
        id: &str,
        body: &Value,
    ) -> Result<SubscriptionRecord> {
        let before = self.subscription(caller, id).await?.subscription;
        let fields = SubscriptionFields::read(body, now_ms(), false).map_err(refused)?;
        let said = body.get("transport").and_then(Value::as_str);
        let said = said.and_then(TransportKind::from_name);
        let kind = fields.address.as_ref().map(DeviceAddress::kind).or(said);
        if kind.is_some_and(|kind| kind != before.transport) {
            let detail = format!("is `{}`, and cannot be changed", before.transport.name());
            return Err(Refusal::invalid(Fault::at("/transport", detail)));
        }
        if let Some(address) = &fields.address {
            self.must_be_good(address)?;
        }
        let edit = SubscriptionEdit {
            client: fields.client.clone(),
            address: fields.address.clone(),
            expires_ms: fields.expires_ms,
        };
        let (store, person) = (&self.store, caller.person());
        let changed =
            store.edit_subscription(person, before.id, edit, |wishes| fields.changed(wishes));
        let changed = changed.await?;
        changed.ok_or_else(|| Refusal::no(Resource::Subscription, id))
    }

    /// Removes a subscription, with what waits for it.
    pub async fn unsubscribe(&self, caller: &PushCaller, id: &str) -> Result<()> {
        let person = caller.person();
        if !self.store.delete_subscription(person, named(id)?).await? {
            return Err(Refusal::no(Resource::Subscription, id));
        }
        tracing::info!(%person, subscription.id = id, "a device was unsubscribed from mail push");
        self.forget_unneeded(person).await
    }

    /// The last subscription takes what the mailbox was opened with along, unless a session needs
    /// it: then that goes with the last session.
    pub(super) async fn forget_unneeded(&self, person: &dovecast_mail_push::Person) -> Result<()> {
        Ok(self.vault.forget_unneeded(person).await?)
    }

    /// Sends a push that says that it is a test, and waits for the answer. A device that is gone is
    /// removed. A person may ask for a few of them within a minute.
    pub async fn test_subscription(&self, caller: &PushCaller, id: &str) -> Result<PushTest> {
        let person = caller.person().to_string();
        let taken = self.tests.take(&person, Instant::now());
        taken.map_err(|after| Refusal::TooMuch {
            reason: "Devices are tested too often: try again later".to_owned(),
            after,
        })?;
        self.test(caller, id).await
    }

    /// Tests a device for whoever may, however often.
    pub(super) async fn test(&self, caller: &PushCaller, id: &str) -> Result<PushTest> {
        let record = self.subscription(caller, id).await?;
        let subscription = &record.subscription;
        let person = caller.person();
        let address = self
            .store
            .subscription_address(person, subscription.id)
            .await?;
        let address = address.ok_or_else(|| Refusal::no(Resource::Subscription, id))?;
        let transport = self.transport(address.kind())?;
        let push = Push {
            person: person.clone(),
            topic: Topic::MailNew,
            tag: Tag::of_mailbox(person, "\0test"),
            message: json!({ "person": person_json(person), "mailbox": "INBOX",
                "subject": "dovecast: a test", "test": true }),
            urgency: subscription.wishes.urgency,
            badge: None,
            time_to_live: TEST_LIVES,
            time_ms: now_ms(),
        };
        let sent = tokio::time::timeout(TEST_TIMEOUT, transport.send(&address, &push)).await;
        let sent = sent.unwrap_or_else(|_| {
            dovecast_mail_push::PushAnswer::none("no answer within 20 seconds")
        });
        let answer = LastAnswer {
            time_ms: now_ms(),
            status: sent.status,
            reason: sent.reason,
        };
        if sent.verdict == PushVerdict::Gone {
            let store = &self.store;
            let deleted = store.delete_gone_subscription(person, subscription.id, &address);
            if deleted.await? {
                self.forget_unneeded(person).await?;
                tracing::info!(%person, subscription.id = id, "a device is gone, and was removed");
            }
        } else {
            self.store.note_answer(subscription.id, &answer).await?;
        }
        Ok(PushTest {
            is_accepted: sent.verdict == PushVerdict::Accepted,
            answer,
        })
    }

    fn transport(&self, kind: TransportKind) -> Result<&dyn Transport> {
        let found = self
            .parts
            .transports
            .get(&kind)
            .map(|transport| &**transport);
        found.ok_or_else(|| {
            let name = kind.name();
            Refusal::Unavailable(
                format!("`{name}` is not configured on this server ([mail_push.{name}])").into(),
            )
        })
    }

    fn must_be_good(&self, address: &DeviceAddress) -> Result<()> {
        let kind = address.kind();
        let name = kind.name();
        let Some(transport) = self.parts.transports.get(&kind) else {
            let detail = format!("`{name}` is not configured on this server ([mail_push.{name}])");
            return Err(Refusal::invalid(Fault::at("/transport", detail)));
        };
        transport.check(address).map_err(|fault| {
            Refusal::invalid(Fault::at(format!("/{name}/{}", fault.field), fault.detail))
        })
    }
}

fn named(id: &str) -> Result<SubscriptionId> {
    id.parse()
        .map_err(|_| Refusal::no(Resource::Subscription, id))
}

fn refused(faults: BadFields) -> Refusal {
    let mut all = Faults::default();
    for FieldFault { pointer, detail } in faults {
        all.push(Fault::at(pointer, detail));
    }
    Refusal::Invalid(all)
}
