//! Conditions: expressions of CEL, the Common Expression Language, over a notification.
//!
//! Checked when they are saved, so that what they cost when they run is bounded: in length and depth, one loop inside of
//! another at most none, nothing that builds lists, regular expressions that are constant and small. What cannot be told (a field that is
//! not there) does not hold.

mod check;

use std::cell::OnceCell;
use std::fmt;

use cel::{Context, Program, Value};

use crate::Notification;

/// Names a condition may use.
pub const VARIABLES: [&str; 6] = [
    "account_id",
    "application",
    "event_type",
    "level",
    "message",
    "timestamp",
];
/// Messages that are longer are not looked into: conditions on them do not hold.
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// The parser and what follows it are recursive; this is more than an expression of the longest length takes.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// A condition that was checked.
pub struct Condition {
    text: Box<str>,
    program: Program,
}

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (line {line}, column {column})")]
pub struct ConditionError {
    /// What is wrong.
    pub reason: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
}

impl Condition {
    /// Parses and checks an expression.
    pub fn new(text: &str) -> Result<Self, ConditionError> {
        check::text(text)?;
        let program = on_a_large_stack(|| {
            let program = Program::compile(text).map_err(|errors| check::parse_error(&errors))?;
            check::program(&program)?;
            Ok(program)
        })?;
        Ok(Self {
            text: text.into(),
            program,
        })
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is true for a notification.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        match facts.context() {
            Some(context) => matches!(self.program.execute(context), Ok(Value::Bool(true))),
            None => false,
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.text).finish()
    }
}

/// A notification as conditions see it; read when the first condition asks.
pub struct Facts<'a> {
    notification: &'a Notification,
    context: OnceCell<Option<Context<'static, 'static>>>,
}

impl<'a> Facts<'a> {
    /// Nothing is read yet.
    pub fn new(notification: &'a Notification) -> Self {
        Self {
            notification,
            context: OnceCell::new(),
        }
    }

    fn context(&self) -> Option<&Context<'static, 'static>> {
        let context = self.context.get_or_init(|| read(self.notification));
        context.as_ref()
    }
}

fn read(notification: &Notification) -> Option<Context<'static, 'static>> {
    if notification.message.len() > MAX_MESSAGE_BYTES {
        return None;
    }
    let json = |bytes: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        cel::to_value(value).ok()
    };
    let text = |text: &str| Value::from(text.to_owned());
    let mut context = Context::default();
    context.add_variable_from_value("message", json(&notification.message)?);
    context.add_variable_from_value("timestamp", json(&notification.timestamp)?);
    context.add_variable_from_value("application", text(&notification.application));
    context.add_variable_from_value("event_type", text(&notification.event_type));
    context.add_variable_from_value("account_id", text(&notification.account));
    let level = notification.level.as_deref();
    context.add_variable_from_value("level", level.map_or(Value::Null, text));
    Some(context)
}

fn on_a_large_stack<T: Send>(
    work: impl FnOnce() -> Result<T, ConditionError> + Send,
) -> Result<T, ConditionError> {
    let failed = |reason: &str| ConditionError {
        reason: reason.to_owned(),
        line: 1,
        column: 1,
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("condition".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|error| failed(&format!("cannot be checked now: {error}")))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(failed("this expression cannot be understood")))
    })
}

#[cfg(test)]
mod tests;
