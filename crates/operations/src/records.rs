//! Endpoints with all that is known of them, a page at a time: of one account, or of all.

use std::vec;

use dovecast_store::{EndpointId, EndpointRecord, OwedCount, Store};

use crate::{Operations, Operator, Result, Tenant};

/// Endpoints of all accounts in one page, which the operator alone reads: few queries for many
/// endpoints.
const PAGE: i64 = 500;
/// Endpoints of one account in one page. With the largest template and the most certificates a
/// record has 128 KiB, besides the names of its filter, and an account may ask several times at
/// once.
const ACCOUNT_PAGE: usize = 16;

/// Records of an account's endpoints, a page at a time, in the order in which they were made.
pub(crate) struct Records<'a> {
    store: &'a Store,
    ids: vec::IntoIter<EndpointId>,
}

impl Records<'_> {
    /// The next page; `None`: there are no more endpoints.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<EndpointRecord>>> {
        let ids: Vec<_> = self.ids.by_ref().take(ACCOUNT_PAGE).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let mut page = self.store.load_endpoints(&ids).await?;
        page.sort_by_key(|record| record.endpoint.id);
        Ok(Some(page))
    }
}

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
        let mut records = self.records(tenant, None).await?;
        while let Some(page) = records.next().await? {
            for record in page {
                let owed = owed.get(&record.endpoint.id).copied();
                show(&record, owed.unwrap_or_default());
            }
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

    /// The endpoints of an account after one, in the order in which they were made.
    pub(crate) async fn records(
        &self,
        tenant: &Tenant,
        after: Option<EndpointId>,
    ) -> Result<Records<'_>> {
        let mut ids = self.store.endpoint_ids(tenant.id()).await?;
        ids.retain(|id| after.is_none_or(|after| *id > after));
        Ok(Records {
            store: &self.store,
            ids: ids.into_iter(),
        })
    }
}
