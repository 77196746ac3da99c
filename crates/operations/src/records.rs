//! Endpoints with all that is known of them, a page at a time: of one account, or of all.

use dovecast_store::{EndpointOrder, EndpointQuery, EndpointRecord, OwedCount, Search};

use crate::{Operations, Operator, Result, Tenant};

/// Endpoints of one page: few queries for many endpoints, and little memory.
const PAGE: i64 = 500;

impl Operations {
    /// Shows each endpoint of all accounts with what it owes, in the order in which they were made.
    pub async fn all_endpoints(
        &self,
        operator: Operator,
        mut show: impl FnMut(&EndpointRecord, OwedCount),
    ) -> Result<()> {
        let owed = self.store.owed_counts().await?;
        let mut each = |record: EndpointRecord| {
            let owed = owed.get(&record.endpoint.id).copied();
            show(&record, owed.unwrap_or_default());
        };
        self.each_record_of_all(operator, &mut each).await
    }

    /// Shows each endpoint of an account with what it owes, in the order in which they were made.
    pub async fn endpoints_with_owed(
        &self,
        tenant: &Tenant,
        mut show: impl FnMut(&EndpointRecord, OwedCount),
    ) -> Result<()> {
        let owed = self.store.owed_counts().await?;
        for record in self.records(tenant).await? {
            let owed = owed.get(&record.endpoint.id).copied();
            show(&record, owed.unwrap_or_default());
        }
        Ok(())
    }

    pub(crate) async fn each_record_of_all(
        &self,
        _: Operator,
        each: &mut impl FnMut(EndpointRecord),
    ) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.store.load_endpoints_after(after, PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.endpoint.id);
            page.into_iter().for_each(&mut *each);
        }
    }

    /// The endpoints of an account, in the order in which they were made.
    pub(crate) async fn records(&self, tenant: &Tenant) -> Result<Vec<EndpointRecord>> {
        let mut wanted = EndpointQuery {
            search: Search::All,
            order: EndpointOrder::Name,
            descending: false,
            limit: PAGE,
            offset: 0,
        };
        let mut records = Vec::new();
        loop {
            let page = self.store.endpoints(tenant.id(), &wanted).await?.items;
            if page.is_empty() {
                break;
            }
            wanted.offset += PAGE;
            let ids: Vec<_> = page.iter().map(|endpoint| endpoint.id).collect();
            records.extend(self.store.load_endpoints(&ids).await?);
        }
        records.sort_by_key(|record: &EndpointRecord| record.endpoint.id);
        Ok(records)
    }
}
