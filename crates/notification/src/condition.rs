//! Conditions: expressions of CEL, the Common Expression Language, over a notification.
//!
//! Checked when they are saved, so that what they cost can be told: in length and depth, no loop
//! inside of another, nothing that builds lists, regular expressions that are constant and small.
//! One that would cost too much on a notification is not run on it. What cannot be told (a field
//! that is not there) does not hold. What a condition costs is told before it is run, in steps:
//! whoever has many of them to run bounds their sum.

mod check;
mod cost;

use std::cell::OnceCell;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Program, Value};

use crate::Notification;
use cost::Cost;

/// Names a condition may use.
pub const VARIABLES: [&str; 6] = [
    "account_id",
    "application",
    "event_type",
    "level",
    "message",
    "timestamp",
];
/// Notifications that are longer are not looked into: conditions on them do not hold.
const MAX_BYTES: usize = 256 * 1024;
/// What one run may cost, in steps, which are about bytes that are looked at: a tenth of a second,
/// at most.
const MAX_COST: u64 = 16 * 1024 * 1024;
/// Steps that it takes to read a byte of a notification.
const READ_COST: u64 = 16;
/// The parser and what follows it are recursive; this is more than an expression of the longest
/// length takes.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// A condition that was checked.
pub struct Condition {
    text: Box<str>,
    program: Program,
    cost: Cost,
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

/// What a condition comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The condition is true.
    Holds,
    /// The condition is false, or has no value on this notification.
    Fails,
    /// The condition was not run: the notification is too long, or it would cost too much on it.
    TooCostly,
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
            cost: Cost::of(program.expression()),
            program,
        })
    }

    /// Refuses an expression that is never true or false, such as `size(message)`: who saves one
    /// means another. What was saved earlier is run, and does not hold.
    pub fn must_be_boolean(&self) -> Result<(), ConditionError> {
        check::boolean(&self.program)
    }

    /// The expression.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is true for a notification.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        self.evaluate(facts) == Verdict::Holds
    }

    /// Runs it on a notification, unless that would cost too much.
    pub fn evaluate(&self, facts: &Facts<'_>) -> Verdict {
        if facts.notification.bytes() > MAX_BYTES {
            return Verdict::TooCostly;
        }
        let Some(read) = facts.read() else {
            return Verdict::Fails;
        };
        if self.cost.at_most(read.bytes, read.longest) > MAX_COST {
            return Verdict::TooCostly;
        }
        match self.program.execute(&read.context) {
            Ok(Value::Bool(true)) => Verdict::Holds,
            _ => Verdict::Fails,
        }
    }

    /// Steps that [`Condition::evaluate`] takes at most; the notification is read for it.
    pub fn cost(&self, facts: &Facts<'_>) -> u64 {
        let steps = facts
            .read()
            .map_or(0, |read| self.cost.at_most(read.bytes, read.longest));
        // What costs too much is not run.
        if steps > MAX_COST { 0 } else { steps }
    }

    /// Steps at most, estimated without reading the notification; may be much too high.
    pub fn cost_unread(&self, notification: &Notification) -> u64 {
        let bytes = notification.bytes();
        if bytes > MAX_BYTES {
            return 0;
        }
        // An item of a list takes two bytes.
        self.cost.at_most(bytes, bytes / 2 + 1).min(MAX_COST)
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
    read: OnceCell<Option<Read>>,
}

/// What was read.
struct Read {
    context: Context<'static, 'static>,
    /// Cost of everything that a condition can name.
    bytes: usize,
    /// Items of the longest list or object.
    longest: usize,
}

impl<'a> Facts<'a> {
    /// Nothing is read yet.
    pub fn new(notification: &'a Notification) -> Self {
        Self {
            notification,
            read: OnceCell::new(),
        }
    }

    /// Steps that it takes to read a notification.
    pub fn cost(notification: &Notification) -> u64 {
        (notification.bytes() as u64).saturating_mul(READ_COST)
    }

    fn read(&self) -> Option<&Read> {
        self.read.get_or_init(|| read(self.notification)).as_ref()
    }
}

/// Functions and operators of the language; to make them costs more than most conditions.
static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

fn read(notification: &Notification) -> Option<Read> {
    let level = notification.level.as_deref();
    let bytes = notification.bytes();
    if bytes > MAX_BYTES {
        return None;
    }
    let mut longest_of_all = 0;
    let text = |text: &str| Value::from(text.to_owned());
    let mut context = Context::with_env(Arc::clone(&STANDARD));
    // JSON may hold what no value can be made of, half of a surrogate pair or 1e400 for instance:
    // what asks for it cannot be told then, and what does not is as true as ever.
    for (name, json) in [
        ("message", &notification.message),
        ("timestamp", &notification.timestamp),
    ] {
        let json: Option<serde_json::Value> = serde_json::from_slice(json).ok();
        longest_of_all = json.as_ref().map_or(0, longest).max(longest_of_all);
        if let Some(value) = json.and_then(|json| cel::to_value(json).ok()) {
            context.add_variable_from_value(name, value);
        }
    }
    context.add_variable_from_value("application", text(&notification.application));
    context.add_variable_from_value("event_type", text(&notification.event_type));
    context.add_variable_from_value("account_id", text(&notification.account));
    context.add_variable_from_value("level", level.map_or(Value::Null, text));
    Some(Read {
        context,
        bytes,
        longest: longest_of_all,
    })
}

/// Items of the longest list or object in it.
fn longest(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Array(items) => items
            .iter()
            .fold(items.len(), |most, item| most.max(longest(item))),
        Value::Object(fields) => fields
            .values()
            .fold(fields.len(), |most, field| most.max(longest(field))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
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
