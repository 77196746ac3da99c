//! What an endpoint would be sent of a notification, with a template that is tried before it is
//! saved.

use std::sync::Arc;

use dovecast_dispatch::driver::{Delivery, Part, Rendered, Settings};
use dovecast_dispatch::webhook_id;
use dovecast_notification::Notification;
use dovecast_store::{Receiver, SecretSettings};
use serde_json::Value;

use crate::{EndpointFields, Fault, FaultPlace, Known, Operations, OwnEndpoint, Refusal, Result};

/// Stored parameters without their values: they are written and never shown.
fn hidden(secret: &SecretSettings) -> SecretSettings {
    let mut secret = secret.expose().clone();
    let parameters = secret.get_mut("parameters").and_then(Value::as_object_mut);
    for value in parameters.into_iter().flat_map(serde_json::Map::values_mut) {
        *value = "***".into();
    }
    SecretSettings::new(secret)
}

impl Operations {
    /// Renders a notification for an endpoint, with changes of it that are not saved. Nothing is
    /// sent.
    pub async fn render(
        &self,
        own: &OwnEndpoint,
        changes: EndpointFields,
        notification: Notification,
    ) -> Result<Rendered> {
        let record = self.record(own).await?;
        if *notification.account != *record.account_number {
            return Err(Refusal::NotWanted(
                "the notification is for another account than the endpoint's".to_owned(),
            ));
        }
        let drivers = &self.parts.drivers;
        let names = self.member_names(&changes).await?;
        let (edit, trial) = changes.into_edit(&Known {
            is_taken: false,
            account: &record.account_number,
            drivers,
            record: Some(&record),
            names: &names,
        })?;
        trial.run().await?;
        let unusable = |detail: String| {
            Refusal::invalid(Fault {
                place: FaultPlace::All,
                detail,
                is_unknown: false,
            })
        };
        let driver = drivers.get(&record.endpoint.driver);
        let driver = driver.map_err(|error| unusable(error.to_string()))?;
        let mut open = record.endpoint.settings.clone();
        let mut secret = hidden(&record.secrets.clone().map_err(unusable)?);
        let of_driver = match &edit.receiver {
            Some(Receiver::Driver(settings)) => Some(settings),
            Some(Receiver::Webhook(_)) | None => None,
        };
        for settings in of_driver.into_iter().chain(&edit.body) {
            settings.apply(&mut open, &mut secret);
        }
        let target = driver.target(&Settings {
            account: &Arc::from(&*record.account_number),
            open: &open,
            secret: secret.expose(),
        });
        let target = target.map_err(|error| unusable(error.to_string()))?;
        let content = edit.flow.content.unwrap_or(record.endpoint.flow.content);
        let delivery = Delivery {
            note: String::new(),
            id: webhook_id(notification.id, own.id()),
            number: 1,
            notifications: vec![Arc::new(content.cut(&notification).unwrap_or(notification))],
            part: Part::WHOLE,
        };
        let rendered = target.render(&delivery).await;
        rendered
            .unwrap_or_else(|| Err("the driver sends no text".to_owned()))
            .map_err(unusable)
    }
}
