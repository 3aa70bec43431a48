//! Which conditions are ours. Pure.

use kube::core::DynamicObject;
use serde_json::Value;

use super::FIELD_MANAGER;

/// Of the conditions that an object is to have, those that this writer applies. One that somebody else wrote and that
/// is to stay as it is is left out: applying it would make it ours as well, and its owner could not remove it any
/// more.
///
/// Where the kind's definition does not declare conditions a list by type, the list has one owner and is written
/// whole.
pub(super) fn ours(given: Vec<Value>, stored: &DynamicObject) -> Vec<Value> {
    let present = stored
        .data
        .get("status")
        .and_then(|status| status.get("conditions"));
    let present = present.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let owners = owners(stored);
    let is_by_type = owners.iter().any(|owner| !owner.types.is_empty());
    if !present.is_empty() && !is_by_type {
        return given;
    }
    let is_ours = |condition: &Value| {
        let kind = condition.get("type").and_then(Value::as_str).unwrap_or_default();
        let mine = owners.iter().filter(|owner| owner.is_us);
        mine.flat_map(|owner| &owner.types).any(|owned| owned == kind)
    };
    let keep = |condition: &Value| is_ours(condition) || !present.contains(condition);
    given.into_iter().filter(keep).collect()
}

/// What one manager has written.
struct Owner {
    is_us: bool,
    /// The types of the conditions.
    types: Vec<String>,
}

fn owners(object: &DynamicObject) -> Vec<Owner> {
    let entries = object.metadata.managed_fields.iter().flatten();
    let owner = |entry: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref()?.0.get("f:status")?.get("f:conditions")?;
        // `k:{"type":"Ready"}` is the condition of this type.
        let kind = |key: &String| -> Option<String> {
            let key: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
            Some(key.get("type")?.as_str()?.to_owned())
        };
        Some(Owner {
            is_us: entry.manager.as_deref() == Some(FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply"),
            types: fields.as_object()?.keys().filter_map(kind).collect(),
        })
    };
    entries.filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(kind: &str, status: &str) -> Value {
        json!({ "type": kind, "status": status })
    }

    fn object(managers: &[(&str, &[&str])], conditions: &[Value]) -> DynamicObject {
        let fields = |types: &[&str]| {
            let key = |kind: &&str| (format!("k:{{\"type\":\"{kind}\"}}"), json!({ ".": {} }));
            let keys: serde_json::Map<_, _> = types.iter().map(key).collect();
            json!({ "f:status": { "f:conditions": keys } })
        };
        let entry = |(manager, types): &(&str, &[&str])| json!({ "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields(types) });
        let managed: Vec<_> = managers.iter().map(entry).collect();
        let object = json!({
            "metadata": { "name": "p", "managedFields": managed }, "status": { "conditions": conditions },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn conditions_of_others_stay_theirs() {
        let (theirs, mine) = (
            condition("WaypointAccepted", "True"),
            condition("ZtunnelAccepted", "True"),
        );
        let managers: [(&str, &[&str]); 2] = [
            ("istio-ambient-waypoint-policy", &["WaypointAccepted"]),
            (FIELD_MANAGER, &["ZtunnelAccepted"]),
        ];
        let stored = object(&managers, &[theirs.clone(), mine.clone()]);
        let given = vec![theirs.clone(), mine.clone()];
        // Ours is applied also when it is as it was: leaving it out would remove it.
        assert_eq!(ours(given, &stored), std::slice::from_ref(&mine));
        // What is to be other than it is is ours from now on.
        let changed = condition("WaypointAccepted", "False");
        assert_eq!(
            ours(vec![changed.clone(), mine.clone()], &stored),
            [changed, mine.clone()]
        );
        assert_eq!(ours(Vec::new(), &stored), Vec::<Value>::new());
        // The first time.
        let stored = object(&managers[..1], std::slice::from_ref(&theirs));
        assert_eq!(
            ours(vec![theirs, mine.clone()], &stored),
            std::slice::from_ref(&mine)
        );
        assert_eq!(ours(vec![mine.clone()], &object(&[], &[])), [mine]);
    }

    #[test]
    fn a_list_with_one_owner_is_written_whole() {
        let given = vec![condition("A", "True"), condition("B", "True")];
        let stored = object(&[("somebody", &[])], &given[..1]);
        assert_eq!(ours(given.clone(), &stored), given);
    }
}
