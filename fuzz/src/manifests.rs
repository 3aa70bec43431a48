//! Kubernetes objects: as users write them, as an API server sends them, and what is made of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use compile::Compiler;
use mesh::Change;
use objects::{Kind, ObjectKey};
use prost::Message;

/// A manifest. What is read is written and read again the same; what reads single documents and lints them reads no
/// less.
pub(crate) fn manifest(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    let reading = objects::parse_leniently("manifest", text);
    let count = reading.objects.len();
    let mut judged = lint::Input::default();
    judged.add(reading);
    lint::lint(&judged, &lint::Settings::default());
    let Ok(all) = objects::parse("manifest", text) else {
        return false;
    };
    assert_eq!(count, all.len());
    for object in &all {
        let written = object.to_yaml();
        let again = objects::parse("written", &written);
        let again = again.unwrap_or_else(|errors| panic!("{errors}\nin what was written:\n{written}"));
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].raw(), object.raw());
        assert_eq!(again[0].spec, object.spec);
    }
    !all.is_empty()
}

/// Tests of policies.
pub(crate) fn policy_tests(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else {
        return false;
    };
    explain::suite::Suite::read("tests", text).is_ok()
}

/// Objects of lists and watches, one in JSON a line. Node proxies accept all that is made of them, and nothing is left
/// when they are gone.
pub(crate) fn kubernetes_objects(input: &[u8]) -> bool {
    let mut compiler = Compiler::new(compile::Settings::default());
    let mut known: BTreeMap<ObjectKey, ()> = BTreeMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Some(kind) = kind_of(line) else { continue };
        let Some((key, object)) = kube_source::fuzzing::object(kind, line) else {
            continue;
        };
        // A policy that cannot be read closes what it could have closed; of others the last good version stays.
        let object = match object {
            Ok(object) => Some(object),
            Err(problem) => objects::Object::closed(&key, &problem).map(Arc::new),
        };
        let Some(object) = object else { continue };
        known.insert(key.clone(), ());
        let output = compiler.apply([(key, Some(object))]);
        for (name, address) in &output.addresses {
            let change = Change::decode_address(name, &address.encode_to_vec());
            assert!(!matches!(change, Change::RejectedAddress(_)), "{change:?}");
        }
        for (name, policy) in &output.policies {
            let change = Change::decode_policy(name, &policy.encode_to_vec());
            assert!(!matches!(change, Change::RejectedPolicy(_)), "{change:?}");
        }
    }
    let accepted = !known.is_empty();
    compiler.apply(known.into_keys().map(|key| (key, None)));
    assert!(compiler.addresses().is_empty(), "{:?}", compiler.addresses());
    let rest = compiler
        .policies()
        .keys()
        .filter(|name| !name.contains("istio_converted_static_strict"));
    assert_eq!(rest.count(), 0);
    accepted
}

fn kind_of(line: &[u8]) -> Option<Kind> {
    let value: serde_json::Value = serde_json::from_slice(line).ok()?;
    let name = value.get("kind")?.as_str()?;
    Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
}
