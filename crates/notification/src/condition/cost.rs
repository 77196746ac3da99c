//! What running an expression may cost, told by the expression, before it is run.
//!
//! The interpreter has no limit of its own. An operation is taken to look at all of its operands, a
//! name of the notification to be all of it, and a loop to go through its longest list. So the cost
//! is at most `fixed + per_byte * bytes + per_item * longest + per_item_and_byte * longest *
//! bytes`, and only the factors are to be found out. A unit is about a byte that is looked at.

use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr, operators,
};

/// A step of the interpreter.
const STEP: u64 = 8;
/// Values that are made anew, in pieces of some bytes.
const COPY: u64 = 8;
/// A regular expression looks at a byte with many states at once, and is compiled each time.
const REGEX: u64 = 64;
const REGEX_COMPILED: u64 = 100_000;

/// How the cost of running an expression grows with what it is run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cost {
    fixed: u64,
    per_byte: u64,
    per_item: u64,
    per_item_and_byte: u64,
}

impl Cost {
    /// The cost of an expression that was checked.
    pub(super) fn of(expression: &IdedExpr) -> Self {
        let mut counting = Counting::default();
        counting.size(expression);
        counting.cost
    }

    /// At most, on a notification of so many bytes whose longest list or object has so many items.
    pub(super) fn at_most(self, bytes: usize, longest: usize) -> u64 {
        let (bytes, longest) = (bytes as u64, longest as u64);
        self.fixed
            .saturating_add(self.per_byte.saturating_mul(bytes))
            .saturating_add(self.per_item.saturating_mul(longest))
            .saturating_add(
                self.per_item_and_byte
                    .saturating_mul(longest)
                    .saturating_mul(bytes),
            )
    }
}

/// How long a value is at most.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Bytes whatever the notification is.
    fixed: u64,
    /// How many times the size of the notification.
    notifications: u64,
    /// How many times the size of an item of the loop that the value is in.
    items: u64,
}

impl Size {
    const ONE: Self = Self {
        fixed: 1,
        notifications: 0,
        items: 0,
    };

    fn and(self, other: Self) -> Self {
        Self {
            fixed: self.fixed.saturating_add(other.fixed),
            notifications: self.notifications.saturating_add(other.notifications),
            items: self.items.saturating_add(other.items),
        }
    }

    /// Two that are compared are looked at as far as the shorter one goes.
    fn shorter(self, other: Self) -> Self {
        match (self.notifications, other.notifications) {
            (0, _) => self,
            (_, 0) => other,
            _ => self.and(other),
        }
    }
}

#[derive(Default)]
struct Counting<'a> {
    cost: Cost,
    /// The loop that is looked at: its variables, and the size of its list.
    within: Option<(Vec<&'a str>, Size)>,
}

impl<'a> Counting<'a> {
    /// Something is done, and takes `weight` for each unit of a size.
    fn spend(&mut self, weight: u64, size: Size) {
        let times = |a: u64, b: u64| weight.saturating_mul(a).saturating_mul(b);
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more);
        let cost = &mut self.cost;
        let Some((_, list)) = &self.within else {
            add(&mut cost.fixed, times(1, size.fixed));
            add(&mut cost.per_byte, times(1, size.notifications));
            return;
        };
        // As often as there are items; all items together are as long as the list.
        add(&mut cost.fixed, times(list.fixed, size.fixed));
        add(&mut cost.fixed, times(list.fixed, size.items));
        add(&mut cost.per_byte, times(list.fixed, size.notifications));
        add(&mut cost.per_byte, times(list.notifications, size.items));
        add(&mut cost.per_item, times(list.notifications, size.fixed));
        let each = times(list.notifications, size.notifications);
        add(&mut cost.per_item_and_byte, each);
    }

    /// How long the value of an expression is; what it takes is spent.
    fn size(&mut self, at: &'a IdedExpr) -> Size {
        self.spend(STEP, Size::ONE);
        match &at.expr {
            Expr::Unspecified | Expr::Struct(_) => Size::ONE,
            Expr::Literal(literal) => literal_size(literal),
            Expr::Ident(name) => self.name(name),
            Expr::Select(SelectExpr { operand, test, .. }) => {
                let of = self.size(operand);
                if *test { Size::ONE } else { of }
            }
            Expr::List(list) => {
                let all = self.sum(&list.elements);
                self.spend(COPY, all);
                all
            }
            Expr::Map(map) => {
                let mut all = Size::ONE;
                for entry in &map.entries {
                    all = match &entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            all.and(self.size(&entry.key)).and(self.size(&entry.value))
                        }
                        EntryExpr::StructField(field) => all.and(self.size(&field.value)),
                    };
                }
                self.spend(COPY, all);
                all
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    fn name(&self, name: &str) -> Size {
        match &self.within {
            // The accumulator of `all` and of `exists` is a truth value, that of `exists_one` a
            // number.
            Some((variables, _)) if variables.first() == Some(&name) => Size::ONE,
            Some((variables, _)) if variables.contains(&name) => Size {
                items: 1,
                ..Size::ONE
            },
            _ => Size {
                notifications: 1,
                ..Size::ONE
            },
        }
    }

    fn sum(&mut self, list: &'a [IdedExpr]) -> Size {
        list.iter()
            .fold(Size::ONE, |all, element| all.and(self.size(element)))
    }

    fn call(&mut self, call: &'a CallExpr) -> Size {
        let target = call.target.as_deref().map(|target| self.size(target));
        let arguments: Vec<Size> = call.args.iter().map(|one| self.size(one)).collect();
        let operands: Vec<Size> = target.into_iter().chain(arguments).collect();
        let all = operands.iter().fold(Size::ONE, |all, one| all.and(*one));
        let (weight, looked_at, made) = match (&*call.func_name, &operands[..]) {
            (
                operators::LOGICAL_AND
                | operators::LOGICAL_OR
                | operators::LOGICAL_NOT
                | operators::NOT_STRICTLY_FALSE
                | operators::NEGATE,
                _,
            ) => (0, all, Size::ONE),
            (operators::CONDITIONAL, [_, yes, no]) => (0, all, yes.and(*no)),
            (operators::INDEX, [of, at]) => (1, *at, *of),
            (
                operators::EQUALS
                | operators::NOT_EQUALS
                | operators::LESS
                | operators::LESS_EQUALS
                | operators::GREATER
                | operators::GREATER_EQUALS
                | "startsWith"
                | "endsWith",
                [left, right],
            ) => (1, left.shorter(*right), Size::ONE),
            ("matches", _) => {
                self.spend(REGEX_COMPILED, Size::ONE);
                (REGEX, all, Size::ONE)
            }
            (operators::IN | "contains" | "size" | "bool" | "double" | "int" | "uint", _) => {
                (1, all, Size::ONE)
            }
            // What makes something of its operands, or may.
            _ => (COPY, all, all),
        };
        self.spend(weight, looked_at);
        made
    }

    fn comprehension(&mut self, of: &'a ComprehensionExpr) -> Size {
        let list = self.size(&of.iter_range);
        let mut variables = vec![&*of.accu_var, &*of.iter_var];
        variables.extend(of.iter_var2.as_deref());
        self.size(&of.accu_init);
        let around = self.within.replace((variables, list));
        // Each item is copied.
        self.spend(
            COPY,
            Size {
                items: 1,
                ..Size::ONE
            },
        );
        self.size(&of.loop_cond);
        self.size(&of.loop_step);
        self.size(&of.result);
        self.within = around;
        Size::ONE
    }
}

fn literal_size(literal: &LiteralValue) -> Size {
    let fixed = match literal {
        LiteralValue::String(text) => text.inner().len() as u64,
        LiteralValue::Bytes(bytes) => bytes.inner().len() as u64,
        // Digits, where it is made a text.
        LiteralValue::Double(_) => 400,
        _ => 20,
    };
    Size {
        fixed: fixed + 1,
        ..Size::ONE
    }
}
