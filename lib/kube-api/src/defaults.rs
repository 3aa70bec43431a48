//! What a server fills in on built-in kinds where the client says nothing (API reference of each kind).

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::kinds::Resource;

/// Fills in the defaults. `number` gives a Service an address of its own; without, somebody else does.
pub(crate) fn fill(resource: &Resource, object: &mut Value, number: Option<u64>) {
    if resource.custom.is_some() {
        return;
    }
    match resource.kind.as_str() {
        "Pod" => {
            pod_spec(&mut object["spec"]);
            or_set(
                object,
                "status",
                json!({ "phase": "Pending", "qosClass": "BestEffort" }),
            );
        }
        "Deployment" => {
            let spec = &mut object["spec"];
            or_set(spec, "replicas", json!(1));
            or_set(spec, "revisionHistoryLimit", json!(10));
            or_set(spec, "progressDeadlineSeconds", json!(600));
            let strategy = json!({
                "type": "RollingUpdate",
                "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" },
            });
            or_set(spec, "strategy", strategy);
            if spec["template"].is_object() {
                pod_spec(&mut spec["template"]["spec"]);
            }
            or_set(object, "status", json!({}));
        }
        "Service" => service(object, number),
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            or_set(&mut object["spec"], "finalizers", json!(["kubernetes"]));
            or_set(object, "status", json!({ "phase": "Active" }));
        }
        "Secret" => secret(object),
        "CustomResourceDefinition" => definition(object),
        _ => {}
    }
}

fn pod_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    or_set(spec, "restartPolicy", json!("Always"));
    or_set(spec, "dnsPolicy", json!("ClusterFirst"));
    or_set(spec, "schedulerName", json!("default-scheduler"));
    or_set(spec, "terminationGracePeriodSeconds", json!(30));
    or_set(spec, "enableServiceLinks", json!(true));
    or_set(spec, "securityContext", json!({}));
    let account = spec["serviceAccountName"]
        .as_str()
        .unwrap_or("default")
        .to_owned();
    or_set(spec, "serviceAccountName", json!(account));
    or_set(spec, "serviceAccount", json!(account));
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let image = container["image"].as_str().unwrap_or_default();
            let tagged = image
                .rsplit('/')
                .next()
                .is_some_and(|name| name.contains([':', '@']));
            let pull = if tagged && !image.ends_with(":latest") {
                "IfNotPresent"
            } else {
                "Always"
            };
            or_set(container, "imagePullPolicy", json!(pull));
            or_set(container, "terminationMessagePath", json!("/dev/termination-log"));
            or_set(container, "terminationMessagePolicy", json!("File"));
            or_set(container, "resources", json!({}));
            for port in container
                .get_mut("ports")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                or_set(port, "protocol", json!("TCP"));
            }
        }
    }
}

fn service(object: &mut Value, number: Option<u64>) {
    let spec = &mut object["spec"];
    or_set(spec, "type", json!("ClusterIP"));
    or_set(spec, "sessionAffinity", json!("None"));
    for port in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        or_set(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        or_set(port, "targetPort", number);
    }
    if spec["type"] != "ExternalName" {
        or_set(spec, "internalTrafficPolicy", json!("Cluster"));
        if spec["clusterIP"].as_str().unwrap_or_default().is_empty() {
            let first = spec["clusterIPs"]
                .get(0)
                .and_then(Value::as_str)
                .map(str::to_owned);
            if let Some(address) = first.or_else(|| number.map(cluster_ip)) {
                spec["clusterIP"] = json!(address);
            }
        }
        let address = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        if address.is_empty() {
            or_set(object, "status", json!({ "loadBalancer": {} }));
            return;
        }
        or_set(spec, "clusterIPs", json!([address]));
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        or_set(spec, "ipFamilies", json!([family]));
        or_set(spec, "ipFamilyPolicy", json!("SingleStack"));
    }
    or_set(object, "status", json!({ "loadBalancer": {} }));
}

/// An address of 10.96.0.0/12. Revisions only grow, so a million services in a row get addresses of their own.
fn cluster_ip(revision: u64) -> String {
    let offset = u32::try_from(revision % ((1 << 20) - 2)).unwrap_or(0) + 1;
    let base = u32::from(std::net::Ipv4Addr::new(10, 96, 0, 0));
    std::net::Ipv4Addr::from(base + offset).to_string()
}

fn secret(object: &mut Value) {
    or_set(object, "type", json!("Opaque"));
    let Some(plain) = object
        .as_object_mut()
        .and_then(|fields| fields.remove("stringData"))
    else {
        return;
    };
    for (name, value) in plain.as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        object["data"][name] = json!(BASE64.encode(text.as_bytes()));
    }
}

/// A definition is accepted and served at once.
fn definition(object: &mut Value) {
    let spec = &mut object["spec"];
    let kind = spec["names"]["kind"].as_str().unwrap_or_default().to_owned();
    or_set(&mut spec["names"], "singular", json!(kind.to_ascii_lowercase()));
    or_set(&mut spec["names"], "listKind", json!(format!("{kind}List")));
    or_set(spec, "conversion", json!({ "strategy": "None" }));
    let names = spec["names"].clone();
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let stored: Vec<Value> = versions
        .iter()
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    let since = object["metadata"]["creationTimestamp"].clone();
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind,
            "status": "True",
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        })
    };
    let status = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": names,
        "storedVersions": stored,
    });
    or_set(object, "status", status);
}

/// Sets a field that is not there. Something that is no map is left alone.
fn or_set(object: &mut Value, field: &str, value: Value) {
    if object.is_null() {
        *object = json!({});
    }
    if let Some(fields) = object.as_object_mut() {
        let slot = fields.entry(field).or_insert(Value::Null);
        if slot.is_null() {
            *slot = value;
        }
    }
}
