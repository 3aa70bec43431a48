#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::registry::Registry;
use crate::store::{Change, Key, Store};

/// PeerAuthentication, as the chart defines it.
fn resource() -> std::sync::Arc<Resource> {
    let store = Store::default();
    for definition in charts::definitions().unwrap() {
        let name = text(&definition, "name");
        let key = Key::new(crate::kinds::DEFINITIONS, "", &name);
        store.transact(&key, |_, _| Ok(Change::Put(definition))).unwrap();
    }
    let served = Registry::new(&store).served();
    served
        .find("security.istio.io", "v1", "peerauthentications")
        .unwrap()
}

fn object(spec: Value) -> Value {
    json!({ "metadata": { "name": "p", "namespace": "n" }, "spec": spec })
}

#[test]
fn what_fits_is_admitted() {
    let resource = resource();
    let mut good = object(json!({ "mtls": { "mode": "STRICT" } }));
    let before = good.clone();
    admit(&resource, "v1", None, &mut good, UnknownFields::Refused).unwrap();
    assert_eq!(good, before);
}

#[test]
fn fields_that_nobody_knows_are_dropped_or_refused() {
    let resource = resource();
    let mut misspelt = object(json!({ "mtls": { "mode": "STRICT", "mod": 1 }, "mlts": {} }));
    let refused = admit(
        &resource,
        "v1",
        None,
        &mut misspelt.clone(),
        UnknownFields::Refused,
    )
    .unwrap_err();
    assert_eq!(refused.code, 400);
    for field in ["unknown field \"spec.mtls.mod\"", "unknown field \"spec.mlts\""] {
        assert!(refused.message.contains(field), "{}", refused.message);
    }
    admit(&resource, "v1", None, &mut misspelt, UnknownFields::Dropped).unwrap();
    assert_eq!(misspelt["spec"], json!({ "mtls": { "mode": "STRICT" } }));
    // What the schema leaves open stays.
    let mut status = object(json!({}));
    status["status"] = json!({ "anything": { "at": ["all"] } });
    let before = status.clone();
    admit(&resource, "v1", None, &mut status, UnknownFields::Refused).unwrap();
    assert_eq!(status, before);
}

#[test]
fn what_does_not_fit_is_refused_by_field() {
    let resource = resource();
    let refusal =
        |spec: Value| admit(&resource, "v1", None, &mut object(spec), UnknownFields::Dropped).unwrap_err();
    let mode = refusal(json!({ "mtls": { "mode": "SRTICT" } }));
    assert_eq!((mode.code, mode.reason), (422, "Invalid"));
    assert!(
        mode.message.contains("spec.mtls.mode: Invalid value"),
        "{}",
        mode.message
    );
    let kind = refusal(json!({ "mtls": 7 }));
    assert!(kind.message.contains("spec.mtls"), "{}", kind.message);
    // The definition's own rules.
    let rule = refusal(json!({ "portLevelMtls": { "80": { "mode": "STRICT" } } }));
    assert_eq!(rule.code, 422);
    assert!(
        rule.message.contains("portLevelMtls needs a selector"),
        "{}",
        rule.message
    );
}

#[test]
fn what_was_stored_before_does_not_bar_other_writes() {
    let resource = resource();
    let stored = object(json!({ "mtls": { "mode": "SOMETIMES" } }));
    let mut labelled = stored.clone();
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    labelled["status"] = json!({ "conditions": [{ "type": "ZtunnelAccepted", "status": "False" }] });
    admit(
        &resource,
        "v1",
        Some(&stored),
        &mut labelled,
        UnknownFields::Refused,
    )
    .unwrap();
    let mut changed = object(json!({ "mtls": { "mode": "NEVER" } }));
    assert!(
        admit(
            &resource,
            "v1",
            Some(&stored),
            &mut changed,
            UnknownFields::Refused
        )
        .is_err()
    );
}
