//! What an expression may not have, so that running it is bounded.

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::{IdedExpr, ParseErrors, Program};
use dovecast_event::brief;
use regex::RegexBuilder;

use super::{ConditionError, VARIABLES};

const MAX_CHARS: usize = 2_000;
/// Brackets and `?:` inside of each other.
const MAX_NESTING: usize = 30;
/// Deepest tree of an expression. The interpreter goes down in it on the stack of a worker, and
/// takes tens of kilobytes for each step where it was not optimised.
const MAX_DEPTH: usize = 32;
const MAX_NODES: usize = 500;
/// What a regular expression may take when it is compiled.
const MAX_REGEX_BYTES: usize = 64 * 1024;

/// Looks at the text, before the parser does.
pub(super) fn text(text: &str) -> Result<(), ConditionError> {
    let at = |chars_before: usize, reason: String| {
        let (line, column) = place(text.chars().take(chars_before));
        ConditionError {
            reason,
            line,
            column,
        }
    };
    if text.trim().is_empty() {
        return Err(at(0, "an expression is expected".to_owned()));
    }
    let chars = text.chars().count();
    if chars > MAX_CHARS {
        return Err(at(
            MAX_CHARS,
            format!("{chars} characters are more than {MAX_CHARS}"),
        ));
    }
    let (mut depth, mut questions) = (0_usize, 0);
    for (place, char) in text.chars().enumerate() {
        match char {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '?' => questions += 1,
            _ => {}
        }
        if depth > MAX_NESTING || questions > MAX_NESTING {
            return Err(at(
                place,
                format!("more than {MAX_NESTING} brackets or `?` are inside of each other"),
            ));
        }
    }
    Ok(())
}

/// Line and column, from 1, of what comes after these.
fn place(before: impl Iterator<Item = char>) -> (usize, usize) {
    before.fold((1, 1), |(line, column), char| match char {
        '\n' => (line + 1, 1),
        _ => (line, column + 1),
    })
}

/// The first error of the parser.
pub(super) fn parse_error(errors: &ParseErrors) -> ConditionError {
    let place = |at: isize| usize::try_from(at).unwrap_or(1).max(1);
    match errors.errors.first() {
        Some(error) => ConditionError {
            reason: brief(error.msg.lines().next().unwrap_or_default()),
            line: place(error.pos.0),
            column: place(error.pos.1),
        },
        None => ConditionError {
            reason: "not an expression of CEL".to_owned(),
            line: 1,
            column: 1,
        },
    }
}

/// Looks at what the parser has made of it.
pub(super) fn program(program: &Program) -> Result<(), ConditionError> {
    let mut check = Check {
        program,
        nodes: 0,
        names: VARIABLES.map(str::to_owned).to_vec(),
        is_in_loop: false,
    };
    check.expression(program.expression(), 0)
}

/// Refuses an expression that is neither true nor false on any notification, as far as that can be
/// told: fields of a message may be anything.
pub(super) fn boolean(program: &Program) -> Result<(), ConditionError> {
    let check = Check {
        program,
        nodes: 0,
        names: Vec::new(),
        is_in_loop: false,
    };
    check.boolean(program.expression())
}

struct Check<'a> {
    program: &'a Program,
    nodes: usize,
    names: Vec<String>,
    is_in_loop: bool,
}

impl Check<'_> {
    fn refuse<T>(&self, at: &IdedExpr, reason: impl Into<String>) -> Result<T, ConditionError> {
        let info = self.program.source_info();
        let offset = info
            .offset_for(at.id)
            .map_or(0, |(start, _)| start as usize);
        let (line, column) = place(info.source.chars().take(offset));
        Err(ConditionError {
            reason: brief(&reason.into()),
            line,
            column,
        })
    }

    fn boolean(&self, at: &IdedExpr) -> Result<(), ConditionError> {
        let is = |what: &str| self.refuse(at, format!("this is {what}, and never true or false"));
        match &at.expr {
            Expr::Literal(LiteralValue::Boolean(_)) => Ok(()),
            Expr::Literal(LiteralValue::String(_)) => is("a text"),
            Expr::Literal(LiteralValue::Null) => is("null"),
            Expr::Literal(LiteralValue::Bytes(_)) => is("bytes"),
            Expr::Literal(_) => is("a number"),
            Expr::List(_) => is("a list"),
            Expr::Map(_) => is("a map"),
            Expr::Ident(name) if name != "message" => is("a text"),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let mut args = call.args.iter();
                match name {
                    operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => {
                        args.try_for_each(|arg| self.boolean(arg))
                    }
                    // The first argument is the question.
                    operators::CONDITIONAL => args.skip(1).try_for_each(|arg| self.boolean(arg)),
                    _ if VALUES.contains(&name) => is("a value"),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn expression(&mut self, at: &IdedExpr, depth: usize) -> Result<(), ConditionError> {
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return self.refuse(at, "the expression is too complex");
        }
        match &at.expr {
            Expr::Literal(_) => Ok(()),
            // The interpreter would panic.
            Expr::Unspecified => self.refuse(at, "an expression is expected"),
            Expr::Ident(name) => {
                if self.names.iter().any(|known| known == name) {
                    return Ok(());
                }
                let known = VARIABLES.join("`, `");
                self.refuse(at, format!("unknown name `{name}` (known: `{known}`)"))
            }
            Expr::Select(select) => self.expression(&select.operand, depth + 1),
            Expr::List(list) => self.all(&list.elements, depth),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expression(&entry.key, depth + 1)?;
                    self.expression(&entry.value, depth + 1)
                }
                EntryExpr::StructField(_) => self.refuse(at, "not an entry of a map"),
            }),
            Expr::Struct(_) => self.refuse(at, "there are no messages of other types here"),
            Expr::Call(call) => self.call(at, call, depth),
            Expr::Comprehension(comprehension) => self.comprehension(at, comprehension, depth),
        }
    }

    fn all(&mut self, list: &[IdedExpr], depth: usize) -> Result<(), ConditionError> {
        list.iter()
            .try_for_each(|element| self.expression(element, depth + 1))
    }

    fn call(&mut self, at: &IdedExpr, call: &CallExpr, depth: usize) -> Result<(), ConditionError> {
        if let Some(target) = &call.target {
            self.expression(target, depth + 1)?;
        }
        self.all(&call.args, depth)?;
        if call.func_name == "matches" {
            return self.regex(at, call);
        }
        let name = call.func_name.as_str();
        if OPERATORS.contains(&name) || FUNCTIONS.contains(&name) {
            return Ok(());
        }
        self.refuse(at, format!("unknown function `{}`", call.func_name))
    }

    fn regex(&self, at: &IdedExpr, call: &CallExpr) -> Result<(), ConditionError> {
        if self.is_in_loop {
            return self.refuse(at, "`matches` cannot be used within `all` and `exists`");
        }
        let Some(Expr::Literal(LiteralValue::String(pattern))) =
            call.args.last().map(|pattern| &pattern.expr)
        else {
            return self.refuse(at, "`matches` needs a constant pattern");
        };
        let built = RegexBuilder::new(pattern.inner())
            .size_limit(MAX_REGEX_BYTES)
            .build();
        match built {
            Ok(_) => Ok(()),
            Err(regex::Error::CompiledTooBig(_)) => {
                self.refuse(at, "this regular expression is too large")
            }
            Err(error) => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                self.refuse(at, format!("not a regular expression: {last}"))
            }
        }
    }

    /// `all`, `exists` and `exists_one`; `map` and `filter` build lists.
    fn comprehension(
        &mut self,
        at: &IdedExpr,
        of: &ComprehensionExpr,
        depth: usize,
    ) -> Result<(), ConditionError> {
        if matches!(of.accu_init.expr, Expr::List(_) | Expr::Map(_)) {
            return self.refuse(
                at,
                "`map` and `filter` cannot be used here, `all` and `exists` can",
            );
        }
        if self.is_in_loop {
            return self.refuse(at, "`all` and `exists` cannot be inside of each other");
        }
        self.expression(&of.iter_range, depth + 1)?;
        let known = self.names.len();
        self.names.push(of.iter_var.clone());
        self.names.extend(of.iter_var2.clone());
        self.names.push(of.accu_var.clone());
        self.is_in_loop = true;
        for part in [&of.accu_init, &of.loop_cond, &of.loop_step, &of.result] {
            self.expression(part, depth + 1)?;
        }
        self.is_in_loop = false;
        self.names.truncate(known);
        Ok(())
    }
}

/// Functions that are written with signs; their names cannot be called.
const OPERATORS: [&str; 19] = [
    operators::ADD,
    operators::CONDITIONAL,
    operators::DIVIDE,
    operators::EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::IN,
    operators::INDEX,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::LOGICAL_AND,
    operators::LOGICAL_NOT,
    operators::LOGICAL_OR,
    operators::MODULO,
    operators::MULTIPLY,
    operators::NEGATE,
    operators::NOT_EQUALS,
    operators::NOT_STRICTLY_FALSE,
    operators::SUBSTRACT,
];
/// Functions and operators that make a number, a text or bytes.
const VALUES: [&str; 13] = [
    operators::ADD,
    operators::DIVIDE,
    operators::MODULO,
    operators::MULTIPLY,
    operators::NEGATE,
    operators::SUBSTRACT,
    "bytes",
    "double",
    "duration",
    "int",
    "size",
    "string",
    "uint",
];
/// Functions whose cost is that of their arguments.
const FUNCTIONS: [&str; 14] = [
    operators::HAS,
    "bool",
    "bytes",
    "contains",
    "double",
    "duration",
    "endsWith",
    "int",
    "max",
    "min",
    "size",
    "startsWith",
    "string",
    "uint",
];
