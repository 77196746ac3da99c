//! Acts on endpoints: where an account wants its notifications.

pub(crate) mod fields;
mod warnings;

use std::sync::Arc;

use dovecast_store::{
    CreatedEndpoint, Endpoint, EndpointId, EndpointQuery, EndpointRecord, Page, SigningSecret,
    StoreError,
};

use crate::{
    By, EndpointFields, Known, MemberNames, Operations, Refusal, Resource, Result, Tenant,
};

/// How long webhooks are signed with an old secret, too, after it was replaced: a day, in which
/// receivers take over the new one.
const SECRET_OVERLAP_MS: i64 = 24 * 3_600_000;

/// Applications of one page, where names are looked up: most servers have fewer.
const APPLICATIONS_PAGE: i64 = 100;

/// An endpoint that was found with the id of its account: what acts on one endpoint need.
#[derive(Clone, Debug)]
pub struct OwnEndpoint {
    endpoint: Endpoint,
    /// Number of its account.
    account: Arc<str>,
    by: By,
}

// What is made of what, as the examples of the crate try it from outside.
const _OWN_ENDPOINT_IS_MADE_OF: fn(Endpoint, Arc<str>, By) -> OwnEndpoint =
    |endpoint, account, by| OwnEndpoint {
        endpoint,
        account,
        by,
    };

impl OwnEndpoint {
    /// The endpoint, as it was when it was found.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn id(&self) -> EndpointId {
        self.endpoint.id
    }

    /// Who has asked for it.
    pub(crate) fn by(&self) -> &By {
        &self.by
    }

    /// Logs what was done to it.
    fn log(&self, done: &'static str) {
        let Self { account, by, .. } = self;
        tracing::info!(endpoint.id = %self.id(), account.number = ?account, %by, "{done}");
    }

    pub(crate) fn gone(&self) -> Refusal {
        Refusal::no(Resource::Endpoint, self.endpoint.id)
    }

    /// What the store refuses; another request may have deleted the endpoint meanwhile.
    fn refused(&self, error: StoreError) -> Refusal {
        match error {
            StoreError::NoEndpoint => self.gone(),
            error => error.into(),
        }
    }
}

impl Operations {
    /// Some endpoints of an account.
    pub async fn endpoints(
        &self,
        tenant: &Tenant,
        wanted: &EndpointQuery,
    ) -> Result<Page<Endpoint>> {
        Ok(self.store.endpoints(tenant.id(), wanted).await?)
    }

    /// An endpoint of an account.
    pub async fn endpoint(&self, tenant: &Tenant, id: &str) -> Result<OwnEndpoint> {
        let parsed = id.parse();
        let parsed = parsed.map_err(|_| Refusal::no(Resource::Endpoint, id))?;
        let found = self.find_endpoint(tenant, parsed).await?;
        found.ok_or_else(|| Refusal::no(Resource::Endpoint, id))
    }

    /// An endpoint of an account, if it has one of this id.
    pub(crate) async fn find_endpoint(
        &self,
        tenant: &Tenant,
        id: EndpointId,
    ) -> Result<Option<OwnEndpoint>> {
        let found = self.store.endpoint(tenant.id(), id).await?;
        Ok(found.map(|endpoint| OwnEndpoint {
            endpoint,
            account: tenant.number().into(),
            by: tenant.by().clone(),
        }))
    }

    /// Makes an endpoint with its filter. Without a filter it receives nothing.
    pub async fn create_endpoint(
        &self,
        tenant: &Tenant,
        fields: EndpointFields,
    ) -> Result<CreatedEndpoint> {
        let is_taken = self.is_taken(tenant.id(), &fields, None).await?;
        let names = self.member_names(&fields).await?;
        let (new, trial) = fields.into_new(&Known {
            is_taken,
            account: tenant.number(),
            drivers: &self.parts.drivers,
            record: None,
            names: &names,
        })?;
        trial.run().await?;
        let most = self.parts.max_endpoints;
        let made = self.store.create_endpoint(tenant.id(), &new, most).await?;
        tracing::info!(
            endpoint.id = %made.endpoint.id,
            account.number = ?tenant.number(),
            by = %tenant.by(),
            "an endpoint was created"
        );
        Ok(made)
    }

    /// Changes an endpoint and its filter. What is not given stays as it is. What it owes is tried
    /// at once if it may be reached now and could not be before.
    pub async fn change_endpoint(
        &self,
        own: &OwnEndpoint,
        fields: EndpointFields,
    ) -> Result<Endpoint> {
        let Endpoint { id, account, .. } = own.endpoint;
        let record = self.record(own).await?;
        let is_taken = self.is_taken(account, &fields, Some(id)).await?;
        let names = self.member_names(&fields).await?;
        let (edit, trial) = fields.into_edit(&Known {
            is_taken,
            account: &record.account_number,
            drivers: &self.parts.drivers,
            record: Some(&record),
            names: &names,
        })?;
        trial.run().await?;
        let edited = self.store.edit_endpoint(account, id, &edit).await;
        let edited = edited.map_err(|error| own.refused(error))?;
        own.log("an endpoint was changed");
        if edit.may_mend() && edited.active {
            self.due_at_once(own).await?;
        }
        Ok(edited)
    }

    /// Has all that an endpoint owes for later tried now, by what it is now; how many deliveries.
    pub(crate) async fn due_at_once(&self, own: &OwnEndpoint) -> Result<u64> {
        // Before that an attempt would be made as the endpoint was, and fail again.
        self.settled().await;
        Ok(self.store.due_at_once(own.id()).await?)
    }

    /// Has an endpoint tried as if nothing had failed before.
    pub(crate) async fn save_anew(&self, own: &OwnEndpoint) -> Result<()> {
        let Endpoint { id, account, .. } = own.endpoint;
        let saved = self.store.save_anew(account, id).await;
        saved.map_err(|error| own.refused(error))
    }

    /// Deletes an endpoint and its filter.
    pub async fn delete_endpoint(&self, own: &OwnEndpoint) -> Result<()> {
        let Endpoint { id, account, .. } = own.endpoint;
        if !self.store.delete_endpoint(account, id).await? {
            return Err(own.gone());
        }
        own.log("an endpoint was deleted");
        Ok(())
    }

    /// Sends a test notification to an endpoint: one attempt, now. Its outcome is not recorded.
    /// Another one to the same endpoint is refused until it is over.
    pub async fn test_endpoint(&self, own: &OwnEndpoint) -> Result<()> {
        let _place = self.test_place(own.endpoint.account, own.id())?;
        let record = self.record(own).await?;
        let delivered = self.parts.test_delivery.deliver_test(&record).await;
        delivered.map_err(Refusal::TestFailed)
    }

    /// Gives an endpoint a new signing secret. Webhooks are signed with the old one, too, for 24
    /// hours.
    pub async fn rotate_secret(&self, own: &OwnEndpoint) -> Result<SigningSecret> {
        let Endpoint { id, account, .. } = own.endpoint;
        let rotated = self.store.rotate_secret(account, id, SECRET_OVERLAP_MS);
        let secret = rotated.await.map_err(|error| own.refused(error))?;
        own.log("an endpoint has a new signing secret");
        Ok(secret)
    }

    /// The endpoint with all that is known of it.
    pub(crate) async fn record(&self, own: &OwnEndpoint) -> Result<EndpointRecord> {
        let record = self.store.load_endpoints(&[own.id()]).await?.pop();
        record.ok_or_else(|| own.gone())
    }

    /// What is registered, where a filter names it.
    pub(crate) async fn member_names(&self, fields: &EndpointFields) -> Result<MemberNames> {
        let mut names = MemberNames::default();
        let mut offset = 0;
        while fields.has_names() {
            let page = self.store.applications(APPLICATIONS_PAGE, offset).await?;
            if page.items.is_empty() {
                break;
            }
            page.items
                .iter()
                .for_each(|application| names.add(application));
            offset += APPLICATIONS_PAGE;
        }
        Ok(names)
    }

    /// Whether another endpoint has the name. Looked up before the rest is checked, so that the
    /// refusal names all that is wrong at once.
    async fn is_taken(
        &self,
        account: dovecast_store::AccountId,
        fields: &EndpointFields,
        except: Option<EndpointId>,
    ) -> Result<bool> {
        match fields.name() {
            Some(name) => Ok(self.store.is_name_taken(account, name, except).await?),
            None => Ok(false),
        }
    }
}
