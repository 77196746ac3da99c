//! Stand-ins for services of mail push: each checks what the real one checks by its documentation,
//! and answers as it does.
//!
//! Apple, Google and the services of browsers cannot be had in a test. What is encrypted is opened
//! here by another implementation than the one that has sealed it.

mod apns;
mod browser;
mod fcm;
mod http1;
mod token;
mod webpush;

pub use apns::{APNS_KEY_ID, APNS_TEAM_ID, APNS_TOPIC, ApnsService, TakenApns};
pub use browser::Browser;
pub use fcm::{FcmService, fcm_error};
pub use http1::Reply;
pub use webpush::{TakenWebPush, WebPushService};
