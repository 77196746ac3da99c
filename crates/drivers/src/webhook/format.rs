//! How the body of a webhook is made: as hooks-backend has it, or by a template of the endpoint's
//! own or of a preset.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use dovecast_dispatch::driver::{Attempt, Delivery, Outcome};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value};
use url::Url;

use super::presets::{Credentials, Preset};
use super::verdict::{Success, Verdict};
use crate::template::{Form, TemplateError, Templates, Variables, Words};

/// Most parameters of an endpoint.
pub const MAX_PARAMETERS: usize = 20;

/// How the body of an endpoint is made, other than as hooks-backend has it.
#[derive(Clone, Debug)]
pub(super) struct Format {
    pub(super) content_type: HeaderValue,
    template: Words,
    preset: Option<&'static Preset>,
    /// Texts, by their names; secret.
    parameters: Map<String, Value>,
}

/// What an endpoint says of its body.
#[derive(Clone, Default)]
pub struct FormatOptions {
    /// A service.
    pub preset: Option<&'static Preset>,
    /// Goes before that of the preset.
    pub template: Option<String>,
    /// Goes before that of the preset; `application/json` without any.
    pub content_type: Option<String>,
    /// Texts for the template.
    pub parameters: Map<String, Value>,
    /// Where the template is rendered, unless it is that of a preset.
    pub templates: Templates,
    /// Number of the account that the template is of.
    pub account: Arc<str>,
    /// What the URL of the preset may begin with, besides what the service says.
    pub also_at: Vec<Url>,
}

/// Why bodies cannot be made so. Shows no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A content type that cannot stand in a header.
    #[error("`{0}` is no content type")]
    ContentType(String),
    /// A parameter that is needed as a header cannot stand in one.
    #[error("`{0}` cannot be sent in a header")]
    Parameter(&'static str),
}

const JSON: &str = "application/json";

impl Format {
    /// `None`: bodies are as hooks-backend has them.
    pub(super) fn new(options: &FormatOptions) -> Result<Option<Self>, FormatError> {
        let preset = options.preset;
        let content_type = options.content_type.as_deref();
        let content_type = content_type.or(preset.map(|preset| preset.content_type));
        let content_type = content_type.unwrap_or(JSON);
        let form = Form::of(content_type);
        let template = match (&options.template, preset) {
            (Some(own), _) => options.templates.of_account(&options.account, own, form)?,
            (None, Some(preset)) => Words::ours(preset.template, form)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Self {
            template,
            content_type: HeaderValue::try_from(content_type)
                .map_err(|_| FormatError::ContentType(content_type.to_owned()))?,
            preset,
            parameters: options.parameters.clone(),
        }))
    }

    /// The header by which a service knows who sends, if it is a parameter.
    pub(super) fn header(
        options: &FormatOptions,
    ) -> Result<Option<(HeaderName, HeaderValue)>, FormatError> {
        let Some(Preset {
            credentials:
                Credentials::Header {
                    name,
                    prefix,
                    parameter,
                },
            ..
        }) = options.preset
        else {
            return Ok(None);
        };
        let value = options.parameters.get(*parameter).and_then(Value::as_str);
        let bad = |_| FormatError::Parameter(parameter);
        let mut value =
            HeaderValue::try_from(format!("{prefix}{}", value.unwrap_or_default())).map_err(bad)?;
        value.set_sensitive(true);
        Ok(Some((HeaderName::from_static(name), value)))
    }

    /// How often the service may be called in a second.
    pub(super) fn rate(&self) -> Option<NonZeroU32> {
        self.preset?.rate
    }

    /// Makes the body of a delivery.
    pub(super) async fn body(&self, delivery: &Delivery) -> Result<Bytes, TemplateError> {
        match Variables::of(delivery, &self.parameters) {
            Some(variables) => self.template.render(&variables).await,
            None => Ok(Bytes::new()),
        }
    }

    /// Checks what is checked by trying only.
    pub(super) async fn check(&self) -> Result<(), TemplateError> {
        self.template.check().await
    }

    /// Whether the body of an answer says more than its status.
    pub(super) fn judges_bodies(&self) -> bool {
        let success = self.preset.map(|preset| preset.success);
        matches!(success, Some(Success::Body(_)))
    }

    /// Corrects what the status of an answer has said.
    pub(super) fn judge(&self, attempt: Attempt, body: &[u8]) -> Attempt {
        let (Outcome::Delivered, Some(Success::Body(judge))) =
            (&attempt.outcome, self.preset.map(|preset| preset.success))
        else {
            return attempt;
        };
        let outcome = match judge(body) {
            Verdict::Success => Outcome::Delivered,
            Verdict::Later(reason) => Outcome::Failed {
                reason,
                retry_after: None,
            },
            Verdict::Never(reason) => Outcome::Refused { reason },
        };
        Attempt { outcome, ..attempt }
    }
}

#[cfg(test)]
mod tests;
