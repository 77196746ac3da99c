//! Whose a template is, which decides where it is rendered: one of ours in this process, one of an
//! account where it can harm nobody.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::host::TemplateHost;
use super::{Form, MAX_SOURCE_BYTES, Template, TemplateError};

/// Where templates of accounts are rendered.
#[derive(Clone, Debug, Default)]
pub enum Templates {
    /// Nowhere: accounts may have none.
    Refused,
    /// In processes of their own, whose memory is bounded.
    Hosted(TemplateHost),
    /// In this process, for those who trust whoever writes them: their steps are bounded, and what
    /// one step makes is not.
    #[default]
    Trusted,
}

/// A template, and where it is rendered.
#[derive(Clone, Debug)]
pub(crate) enum Words {
    Here(Template),
    Hosted {
        source: Box<str>,
        form: Form,
        account: Arc<str>,
        host: TemplateHost,
    },
}

impl Templates {
    /// A template of an account. One that is hosted is checked by [`Words::check`] only.
    pub(crate) fn of_account(
        &self,
        account: &Arc<str>,
        source: &str,
        form: Form,
    ) -> Result<Words, TemplateError> {
        match self {
            Self::Refused => Err(TemplateError::NotAllowed),
            Self::Hosted(_) if source.len() > MAX_SOURCE_BYTES => Err(TemplateError::TooLong),
            Self::Hosted(host) => Ok(Words::Hosted {
                source: source.into(),
                form,
                account: Arc::clone(account),
                host: host.clone(),
            }),
            Self::Trusted => Template::new(source, form).map(Words::Here),
        }
    }
}

impl Words {
    /// A template that is part of this program.
    pub(crate) fn ours(source: &str, form: Form) -> Result<Self, TemplateError> {
        Template::ours(source, form).map(Self::Here)
    }

    /// Checks what was not checked when it was made.
    pub(crate) async fn check(&self) -> Result<(), TemplateError> {
        match self {
            Self::Here(_) => Ok(()),
            Self::Hosted {
                source,
                form,
                account,
                host,
            } => host.check(account, source, *form).await,
        }
    }

    /// Makes the body.
    pub(crate) async fn render(
        &self,
        variables: &(impl Serialize + Sync),
    ) -> Result<Bytes, TemplateError> {
        match self {
            Self::Here(template) => template.render(variables),
            Self::Hosted {
                source,
                form,
                account,
                host,
            } => host.render(account, (source, *form), variables).await,
        }
    }
}
