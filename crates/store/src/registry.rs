//! The registry: who may have notifications sent, of what, and where to.

mod accounts;
mod applications;
mod closing;
mod configured;
mod credentials;
mod deletion;
mod delivered;
mod disabling;
mod edit;
mod endpoint_records;
mod endpoints;
mod filters;
mod flow;
mod gone;
mod listing;
mod lost;
mod matched;
mod owners;
mod receiver;
mod registration;
pub(crate) mod sealing;
mod secret_settings;
pub(crate) mod secrets;
pub(crate) mod settings;
mod stored_words;
mod token_owners;
mod tokens;

use crate::id::Id;

pub(crate) use token_owners::TokenOwners;

pub use dovecast_notification::EndpointId;

pub use accounts::{Account, Profile};
pub use applications::{Application, EventType, Level};
pub use closing::{AccountRecord, ClosedAccount};
pub use credentials::{Credentials, CustomHeaders};
pub use delivered::Delivered;
pub use disabling::Announcement;
pub use edit::{CreatedEndpoint, EndpointEdit, FilterEdit, NewEndpoint};
pub use endpoint_records::{EndpointRecord, EventTypeName, FilterRecord, LevelName, Members};
pub use endpoints::Endpoint;
pub use filters::{Filter, FilterFields, FilterSet, FilterSets};
pub use flow::{DeliveryOrder, Flow, FlowEdit};
pub use listing::{EndpointOrder, EndpointQuery, Page, Search};
pub use owners::{MAX_APPLICATIONS, MAX_REGISTERED};
pub use receiver::{DriverSettings, Receiver};
pub use registration::{
    NewEventType, NewLevel, Registered, Registration, RegistrationChange, TouchedFilter,
};
pub use secret_settings::SecretSettings;
pub use secrets::SigningSecret;
pub use stored_words::{DeliveryStatus, EndpointKind, RetryPolicy, UnknownWord};
pub use token_owners::{ShownToken, TokenOwner};
pub use tokens::{ApiToken, MAX_ACCOUNT_TOKENS, NewToken, Scope, TokenEdit, TokenGrant};

/// Names an account.
pub type AccountId = Id<Account>;
/// Names an application.
pub type ApplicationId = Id<Application>;
/// Names an event type.
pub type EventTypeId = Id<EventType>;
/// Names a filter.
pub type FilterId = Id<Filter>;
/// Names a level.
pub type LevelId = Id<Level>;
/// Names an API token.
pub type TokenId = Id<ApiToken>;
/// Names a user.
pub type UserId = Id<Profile>;
