//! Keeping of an object only what somebody reads.
//!
//! This saves memory (most of a pod is of no use here), and it keeps the strict reading of `objects` away from what
//! we do not read: a field that a newer Kubernetes adds to pods must not make pods unreadable. Policies are kept
//! whole, because a field of theirs that is not known changes what they mean.

use objects::Kind;
use serde_json::{Map, Value};

/// What is kept of a value.
enum Shape {
    /// Everything.
    Whole,
    /// These fields of an object.
    Fields(&'static [(&'static str, Shape)]),
    /// Of every item of a list.
    Each(&'static Shape),
}

use Shape::{Each, Fields, Whole};

/// The fields of the metadata that are kept; labels whole, annotations and owners further pruned.
const METADATA: [&str; 11] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "labels",
    "annotations",
    "ownerReferences",
    "generateName",
];

/// The DNS names whose annotations are read, with every name below them.
const ANNOTATION_DOMAINS: [&str; 2] = ["istio.io", "ztunnel.dev"];

static CONTAINERS: Shape = Fields(&[
    ("name", Whole),
    (
        "ports",
        Each(&Fields(&[
            ("name", Whole),
            ("containerPort", Whole),
            ("protocol", Whole),
        ])),
    ),
    ("restartPolicy", Whole),
]);

static POD: &[(&str, Shape)] = &[
    (
        "spec",
        Fields(&[
            ("containers", Each(&CONTAINERS)),
            ("initContainers", Each(&CONTAINERS)),
            ("serviceAccountName", Whole),
            ("serviceAccount", Whole),
            ("nodeName", Whole),
            ("hostNetwork", Whole),
        ]),
    ),
    (
        "status",
        Fields(&[
            ("phase", Whole),
            ("podIP", Whole),
            ("podIPs", Each(&Fields(&[("ip", Whole)]))),
            ("conditions", Each(&Fields(&[("type", Whole), ("status", Whole)]))),
        ]),
    ),
];

static SERVICE: &[(&str, Shape)] = &[
    (
        "spec",
        Fields(&[
            ("type", Whole),
            ("externalName", Whole),
            ("clusterIP", Whole),
            ("clusterIPs", Whole),
            ("externalIPs", Whole),
            (
                "ports",
                Each(&Fields(&[
                    ("name", Whole),
                    ("port", Whole),
                    ("targetPort", Whole),
                    ("protocol", Whole),
                    ("appProtocol", Whole),
                ])),
            ),
            ("selector", Whole),
            ("internalTrafficPolicy", Whole),
            ("trafficDistribution", Whole),
            ("publishNotReadyAddresses", Whole),
            ("sessionAffinity", Whole),
            ("ipFamilies", Whole),
            ("ipFamilyPolicy", Whole),
        ]),
    ),
    (
        "status",
        Fields(&[
            // What is written to a status is compared with what is there.
            ("conditions", Whole),
            (
                "loadBalancer",
                Fields(&[("ingress", Each(&Fields(&[("ip", Whole)])))]),
            ),
        ]),
    ),
];

static NODE: &[(&str, Shape)] = &[(
    "status",
    Fields(&[("addresses", Each(&Fields(&[("type", Whole), ("address", Whole)])))]),
)];

/// What is written to a status is compared with what is there.
const CONDITIONS: (&str, Shape) = ("status", Fields(&[("conditions", Whole)]));

static ENDPOINT: Shape = Fields(&[
    ("address", Whole),
    ("ports", Whole),
    ("labels", Whole),
    ("network", Whole),
    ("locality", Whole),
    ("weight", Whole),
    ("serviceAccount", Whole),
]);

static SERVICE_ENTRY: &[(&str, Shape)] = &[
    (
        "spec",
        Fields(&[
            ("hosts", Whole),
            ("addresses", Whole),
            (
                "ports",
                Each(&Fields(&[
                    ("number", Whole),
                    ("name", Whole),
                    ("protocol", Whole),
                    ("targetPort", Whole),
                ])),
            ),
            ("location", Whole),
            ("resolution", Whole),
            ("endpoints", Each(&ENDPOINT)),
            ("workloadSelector", Fields(&[("labels", Whole)])),
            ("subjectAltNames", Whole),
            ("exportTo", Whole),
        ]),
    ),
    ("status", Fields(&[("conditions", Whole), ("addresses", Whole)])),
];

static WORKLOAD_ENTRY: &[(&str, Shape)] = &[
    (
        "spec",
        Fields(&[
            ("address", Whole),
            ("ports", Whole),
            ("labels", Whole),
            ("network", Whole),
            ("locality", Whole),
            ("weight", Whole),
            ("serviceAccount", Whole),
        ]),
    ),
    CONDITIONS,
];

/// Nothing stems from a group but what its entries say themselves.
static WORKLOAD_GROUP: &[(&str, Shape)] = &[("spec", Fields(&[("template", Fields(&[]))]))];

static GATEWAY: &[(&str, Shape)] = &[
    (
        "spec",
        Fields(&[
            ("gatewayClassName", Whole),
            (
                "listeners",
                Each(&Fields(&[
                    ("name", Whole),
                    ("port", Whole),
                    ("protocol", Whole),
                    (
                        "allowedRoutes",
                        Fields(&[("namespaces", Fields(&[("from", Whole), ("selector", Whole)]))]),
                    ),
                ])),
            ),
            ("addresses", Each(&Fields(&[("type", Whole), ("value", Whole)]))),
        ]),
    ),
    (
        "status",
        Fields(&[("addresses", Each(&Fields(&[("type", Whole), ("value", Whole)])))]),
    ),
];

static GATEWAY_CLASS: &[(&str, Shape)] = &[("spec", Fields(&[("controllerName", Whole)]))];

static ENDPOINT_SLICE: &[(&str, Shape)] = &[
    ("addressType", Whole),
    (
        "endpoints",
        Each(&Fields(&[
            ("addresses", Whole),
            ("conditions", Fields(&[("ready", Whole)])),
            (
                "targetRef",
                Fields(&[
                    ("kind", Whole),
                    ("namespace", Whole),
                    ("name", Whole),
                    ("uid", Whole),
                ]),
            ),
            ("nodeName", Whole),
            ("zone", Whole),
        ])),
    ),
    (
        "ports",
        Each(&Fields(&[("name", Whole), ("port", Whole), ("protocol", Whole)])),
    ),
];

/// Drops from an object what nobody reads.
pub(crate) fn prune(kind: Kind, object: &mut Map<String, Value>) {
    if let Some(Value::Object(fields)) = object.get_mut("metadata") {
        metadata(fields);
    }
    let shape: &[(&str, Shape)] = match kind {
        Kind::Pod => POD,
        Kind::Service => SERVICE,
        Kind::EndpointSlice => ENDPOINT_SLICE,
        Kind::ServiceEntry => SERVICE_ENTRY,
        Kind::WorkloadEntry => WORKLOAD_ENTRY,
        Kind::WorkloadGroup => WORKLOAD_GROUP,
        Kind::Gateway => GATEWAY,
        Kind::GatewayClass => GATEWAY_CLASS,
        Kind::Node => NODE,
        Kind::Namespace | Kind::ServiceAccount => &[],
        // Policies, and kinds that nothing was decided for.
        _ => return,
    };
    let head = ["apiVersion", "kind", "metadata"];
    object.retain(|name, value| head.contains(&name.as_str()) || keep(shape, name, value));
    if kind == Kind::Pod {
        pod(object);
    }
}

fn metadata(fields: &mut Map<String, Value>) {
    fields.retain(|name, _| METADATA.contains(&name.as_str()));
    if let Some(Value::Object(annotations)) = fields.get_mut("annotations") {
        annotations.retain(|key, _| is_read(key));
    }
    if let Some(Value::Array(owners)) = fields.get_mut("ownerReferences") {
        owners.retain(|owner| owner.get("controller") == Some(&Value::Bool(true)));
    }
    for emptied in ["annotations", "ownerReferences", "labels"] {
        let empty = match fields.get(emptied) {
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        };
        if empty {
            fields.remove(emptied);
        }
    }
}

fn is_read(annotation: &str) -> bool {
    let Some((domain, _)) = annotation.split_once('/') else {
        return false;
    };
    ANNOTATION_DOMAINS.iter().any(|read| {
        domain
            .strip_suffix(read)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Of a pod's lists only the items that count: containers with ports (and one in any case, since every pod has one),
/// init containers that stay, the condition Ready, and not the address twice.
fn pod(object: &mut Map<String, Value>) {
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        if let Some(Value::Array(containers)) = spec.get_mut("containers") {
            let mut first = true;
            let has_ports = |container: &Value| {
                let ports = container.get("ports").and_then(Value::as_array);
                ports.is_some_and(|ports| !ports.is_empty())
            };
            let any = containers.iter().any(has_ports);
            containers
                .retain(|container| has_ports(container) || (!any && std::mem::replace(&mut first, false)));
        }
        if let Some(Value::Array(containers)) = spec.get_mut("initContainers") {
            containers.retain(|container| {
                container
                    .get("restartPolicy")
                    .is_some_and(|policy| policy == "Always")
            });
            if containers.is_empty() {
                spec.remove("initContainers");
            }
        }
        if spec.contains_key("serviceAccountName") {
            spec.remove("serviceAccount");
        }
    }
    if let Some(Value::Object(status)) = object.get_mut("status") {
        if let Some(Value::Array(conditions)) = status.get_mut("conditions") {
            conditions.retain(|condition| condition.get("type").is_some_and(|name| name == "Ready"));
        }
        let addresses = status.get("podIPs").and_then(Value::as_array);
        match addresses.map(Vec::as_slice) {
            Some([only]) if only.get("ip") == status.get("podIP") => drop(status.remove("podIPs")),
            Some([_, _, ..]) => drop(status.remove("podIP")),
            _ => {}
        }
    }
}

/// Whether a field is kept, with what is kept of it. Values of another type than expected are kept, for the reader
/// to say so; nulls are not, since they mean that the field is absent.
fn keep(shapes: &[(&str, Shape)], name: &str, value: &mut Value) -> bool {
    match shapes.iter().find(|(known, _)| *known == name) {
        Some((_, shape)) if !value.is_null() => {
            cut(shape, value);
            true
        }
        _ => false,
    }
}

fn cut(shape: &Shape, value: &mut Value) {
    match (shape, value) {
        (Fields(shapes), Value::Object(fields)) => fields.retain(|name, value| keep(shapes, name, value)),
        (Each(shape), Value::Array(items)) => items.iter_mut().for_each(|item| cut(shape, item)),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
