//! Applying a manifest over the object that is there, and JSON merge patches.

use serde_json::{Map, Value};

use super::{Object, Spec};
use crate::SYSTEM_ANNOTATION_PREFIX;
use crate::document::MAX_DEPTH;
use crate::service::ServiceType;

/// Metadata that belongs to the store.
const STORED: [&str; 6] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
];
/// Metadata that controllers write and manifests seldom mention.
const GIVEN_ONCE: [&str; 4] = ["ownerReferences", "generateName", "finalizers", "managedFields"];

/// The typed and the written form are merged side by side; both sides were good, and what is taken over does not
/// depend on anything that stays, so the result is good.
pub(super) fn over(new: &Object, old: &Object) -> Object {
    let mut merged = new.clone();
    let from = &old.metadata;
    let to = &mut merged.metadata;
    to.uid.clone_from(&from.uid);
    to.resource_version = from.resource_version;
    to.creation_timestamp.clone_from(&from.creation_timestamp);
    to.deletion_timestamp.clone_from(&from.deletion_timestamp);
    let old_raw = |section: &str, name: &str| {
        old.raw
            .get(section)
            .and_then(|section| section.get(name))
            .cloned()
    };
    for name in STORED {
        set(&mut merged.raw, "metadata", name, old_raw("metadata", name));
    }
    for name in GIVEN_ONCE {
        if is_absent(&merged.raw, "metadata", name) {
            set(&mut merged.raw, "metadata", name, old_raw("metadata", name));
            match name {
                "ownerReferences" => to.owner.clone_from(&from.owner),
                "generateName" => to.generate_name.clone_from(&from.generate_name),
                _ => {}
            }
        }
    }
    // System annotations are the old object's, also where the manifest gives them.
    to.annotations
        .retain(|key, _| !key.starts_with(SYSTEM_ANNOTATION_PREFIX));
    let system = from
        .annotations
        .iter()
        .filter(|(key, _)| key.starts_with(SYSTEM_ANNOTATION_PREFIX));
    to.annotations
        .extend(system.map(|(key, value)| (key.clone(), value.clone())));
    if !to.annotations.is_empty() || !is_absent(&merged.raw, "metadata", "annotations") {
        let annotations = to
            .annotations
            .iter()
            .map(|(key, value)| (key.clone(), Value::String(value.clone())));
        let annotations = Value::Object(annotations.collect());
        set(&mut merged.raw, "metadata", "annotations", Some(annotations));
    }
    assigned(&mut merged, old);
    if let (Some(status), Value::Object(raw)) = (old.status(), &mut merged.raw) {
        raw.insert("status".to_owned(), status.clone());
    }
    merged
}

/// What the system assigned and the manifest leaves open, and the typed status.
fn assigned(merged: &mut Object, old: &Object) {
    let mut keep: Vec<&str> = Vec::new();
    let has_status = old.status().is_some();
    match (&mut merged.spec, &old.spec) {
        (Spec::Pod(new), Spec::Pod(old)) => {
            if has_status {
                new.status.clone_from(&old.status);
            }
            if new.spec.node_name.is_empty() && !old.spec.node_name.is_empty() {
                new.spec.node_name.clone_from(&old.spec.node_name);
                keep.push("nodeName");
            }
        }
        (Spec::Service(new), Spec::Service(old)) => {
            if has_status {
                new.load_balancer_ips.clone_from(&old.load_balancer_ips);
            }
            let wants_address = new.service_type != ServiceType::ExternalName && !new.headless;
            if wants_address && new.cluster_ips.is_empty() && !old.cluster_ips.is_empty() {
                new.cluster_ips.clone_from(&old.cluster_ips);
                keep.extend(["clusterIP", "clusterIPs"]);
            }
            if new.ip_families.is_empty() && !old.ip_families.is_empty() {
                new.ip_families.clone_from(&old.ip_families);
                keep.push("ipFamilies");
            }
            if new.ip_family_policy.is_none() && old.ip_family_policy.is_some() {
                new.ip_family_policy = old.ip_family_policy;
                keep.push("ipFamilyPolicy");
            }
        }
        (Spec::Node(new), Spec::Node(old)) => {
            if new.pod_cidrs.is_empty() && !old.pod_cidrs.is_empty() {
                new.pod_cidrs.clone_from(&old.pod_cidrs);
                keep.extend(["podCIDR", "podCIDRs"]);
            }
            if has_status {
                new.addresses.clone_from(&old.addresses);
            }
        }
        (Spec::Gateway(new), Spec::Gateway(old)) if has_status => new.addresses.clone_from(&old.addresses),
        (Spec::ServiceEntry(new), Spec::ServiceEntry(old)) if has_status => {
            new.allocated.clone_from(&old.allocated);
        }
        _ => {}
    }
    for name in keep {
        let value = old.raw.get("spec").and_then(|spec| spec.get(name)).cloned();
        set(&mut merged.raw, "spec", name, value);
    }
}

fn is_absent(raw: &Value, section: &str, name: &str) -> bool {
    raw.get(section)
        .and_then(|section| section.get(name))
        .is_none_or(Value::is_null)
}

/// Sets or removes a field of a section, which is made when it is not there.
fn set(raw: &mut Value, section: &str, name: &str, value: Option<Value>) {
    let Value::Object(raw) = raw else { return };
    if value.is_none() && !raw.contains_key(section) {
        return;
    }
    let section = raw.entry(section).or_insert_with(|| Value::Object(Map::new()));
    if section.is_null() {
        *section = Value::Object(Map::new());
    }
    if let Value::Object(section) = section {
        match value {
            Some(value) => drop(section.insert(name.to_owned(), value)),
            None => drop(section.remove(name)),
        }
    }
}

/// A JSON merge patch (RFC 7396). What is nested too deeply to be read afterwards is not followed any further.
pub(super) fn patch(target: &mut Value, patch_value: &Value, depth: usize) {
    let Value::Object(changes) = patch_value else {
        target.clone_from(patch_value);
        return;
    };
    if depth > MAX_DEPTH {
        target.clone_from(patch_value);
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            target.remove(key);
        } else {
            patch(
                target.entry(key.clone()).or_insert(Value::Null),
                change,
                depth + 1,
            );
        }
    }
}
