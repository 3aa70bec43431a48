//! Which conditions are sent. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::core::DynamicObject;
use object_store::StatusWrite;
use objects::Kind;
use serde_json::{Map, Value};

/// The conditions of an apply.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) conditions: Vec<Value>,
    /// There are some of others among them, which must not be taken back to what they were.
    pub(super) only_for_this_version: bool,
}

/// What to apply to an object that is stored so.
pub(super) fn plan(kind: Kind, status: &StatusWrite, stored: &DynamicObject) -> Plan {
    if is_by_type(kind, stored) {
        return Plan {
            conditions: status.conditions.clone(),
            only_for_this_version: false,
        };
    }
    let present = stored
        .data
        .get("status")
        .and_then(|status| status.get("conditions"));
    Plan {
        conditions: status.conditions_among(list(present)),
        only_for_this_version: true,
    }
}

/// What to apply to an object that is not the writer's any more: what `manager` alone has written of the types goes.
/// `None` where that is nothing. What several have written in the same words stays theirs who have it still.
pub(super) fn giving_back(status: &StatusWrite, stored: &DynamicObject, manager: &str) -> Option<Plan> {
    let owned = |entry: &&ManagedFieldsEntry| {
        let fields = conditions_of(entry).and_then(Value::as_object)?;
        Some((entry.manager.as_deref() == Some(manager), fields.clone()))
    };
    let entries = stored.metadata.managed_fields.iter().flatten();
    let owners: Vec<(bool, Map<String, Value>)> = entries.filter_map(|entry| owned(&entry)).collect();
    let is_ours = |(own, _): &&(bool, Map<String, Value>)| *own;
    let by_type = |fields: &Map<String, Value>| fields.keys().any(|key| key.starts_with("k:"));
    let own_types = |fields: &Map<String, Value>| {
        let mut types = status.types.iter();
        types.any(|kind| fields.contains_key(&format!("k:{{\"type\":\"{kind}\"}}")))
    };
    if owners.iter().any(|(_, fields)| by_type(fields)) {
        // An apply takes away what is nobody else's by itself.
        let has_some = owners.iter().filter(is_ours).any(|(_, fields)| own_types(fields));
        return has_some.then(|| Plan {
            conditions: Vec::new(),
            only_for_this_version: false,
        });
    }
    // One value: it is whose who wrote it last, and who writes it drops what others have said of these types.
    let is_alone = owners.iter().all(|(own, _)| *own) && !owners.is_empty();
    let present = stored
        .data
        .get("status")
        .and_then(|status| status.get("conditions"));
    let present = list(present);
    let has_some = present.iter().any(|condition| status.is_ours(condition));
    (is_alone && has_some).then(|| Plan {
        conditions: status.conditions_among(present),
        only_for_this_version: true,
    })
}

/// All conditions that the object is to have, where it has some of the writer's types that it is not to have.
pub(super) fn without_leftovers(status: &StatusWrite, present: Option<&Value>) -> Option<Vec<Value>> {
    let kind = |condition: &Value| condition.get("type").cloned();
    let is_wanted = |condition: &&Value| {
        !status.is_ours(condition) || status.conditions.iter().any(|ours| kind(ours) == kind(condition))
    };
    let present = list(present);
    let rest: Vec<Value> = present.iter().filter(is_wanted).cloned().collect();
    (rest.len() != present.len()).then_some(rest)
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether the conditions are a list by type (`x-kubernetes-list-type: map`). Services are declared so; of custom
/// kinds the server's own account of who wrote what tells, once somebody has written a condition. Before that there is
/// nothing that could be taken from anybody but by a writer at the same moment.
fn is_by_type(kind: Kind, stored: &DynamicObject) -> bool {
    // `k:{"type":"Ready"}` is the condition of this type.
    let names_types = |entry: &ManagedFieldsEntry| {
        let fields = conditions_of(entry)?;
        Some(fields.as_object()?.keys().any(|key| key.starts_with("k:")))
    };
    let mut entries = stored.metadata.managed_fields.iter().flatten();
    kind == Kind::Service || entries.any(|entry| names_types(entry) == Some(true))
}

/// What a writer has written of the conditions.
fn conditions_of(entry: &ManagedFieldsEntry) -> Option<&Value> {
    entry.fields_v1.as_ref()?.0.get("f:status")?.get("f:conditions")
}

#[cfg(test)]
mod tests;
