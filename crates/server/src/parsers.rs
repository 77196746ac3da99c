//! What is read from requests, as functions of bytes: for whoever tries the parsers with any bytes
//! (`fuzz` in the repository).
//!
//! They are the ones that requests go through; what is left out is HTTP, who has sent a request,
//! and the store.

pub use crate::api::parsers::{
    Complaint, Form, List, Refused, changed_endpoint, identity, list, message, new_endpoint,
    registration,
};
pub use crate::sources::ox::{OxMail, read as ox};
