//! Filters of endpoints, as they are shown: by ids, and in words. Acts on the endpoint change them.

use dovecast_store::{EndpointId, EndpointRecord, Filter, FilterRecord, Members};

use crate::{Operations, Operator, OwnEndpoint, Refusal, Resource, Result, Tenant};

/// What an endpoint receives, by the names that notifications use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterInWords {
    /// Id of the endpoint.
    pub endpoint: EndpointId,
    /// Number of the account.
    pub account: String,
    /// Name of the endpoint.
    pub name: String,
    /// Whether the endpoint receives notifications.
    pub active: bool,
    /// The filter, if there is one.
    pub filter: Option<FilterRecord>,
    /// The filter as a phrase, such as `application billing, condition message.a == 1`.
    pub gets: String,
}

/// What endpoints of an account receive: all of them, or as many as a page holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterPage {
    /// The filters, with their endpoints.
    pub filters: Vec<FilterInWords>,
    /// Endpoint behind which the list goes on, where there are more.
    pub more_after: Option<EndpointId>,
}

/// Bytes of filters with which a page of them ends, as an answer of the REST API has them; one
/// filter is in a page, however large.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that an answer has of an endpoint, or of a member of a filter, besides their names.
const AROUND_BYTES: usize = 64;

impl FilterInWords {
    /// Drops what no list of filters shows: a template, certificates, credentials.
    fn new(record: EndpointRecord) -> Self {
        let gets = gets(&record);
        Self {
            endpoint: record.endpoint.id,
            account: record.account_number,
            name: record.endpoint.name,
            active: record.endpoint.active,
            filter: record.filter,
            gets,
        }
    }

    /// About how many bytes an answer has of it.
    fn bytes(&self) -> usize {
        let members = self.filter.iter().flat_map(sets);
        let members = members.filter_map(|(_, names)| names).flatten();
        let members = members.map(|name| AROUND_BYTES + name.len());
        let condition = self.filter.as_ref().and_then(|of| of.condition.as_ref());
        let condition = condition.map_or(0, String::len);
        AROUND_BYTES + self.name.len() + self.gets.len() + condition + members.sum::<usize>()
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

    /// What the endpoints of an account after one receive, in words, in the order in which they
    /// were made.
    pub async fn filters_in_words(
        &self,
        tenant: &Tenant,
        after: Option<EndpointId>,
    ) -> Result<FilterPage> {
        let mut records = self.records(tenant, after).await?;
        let (mut filters, mut bytes) = (Vec::<FilterInWords>::new(), 0);
        while let Some(page) = records.next().await? {
            for filter in page.into_iter().map(FilterInWords::new) {
                bytes += filter.bytes();
                if bytes > PAGE_BYTES && !filters.is_empty() {
                    let more_after = filters.last().map(|last| last.endpoint);
                    return Ok(FilterPage {
                        filters,
                        more_after,
                    });
                }
                filters.push(filter);
            }
        }
        Ok(FilterPage {
            filters,
            more_after: None,
        })
    }

    /// What each endpoint of an account receives, in words, in the order in which they were made.
    pub async fn filters_to_operator(
        &self,
        operator: Operator,
        account: &str,
    ) -> Result<Vec<FilterInWords>> {
        let tenant = self.account(operator, account).await?;
        let mut records = self.records(&tenant, None).await?;
        let mut filters = Vec::new();
        while let Some(page) = records.next().await? {
            filters.extend(page.into_iter().map(FilterInWords::new));
        }
        Ok(filters)
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
