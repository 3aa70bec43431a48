//! Conditions in a status, by the conventions of Kubernetes (`metav1.Condition`).

use std::time::SystemTime;

use compile::Condition;
use objects::{Object, ObjectKey};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::events::{self, Notice};

/// The types that are ours to write and to take away; all others are somebody else's.
pub(super) const OURS: &[&str] = &[
    "ZtunnelAccepted",
    "istio.io/WaypointBound",
    "istio.io/VisibilityApplied",
    "istio.io/WaypointMissing",
    "ztunnel.dev/AddressesAccepted",
    "ztunnel.dev/HostsAccepted",
    "ztunnel.dev/TargetsBound",
];

/// Those of them of which users are told by Events, unless their reason is one of the good ones.
const TOLD: [&str; 3] = [
    "ZtunnelAccepted",
    "istio.io/WaypointBound",
    "ztunnel.dev/TargetsBound",
];
const CLEAN: [&str; 3] = ["Accepted", "WaypointAccepted", "Bound"];

/// The conditions of ours that an object has.
pub(super) fn of(object: &Object) -> Vec<Value> {
    let conditions = object.status().and_then(|status| status.get("conditions"));
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    let is_ours = |condition: &&Value| {
        let kind = condition.get("type").and_then(Value::as_str);
        kind.is_some_and(|kind| OURS.contains(&kind))
    };
    conditions.filter(is_ours).cloned().collect()
}

/// Those of ours that an object is to have, given those of ours that it has. The time of the last change stays where
/// the status stays. `None` when it has exactly those.
pub(super) fn dated(present: &[Value], wanted: &[Condition], now: SystemTime) -> Option<Vec<Value>> {
    let kind = |condition: &Value| condition.get("type").and_then(Value::as_str).map(str::to_owned);
    let mut dated = Vec::with_capacity(wanted.len());
    for condition in wanted {
        let old = present
            .iter()
            .find(|old| kind(old).as_deref() == Some(condition.kind));
        let mut new = written(condition);
        let status = |condition: &Value| condition.get("status").cloned();
        let kept = old.filter(|old| status(old) == new.get("status").cloned());
        let since = kept
            .and_then(|old| old.get("lastTransitionTime"))
            .filter(|since| since.is_string());
        let since = since.cloned().unwrap_or_else(|| json!(rfc3339(now)));
        new.insert("lastTransitionTime".to_owned(), since);
        dated.push(Value::Object(new));
    }
    // Neither the order of conditions nor that of their fields means anything.
    let is_same = present.len() == dated.len() && dated.iter().all(|one| present.contains(one));
    (!is_same).then_some(dated)
}

/// What a user must see of what was written: that a policy or a waypoint is not in force as it is written.
pub(super) fn notices(key: &ObjectKey, uid: &str, written: &[Value]) -> Vec<Notice> {
    let text = |condition: &Value, field: &str| {
        let value = condition.get(field).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    let is_seen = |condition: &&Value| {
        let (kind, reason) = (text(condition, "type"), text(condition, "reason"));
        TOLD.contains(&&*kind) && !CLEAN.contains(&&*reason)
    };
    let notice = |condition: &Value| Notice {
        regarding: events::of_object(key, uid),
        reason: text(condition, "reason"),
        action: "Compile",
        note: text(condition, "message"),
    };
    written.iter().filter(is_seen).map(notice).collect()
}

fn written(condition: &Condition) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| drop(map.insert(name.to_owned(), value));
    put("type", json!(condition.kind));
    put("status", json!(if condition.status { "True" } else { "False" }));
    put("reason", json!(condition.reason));
    put("message", json!(condition.message));
    if condition.observed_generation != 0 {
        put("observedGeneration", json!(condition.observed_generation));
    }
    map
}

/// In whole seconds, as Kubernetes writes times.
fn rfc3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    // Fails only for years of more than four digits.
    whole.format(&Rfc3339).unwrap_or_default()
}
