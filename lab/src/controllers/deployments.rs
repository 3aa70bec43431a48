//! Deployments: as many pods as asked for, of the present template.

use objects::{Deployment, Object, Pod};
use serde_json::{Map, Value, json};

use super::{Cluster, Surroundings, Write, namespaces::remove, set};

/// The label that tells pods of one template from those of another.
const HASH_LABEL: &str = "pod-template-hash";
/// The characters that Kubernetes makes names of: no vowels, nothing that looks like another.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Makes pods that are missing and ends those that are too many. After a change of the template all new pods are made
/// at once, and the old ones end when the new ones are ready; with the strategy Recreate they end first.
pub(super) fn reconcile(cluster: &Cluster<'_>, around: &mut Surroundings<'_>) -> Vec<Write> {
    let mut writes = Vec::new();
    for (object, deployment) in &cluster.deployments {
        writes.extend(one(cluster, object, deployment, around));
    }
    // Pods whose Deployment is gone end.
    for (pod, _) in &cluster.pods {
        let orphan = owner_uid(pod).is_some_and(|uid| {
            !cluster
                .deployments
                .iter()
                .any(|(deployment, _)| &deployment.metadata.uid == uid)
        });
        if orphan {
            writes.extend(remove(pod, &around.now));
        }
    }
    writes
}

fn one(
    cluster: &Cluster<'_>,
    object: &Object,
    deployment: &Deployment,
    around: &mut Surroundings<'_>,
) -> Vec<Write> {
    let template = object
        .raw()
        .pointer("/spec/template")
        .cloned()
        .unwrap_or(Value::Null);
    let hash = template_hash(&template);
    let wanted = deployment.replicas as usize;
    let mut live: Vec<&(&Object, &Pod)> = cluster
        .pods
        .iter()
        .filter(|(pod, _)| {
            pod.metadata.namespace == object.metadata.namespace
                && owner_uid(pod) == Some(&object.metadata.uid)
                && pod.metadata.deletion_timestamp.is_none()
        })
        .collect();
    // The first to go: not ready, then the youngest.
    live.sort_by(|(a, a_pod), (b, b_pod)| {
        a_pod
            .is_ready()
            .cmp(&b_pod.is_ready())
            .then_with(|| b.metadata.by_age(&a.metadata))
    });
    let (new, old): (Vec<_>, Vec<_>) = live
        .into_iter()
        .partition(|(pod, _)| pod.metadata.labels.get(HASH_LABEL) == Some(&hash));
    let recreate = object.raw().pointer("/spec/strategy/type") == Some(&json!("Recreate"));
    let ready = new.iter().filter(|(_, pod)| pod.is_ready()).count();
    let mut writes = Vec::new();

    if recreate || ready >= wanted {
        writes.extend(old.iter().filter_map(|(pod, _)| remove(pod, &around.now)));
    }
    if !recreate || old.is_empty() {
        for _ in new.len()..wanted {
            writes.push(Write::Put(new_pod(object, &template, &hash, (around.entropy)())));
        }
    }
    let surplus = new.len().saturating_sub(wanted);
    writes.extend(
        new.iter()
            .take(surplus)
            .filter_map(|(pod, _)| remove(pod, &around.now)),
    );

    let old_ready = old.iter().filter(|(_, pod)| pod.is_ready()).count();
    let status = json!({
        "observedGeneration": object.metadata.generation,
        "replicas": new.len() + old.len(),
        "updatedReplicas": new.len(),
        "readyReplicas": ready + old_ready,
        "availableReplicas": ready + old_ready,
    });
    if object.raw().get("status") != Some(&status) {
        let mut raw = object.raw().clone();
        set(&mut raw, &["status"], status);
        writes.push(Write::Put(raw));
    }
    writes
}

/// The uid of the Deployment that made a pod. In Kubernetes a ReplicaSet stands between the two; here only the
/// reference to one does, since others derive the workload's name from it.
fn owner_uid(pod: &Object) -> Option<&String> {
    let owner = pod.metadata.owner.as_ref()?;
    (owner.kind == "ReplicaSet").then_some(&owner.uid)
}

fn new_pod(deployment: &Object, template: &Value, hash: &str, entropy: u64) -> Value {
    let prefix = format!("{}-{hash}-", deployment.metadata.name);
    let mut metadata = template
        .get("metadata")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_else(Map::new);
    metadata.insert("name".to_owned(), json!(format!("{prefix}{}", word(entropy, 5))));
    metadata.insert("generateName".to_owned(), json!(prefix));
    metadata.insert("namespace".to_owned(), json!(deployment.metadata.namespace));
    metadata.insert(
        "ownerReferences".to_owned(),
        json!([{
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "name": format!("{}-{hash}", deployment.metadata.name),
            "uid": deployment.metadata.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }]),
    );
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata });
    set(&mut pod, &["metadata", "labels", HASH_LABEL], json!(hash));
    set(
        &mut pod,
        &["spec"],
        template.get("spec").cloned().unwrap_or(Value::Null),
    );
    pod
}

/// A word that names a template; the same for the same template, however its keys are ordered.
fn template_hash(template: &Value) -> String {
    fn mix(hash: &mut u64, bytes: &[u8]) {
        // FNV-1a.
        for byte in bytes {
            *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    fn walk(hash: &mut u64, value: &Value) {
        match value {
            Value::Object(map) => {
                let mut keys: Vec<_> = map.iter().collect();
                keys.sort_by_key(|(key, _)| key.as_str());
                mix(hash, b"{");
                for (key, value) in keys {
                    mix(hash, key.as_bytes());
                    mix(hash, b":");
                    walk(hash, value);
                }
                mix(hash, b"}");
            }
            Value::Array(items) => {
                mix(hash, b"[");
                items.iter().for_each(|item| walk(hash, item));
                mix(hash, b"]");
            }
            scalar => mix(hash, scalar.to_string().as_bytes()),
        }
        mix(hash, b",");
    }
    let mut hash = 0xcbf2_9ce4_8422_2325;
    walk(&mut hash, template);
    word(hash, 9)
}

/// A word of this many characters out of a number.
pub(crate) fn word(mut number: u64, length: usize) -> String {
    let mut word = String::with_capacity(length);
    for _ in 0..length {
        let base = ALPHABET.len() as u64;
        word.push(char::from(ALPHABET[(number % base) as usize]));
        number /= base;
    }
    word
}
