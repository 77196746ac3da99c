//! Templates: what an endpoint is sent as it wants it, made of a notification.
//!
//! What a template may cost is bounded: its length, its steps, its depth and what it writes. To
//! write a name that is not there is an error, so that a mistake is not delivered; to ask for it is
//! none. An error never cites a value: those are of a mail.

mod bounded;
mod filters;
pub mod host;
mod source;
mod variables;
mod words;

use std::io;
use std::sync::LazyLock;

use bytes::Bytes;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use bounded::Bounded;
pub use source::Templates;
pub(crate) use source::Words;
pub(crate) use variables::Variables;

/// Longest source of a template, in bytes.
pub const MAX_SOURCE_BYTES: usize = 64 * 1024;
/// Most bytes that a template writes.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// Most bytes that one of ours writes: the longest message, and what stands around it.
const MAX_OUTPUT_BYTES_OF_OURS: usize = 2 * MAX_OUTPUT_BYTES;
/// Most steps of a template: what a body of some kB takes is a hundredth.
const MAX_STEPS: u64 = 50_000;
/// Deepest nesting of macros and blocks.
const MAX_DEPTH: usize = 32;

/// How the body is written, which decides how values are escaped in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// JSON; it is checked that it is some.
    Json,
    /// HTML or XML.
    Html,
    /// A JSON object of texts, sent as the fields of a form.
    Fields,
    /// Text, in which nothing is escaped.
    Text,
}

/// A template that was checked.
#[derive(Clone, Debug)]
pub struct Template {
    source: Box<str>,
    form: Form,
    is_ours: bool,
}

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TemplateError {
    /// Accounts have none here.
    #[error(
        "is not allowed on this dovecast (`account_templates` in [dispatch] of its configuration)"
    )]
    NotAllowed,
    /// Longer than templates may be.
    #[error("is longer than {MAX_SOURCE_BYTES} bytes")]
    TooLong,
    /// No template, or it fails with this notification.
    #[error("line {line}, column {column}: {reason}")]
    At {
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// The template fails, and it is not known where.
    #[error("{0}")]
    Somewhere(String),
    /// What it makes is no JSON.
    #[error("makes no JSON (line {line}, column {column} of what it makes)")]
    NoJson {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// What it makes is no object of texts.
    #[error("makes no JSON object of texts, which a form is made of")]
    NoFields,
    /// More memory than there is for it: the process has died of it.
    #[error("takes more than {} MiB of memory", host::MAX_MEMORY_BYTES / 1024 / 1024)]
    TooMuch,
    /// More time than there is for it: the process was killed.
    #[error("takes longer than {} s", host::TIME_LIMIT.as_secs())]
    TooSlow,
    /// Nothing is known of the template.
    #[error("is not rendered: the process for it cannot be started: {0}")]
    NoProcess(String),
}

impl Form {
    /// The form of a content type.
    pub fn of(content_type: &str) -> Self {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        if essence == "application/x-www-form-urlencoded" {
            Self::Fields
        } else if essence.ends_with("/json") || essence.ends_with("+json") {
            Self::Json
        } else if ["html", "xml"].iter().any(|end| essence.ends_with(end)) {
            Self::Html
        } else {
            Self::Text
        }
    }

    /// Name of a template, by which values are escaped.
    fn name(self) -> &'static str {
        match self {
            Self::Json | Self::Fields => "body.json",
            Self::Html => "body.html",
            Self::Text => "body.txt",
        }
    }
}

static ENVIRONMENT: LazyLock<Environment<'static>> =
    LazyLock::new(|| environment(UndefinedBehavior::SemiStrict));

/// The environment of templates of ours, whose steps go by what they write.
static OURS: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment(UndefinedBehavior::SemiStrict);
    environment.set_fuel(None);
    environment
});

/// An environment in which a name that is not there is no error: for a notification of which
/// nothing is known.
static TRIAL: LazyLock<Environment<'static>> =
    LazyLock::new(|| environment(UndefinedBehavior::Chainable));

fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(undefined);
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_auto_escape_callback(|name| match name {
        "body.json" => AutoEscape::Json,
        "body.html" => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    // With it an error holds what the names in its place stand for.
    environment.set_debug(false);
    filters::add(&mut environment);
    environment
}

impl Template {
    /// Checks a template.
    pub fn new(source: &str, form: Form) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(TemplateError::TooLong);
        }
        let environment: &Environment<'_> = &TRIAL;
        let template = environment.template_from_named_str(form.name(), source);
        let template = template.map_err(|error| told(&error, source, true))?;
        // Names of filters are looked up only when they are used.
        let tried = template.render_captured_to(Value::UNDEFINED, Bounded::new(MAX_OUTPUT_BYTES));
        if let Err(error) = tried
            && is_of_any_notification(error.kind())
        {
            return Err(told(&error, source, true));
        }
        Ok(Self {
            source: source.into(),
            form,
            is_ours: false,
        })
    }

    /// Checks a template that is part of this program: it makes a body of any notification.
    pub(crate) fn ours(source: &str, form: Form) -> Result<Self, TemplateError> {
        let template = Self::new(source, form)?;
        Ok(Self {
            is_ours: true,
            ..template
        })
    }

    /// Makes the body.
    pub fn render(&self, variables: &impl Serialize) -> Result<Bytes, TemplateError> {
        let (environment, most): (&Environment<'_>, _) = if self.is_ours {
            (&OURS, MAX_OUTPUT_BYTES_OF_OURS)
        } else {
            (&ENVIRONMENT, MAX_OUTPUT_BYTES)
        };
        let fail = |error: Error| told(&error, &self.source, false);
        let template = environment
            .template_from_named_str(self.form.name(), &self.source)
            .map_err(fail)?;
        let mut out = Bounded::new(most);
        template
            .render_captured_to(Value::from(minijinja::value::Serde(variables)), &mut out)
            .map_err(fail)?;
        let out = out.into_bytes();
        match self.form {
            Form::Json => checked(out),
            Form::Fields => fields(&checked(out)?),
            Form::Html | Form::Text => Ok(out.into()),
        }
    }
}

/// Whether a template that fails so fails with every notification that comes to the same place.
fn is_of_any_notification(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnknownFilter | ErrorKind::UnknownFunction | ErrorKind::UnknownTest
    )
}

/// Refuses what is no JSON.
fn checked(out: Vec<u8>) -> Result<Bytes, TemplateError> {
    match serde_json::from_slice::<IgnoredAny>(&out) {
        Ok(_) => Ok(out.into()),
        Err(error) => Err(TemplateError::NoJson {
            line: error.line(),
            column: error.column(),
        }),
    }
}

/// The fields of a form, in the order in which they are written.
fn fields(json: &[u8]) -> Result<Bytes, TemplateError> {
    let read: filters::Pairs = serde_json::from_slice(json).map_err(|_| TemplateError::NoFields)?;
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in &read.0 {
        form.append_pair(name, value);
    }
    Ok(form.finish().into())
}

/// What is told of an error. `is_static`: it is about the source, and cites nothing else.
fn told(error: &Error, source: &str, is_static: bool) -> TemplateError {
    let mut reason = error.kind().to_string();
    let behind = std::error::Error::source(error);
    if behind.is_some_and(<dyn std::error::Error>::is::<io::Error>) {
        reason = format!("it writes more than {MAX_OUTPUT_BYTES} bytes");
    } else if error.kind() == ErrorKind::OutOfFuel {
        reason = format!("it takes more than {MAX_STEPS} steps");
    } else if is_static && let Some(detail) = error.detail() {
        reason = format!("{reason}: {detail}");
    }
    let at = error.range().map(|range| range.start);
    match (at.and_then(|at| source.get(..at)), error.line()) {
        (Some(before), _) => {
            let last = before.rsplit('\n').next().unwrap_or_default();
            TemplateError::At {
                line: before.matches('\n').count() + 1,
                column: last.chars().count() + 1,
                reason,
            }
        }
        (None, Some(line)) => TemplateError::At {
            line,
            column: 1,
            reason,
        },
        (None, None) => TemplateError::Somewhere(reason),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn rendered(form: Form, source: &str, variables: &Json) -> Result<String, String> {
        let template = Template::new(source, form).map_err(|error| error.to_string())?;
        let body = template.render(variables);
        let body = body.map_err(|error| error.to_string())?;
        Ok(String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    #[test]
    fn values_are_escaped_as_the_form_of_the_body_has_it() {
        let mail = json!({"subject": "a \"b\" <c> & ü\n", "uid": 7, "flags": ["x"], "to": "+49 1"});
        for (form, source, expected) in [
            (
                Form::Json,
                r#"{"text": {{ subject }}, "uid": {{ uid }}, "flags": {{ flags }}}"#,
                r#"{"text": "a \"b\" <c> & ü\n", "uid": 7, "flags": ["x"]}"#,
            ),
            (
                Form::Html,
                "<p>{{ subject }}</p>",
                "<p>a &quot;b&quot; &lt;c&gt; &amp; ü\n</p>",
            ),
            (Form::Text, "{{ subject }}", "a \"b\" <c> & ü\n"),
            (
                Form::Fields,
                r#"{"To": {{ to }}, "Body": {{ subject }}}"#,
                "To=%2B49+1&Body=a+%22b%22+%3Cc%3E+%26+%C3%BC%0A",
            ),
        ] {
            assert_eq!(rendered(form, source, &mail).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_cites_no_value() {
        let mail = json!({"subject": "s3cret", "list": ["s3cret"]});
        for (source, expected) in [
            ("{{ subject", "line 1, column 4: syntax error"),
            ("a\n  {% if %}", "line 2, column 9: syntax error"),
            ("\n{{ nothing }}", "line 2, column 4: undefined value"),
            ("{{ subject|nothing }}", "line 1, column 12: unknown filter"),
            ("{{ subject + 1 }}", "line 1, column 4: invalid operation"),
            ("{{ subject.a.b }}", "line 1, column"),
            ("{{ subject|int }}", "line 1, column"),
        ] {
            let error = rendered(Form::Text, source, &mail).expect_err(source);
            assert!(error.starts_with(expected), "{source}: {error}");
            assert!(!error.contains("s3cret"), "{source}: {error}");
        }
        let error = rendered(Form::Json, r#"{"a": "{{ subject }}"}"#, &mail);
        assert_eq!(
            error,
            Err("makes no JSON (line 1, column 9 of what it makes)".to_owned())
        );
        let error = rendered(Form::Fields, r#"{"a": 1}"#, &mail);
        assert_eq!(
            error,
            Err("makes no JSON object of texts, which a form is made of".to_owned())
        );
    }

    #[test]
    fn a_template_is_bounded_in_all_that_it_could_take() {
        let long = "x".repeat(MAX_SOURCE_BYTES + 1);
        let nested = "{% if 1 %}".repeat(2_000) + &"{% endif %}".repeat(2_000);
        let brackets = format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000));
        for (source, variables) in [
            (&*long, json!({})),
            (&*nested, json!({})),
            (&*brackets, json!({})),
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                json!({}),
            ),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", json!({})),
            ("{{ 'xxxxxxxxxx' * 1000000000 }}", json!({})),
            (
                "{% for i in range(3000) %}{{ text }}{% endfor %}",
                json!({"text": "x".repeat(1000)}),
            ),
            (
                "{% set a = [text, text, text, text] %}{% set a = [a, a, a, a, a, a] %}{% set a = [a, a, a, a, a, a, a] %}{{ [a, a, a, a, a, a, a, a, a, a] }}",
                json!({"text": "x".repeat(1000)}),
            ),
        ] {
            let made = rendered(Form::Text, source, &variables);
            assert!(
                made.is_err(),
                "{:.60}: {:?}",
                source,
                made.map(|made| made.len())
            );
        }
    }
}
