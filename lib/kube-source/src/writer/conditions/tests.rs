//! Which conditions are sent, by who has written what.

use serde_json::json;

use super::*;

const TYPES: &[&str] = &["ZtunnelAccepted", "istio.io/WaypointBound"];

fn condition(kind: &str, status: &str) -> Value {
    json!({ "type": kind, "status": status })
}

fn wanted(conditions: &[Value]) -> StatusWrite {
    StatusWrite {
        conditions: conditions.to_vec(),
        types: TYPES,
        ..StatusWrite::default()
    }
}

/// An object with these conditions, of which somebody has set the fields `conditions`.
fn stored(fields: Value, conditions: &[Value]) -> DynamicObject {
    let managed = json!([{
        "manager": "somebody", "operation": "Apply", "fieldsType": "FieldsV1",
        "fieldsV1": { "f:status": { "f:conditions": fields } },
    }]);
    let object = json!({
        "metadata": { "name": "p", "managedFields": managed }, "status": { "conditions": conditions },
    });
    serde_json::from_value(object).unwrap()
}

#[test]
fn of_a_list_by_type_only_ours_are_sent() {
    let (theirs, ours) = (condition("Ready", "True"), condition("ZtunnelAccepted", "True"));
    let alone = Plan {
        conditions: vec![ours.clone()],
        only_for_this_version: false,
    };
    let by_type = stored(
        json!({ "k:{\"type\":\"Ready\"}": { ".": {} } }),
        std::slice::from_ref(&theirs),
    );
    let status = wanted(std::slice::from_ref(&ours));
    assert_eq!(plan(Kind::AuthorizationPolicy, &status, &by_type), alone);
    // A Service's are one whoever has written, or nobody.
    let whole = stored(json!({}), std::slice::from_ref(&theirs));
    assert_eq!(plan(Kind::Service, &status, &whole), alone);
}

#[test]
fn a_list_that_is_one_value_is_sent_whole_for_the_version_that_was_read() {
    let (theirs, ours) = (
        condition("WaypointAccepted", "True"),
        condition("ZtunnelAccepted", "True"),
    );
    let old = condition("ZtunnelAccepted", "False");
    let stored = stored(json!({}), &[old, theirs.clone()]);
    let expected = Plan {
        conditions: vec![theirs, ours.clone()],
        only_for_this_version: true,
    };
    assert_eq!(
        plan(Kind::AuthorizationPolicy, &wanted(&[ours]), &stored),
        expected
    );
}

/// The same with these writers, each with the fields of `conditions` that it has set.
fn stored_by(writers: &[(&str, Value)], conditions: &[Value]) -> DynamicObject {
    let mut object = stored(json!({}), conditions);
    let entry = |(manager, fields): &(&str, Value)| {
        let fields = json!({ "f:status": { "f:conditions": fields } });
        let entry =
            json!({ "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields });
        serde_json::from_value(entry).unwrap()
    };
    object.metadata.managed_fields = Some(writers.iter().map(entry).collect());
    object
}

#[test]
fn who_gives_back_takes_what_it_has_written_alone() {
    let (theirs, ours) = (condition("Ready", "True"), condition("ZtunnelAccepted", "True"));
    let both = [theirs.clone(), ours.clone()];
    let status = StatusWrite {
        gives_back: true,
        ..wanted(&[])
    };
    let plan = |writers: &[(&str, Value)], conditions: &[Value]| {
        let plan = giving_back(&status, &stored_by(writers, conditions), "us");
        plan.map(|plan| (plan.conditions, plan.only_for_this_version))
    };
    let of_type = |kind: &str| json!({ format!("k:{{\"type\":\"{kind}\"}}"): { ".": {} } });
    // Lists by type: the server knows what is nobody else's.
    let us = ("us", of_type("ZtunnelAccepted"));
    assert_eq!(
        plan(&[us.clone(), ("them", of_type("Ready"))], &both),
        Some((vec![], false))
    );
    let them = ("them", of_type("ZtunnelAccepted"));
    assert_eq!(plan(std::slice::from_ref(&them), &both), None);
    assert_eq!(plan(&[us, them], &both), Some((vec![], false)));
    assert_eq!(
        plan(&[("us", of_type("Ready"))], &both),
        None,
        "none of these types"
    );
    // One value: the last writer's.
    let whole = |manager| (manager, json!({}));
    assert_eq!(plan(&[whole("us")], &both), Some((vec![theirs.clone()], true)));
    assert_eq!(plan(&[whole("us")], &[theirs]), None);
    assert_eq!(plan(&[whole("them")], &both), None);
    assert_eq!(plan(&[whole("us"), whole("them")], &both), None);
    assert_eq!(plan(&[], &both), None);
}

#[test]
fn what_an_apply_leaves_is_found() {
    let (theirs, bound) = (
        condition("Ready", "True"),
        condition("istio.io/WaypointBound", "True"),
    );
    let present = json!([theirs, bound]);
    assert_eq!(
        without_leftovers(&wanted(&[]), Some(&present)),
        Some(vec![theirs.clone()])
    );
    assert_eq!(
        without_leftovers(&wanted(std::slice::from_ref(&bound)), Some(&present)),
        None
    );
    assert_eq!(without_leftovers(&wanted(&[]), Some(&json!([theirs]))), None);
    assert_eq!(without_leftovers(&wanted(&[]), None), None);
}
