//! What is said about the filter of an endpoint, checked. A key that is none is refused: whoever
//! misspells a set means to narrow the filter, and would open it.

use std::collections::{BTreeMap, HashSet};

use dovecast_notification::Condition;
use dovecast_store::{FilterEdit, FilterFields, FilterSets, Id, MemberKind};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use utoipa::ToSchema;

use super::{Checked, MemberNames, said};
use crate::refusal::{Fault, escaped};

/// Most members of one set of a filter.
const MAX_MEMBERS: usize = 1000;

/// Filter of an endpoint. If one of the sets is given, all three are replaced: a set that is not
/// given is empty, and an empty set matches anything.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct FilterRequest {
    /// Whether to remove the filter: the endpoint receives nothing then.
    #[serde(rename = "_destroy")]
    #[schema(value_type = Option<bool>)]
    destroy: Option<Value>,
    /// Whether the filter matches anything.
    enabled: Option<bool>,
    /// CEL expression that must hold, too; null for none.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<String>)]
    condition: Option<Option<String>>,
    /// Ids of applications, at most 1000.
    #[schema(value_type = Option<Vec<String>>)]
    app_ids: Option<Vec<Value>>,
    /// Ids of event types, at most 1000.
    #[schema(value_type = Option<Vec<String>>)]
    event_type_ids: Option<Vec<Value>>,
    /// Ids of levels, at most 1000.
    #[schema(value_type = Option<Vec<String>>)]
    level_ids: Option<Vec<Value>>,
    /// Names of applications, beside or instead of `app_ids`.
    #[schema(value_type = Option<Vec<String>>)]
    applications: Option<Vec<Value>>,
    /// Names of event types, beside or instead of `event_type_ids`: objects with `application` and
    /// `event_type`, or texts `APPLICATION/EVENT_TYPE`.
    #[schema(value_type = Option<Vec<Object>>)]
    event_types: Option<Vec<Value>>,
    /// Names of levels, beside or instead of `level_ids`: objects with `application`, `event_type`
    /// and `level`, or texts `APPLICATION/EVENT_TYPE/LEVEL`.
    #[schema(value_type = Option<Vec<Object>>)]
    levels: Option<Vec<Value>>,
    /// As clients send it back.
    #[serde(default, rename = "id")]
    #[schema(ignore)]
    _id: IgnoredAny,
    /// Whoever misspells a set means to narrow the filter, and would open it.
    #[serde(flatten)]
    #[schema(ignore)]
    unknown: BTreeMap<String, Value>,
}

/// As hooks-backend took it, whose clients send forms.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_i64() == Some(1),
        Value::String(text) => matches!(&**text, "1" | "true"),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

impl FilterRequest {
    pub(super) fn has_names(&self) -> bool {
        self.applications.is_some() || self.event_types.is_some() || self.levels.is_some()
    }
}

/// Said of a set that has more members.
fn too_many() -> String {
    format!("are too many (maximum is {MAX_MEMBERS})")
}

impl Checked {
    pub(super) fn filter(&mut self, filter: FilterRequest, names: &MemberNames) {
        for name in filter.unknown.keys() {
            let place = format!("filter/{}", escaped(name));
            self.refuse(&place, "is not an attribute of a filter");
        }
        if filter.destroy.as_ref().is_some_and(is_true) {
            self.filter = FilterEdit::Remove;
            return;
        }
        if let Some(Some(text)) = &filter.condition
            && let Err(error) = Condition::new(text).and_then(|parsed| parsed.must_be_boolean())
        {
            let detail = format!("is not a condition: {error}");
            self.refuse("filter/condition", detail);
        }
        let is_named = filter.has_names()
            || filter.app_ids.is_some()
            || filter.event_type_ids.is_some()
            || filter.level_ids.is_some();
        let kinds = [
            (MemberKind::Application, filter.applications, filter.app_ids),
            (
                MemberKind::EventType,
                filter.event_types,
                filter.event_type_ids,
            ),
            (MemberKind::Level, filter.levels, filter.level_ids),
        ];
        let [applications, event_types, levels] = kinds.map(|(kind, named, ids)| {
            let mut all = ids.unwrap_or_default();
            all.extend(self.named(kind, named.unwrap_or_default(), names));
            (kind, Some(all))
        });
        let sets = is_named.then(|| FilterSets {
            applications: self.ids(applications.0, applications.1),
            event_types: self.ids(event_types.0, event_types.1),
            levels: self.ids(levels.0, levels.1),
        });
        self.filter = FilterEdit::Put(FilterFields {
            enabled: filter.enabled,
            condition: filter.condition,
            sets,
        });
    }

    /// Ids of what is named. What is not registered is refused.
    fn named(&mut self, kind: MemberKind, members: Vec<Value>, names: &MemberNames) -> Vec<Value> {
        let mut ids = Vec::new();
        if members.len() > MAX_MEMBERS {
            self.errors.push(Fault::members(kind, too_many()));
            return ids;
        }
        for name in members {
            match names.find(kind, &name) {
                Ok(id) => ids.push(Value::String(id.to_string())),
                Err(detail) => self.errors.push(Fault::members(kind, detail)),
            }
        }
        ids
    }

    /// Each once. What is no id is the id of nothing.
    fn ids<Of>(&mut self, kind: MemberKind, ids: Option<Vec<Value>>) -> Vec<Id<Of>> {
        let (mut parsed, mut seen) = (Vec::new(), HashSet::new());
        for id in ids.unwrap_or_default() {
            let text = match &id {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            match text.parse() {
                Ok(id) if seen.insert(id) => parsed.push(id),
                Ok(_) => {}
                Err(_) => self.errors.push(Fault::unknown_member(kind, &text)),
            }
        }
        if parsed.len() > MAX_MEMBERS {
            self.errors.push(Fault::members(kind, too_many()));
        }
        parsed
    }
}
