//! Filters of endpoints, as they are shown: by ids, and in words. Acts on the endpoint change them.

use dovecast_store::{EndpointRecord, Filter, FilterRecord, Members};

use crate::{Operations, Operator, OwnEndpoint, Refusal, Resource, Result, Tenant};

/// What an endpoint receives, by the names that notifications use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterInWords {
    /// The endpoint, with its filter if it has one.
    pub record: EndpointRecord,
    /// The filter as a phrase, such as `application billing, condition message.a == 1`.
    pub gets: String,
}

impl FilterInWords {
    fn new(record: EndpointRecord) -> Self {
        let gets = gets(&record);
        Self { record, gets }
    }
}

impl Operations {
    /// The filter of an endpoint of an account.
    pub async fn filter(&self, tenant: &Tenant, endpoint: &str) -> Result<Filter> {
        let none = || Refusal::no(Resource::Filter, endpoint);
        let id = endpoint.parse().map_err(|_| none())?;
        let filter = self.store.filter(tenant.id(), id).await?;
        filter.ok_or_else(none)
    }

    /// What one endpoint receives, in words.
    pub async fn filter_in_words(&self, own: &OwnEndpoint) -> Result<FilterInWords> {
        Ok(FilterInWords::new(self.record(own).await?))
    }

    /// What each endpoint of an account receives, in words, in the order in which they were made.
    pub async fn filters_in_words(&self, tenant: &Tenant) -> Result<Vec<FilterInWords>> {
        let records = self.records(tenant).await?;
        Ok(records.into_iter().map(FilterInWords::new).collect())
    }

    /// What each endpoint of all accounts receives, in words.
    pub async fn all_filters_in_words(&self, operator: Operator) -> Result<Vec<FilterInWords>> {
        let mut filters = Vec::new();
        let mut each = |record| filters.push(FilterInWords::new(record));
        self.each_record_of_all(operator, &mut each).await?;
        Ok(filters)
    }
}

/// What an endpoint receives, in the words of an explanation.
fn gets(record: &EndpointRecord) -> String {
    let nothing = |why: &str| format!("nothing: {why}");
    let Some(filter) = &record.filter else {
        return nothing("the endpoint has no filter");
    };
    if !record.endpoint.active {
        return nothing("the endpoint is not active");
    }
    if !filter.enabled {
        return nothing("the filter is not enabled");
    }
    let mut parts = Vec::new();
    for (what, names) in sets(filter) {
        match names {
            None => {}
            Some(names) if names.is_empty() => {
                return nothing(&format!("no {what} of the filter is registered any more"));
            }
            Some(mut names) => {
                names.sort();
                parts.push(format!("{what} {}", names.join(" or ")));
            }
        }
    }
    if let Some(condition) = &filter.condition {
        parts.push(format!("condition {condition}"));
    }
    if parts.is_empty() {
        return "everything of the account".to_owned();
    }
    parts.join(", ")
}

/// The sets of a filter with the names of their members; `None`: left open.
fn sets(filter: &FilterRecord) -> [(&'static str, Option<Vec<String>>); 3] {
    let event_types = names(&filter.event_types, |of| {
        format!("{}/{}", of.application, of.event_type)
    });
    let levels = names(&filter.levels, |of| {
        format!("{}/{}/{}", of.application, of.event_type, of.level)
    });
    [
        ("application", names(&filter.applications, Clone::clone)),
        ("event type", event_types),
        ("level", levels),
    ]
}

fn names<T>(members: &Members<T>, of: impl Fn(&T) -> String) -> Option<Vec<String>> {
    match members {
        Members::Any => None,
        Members::These(list) => Some(list.iter().map(of).collect()),
    }
}
