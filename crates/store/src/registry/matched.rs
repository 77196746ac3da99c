//! Filters of endpoints as notifications are matched with them.

use std::sync::Arc;

use dovecast_notification::filter::{EventType, Level};
use dovecast_notification::{Choice, Condition, Filter};

use super::{EndpointRecord, FilterRecord, Members};

impl EndpointRecord {
    /// The filter that notifications are matched with; `None`: the endpoint has none, and receives
    /// nothing. Where events of mail name accounts by their domains (`is_by_domain`), these are in
    /// lower case, and the number of an account may have capitals.
    pub fn matched_filter(&self, is_by_domain: bool) -> Option<Filter> {
        let mut filter = self.filter.as_ref().map(|found| matched(self, found))?;
        if is_by_domain {
            let domain = self.account_number.to_lowercase();
            let is_another = domain != self.account_number;
            filter.mail_account = is_another.then(|| domain.into());
        }
        Some(filter)
    }
}

fn matched(record: &EndpointRecord, found: &FilterRecord) -> Filter {
    let endpoint = record.endpoint.id;
    let event_type = |application: &str, name: &str| EventType {
        application: application.into(),
        name: name.into(),
    };
    let mut enabled = found.enabled;
    let condition = found.condition.as_deref().map(Condition::new);
    let condition = match condition.transpose() {
        Ok(condition) => condition.map(Arc::new),
        Err(error) => {
            // It was checked when it was saved; a filter never widens because of what cannot be
            // read.
            tracing::error!(endpoint.id = %endpoint, %error, "the condition of a filter cannot be read; the filter matches nothing");
            enabled = false;
            None
        }
    };
    Filter {
        endpoint,
        account: record.account_number.as_str().into(),
        mail_account: None,
        enabled,
        applications: choice(&found.applications, |name| name.as_str().into()),
        event_types: choice(&found.event_types, |of| {
            event_type(&of.application, &of.event_type)
        }),
        levels: choice(&found.levels, |of| Level {
            event_type: event_type(&of.application, &of.event_type),
            name: of.level.as_str().into(),
        }),
        condition,
    }
}

fn choice<T, U>(members: &Members<T>, of: impl Fn(&T) -> U) -> Choice<U> {
    match members {
        Members::Any => Choice::Any,
        Members::These(list) => Choice::These(list.iter().map(of).collect()),
    }
}
