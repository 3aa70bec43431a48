//! How lists and maps merge: which lists are sets or have keys, for server-side apply and strategic merge patch.
//!
//! For built-in kinds a table holds what the Kubernetes API reference says (`listType`, `patchMergeKey`). For kinds
//! by definition the schema says it (`x-kubernetes-list-type`); a list of which nothing is said is replaced whole.

use serde_json::Value;

use crate::kinds::Resource;

/// A place in an object of some kind.
#[derive(Clone, Debug)]
pub(crate) enum Shape<'a> {
    /// By the table: kind and path, list items without a part of their own.
    Table {
        /// The kind, or empty below `metadata`.
        kind: &'a str,
        path: String,
    },
    /// By a schema of OpenAPI.
    Schema(&'a Value),
    /// Nothing is known.
    Unknown,
}

/// What a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum List<'a> {
    /// One value.
    Atomic,
    /// Items are their own keys.
    Set,
    /// Items are known by these fields.
    Map(Vec<&'a str>),
}

impl<'a> Shape<'a> {
    pub(crate) fn of(resource: &'a Resource) -> Shape<'a> {
        match &resource.custom {
            None => Shape::Table {
                kind: &resource.kind,
                path: String::new(),
            },
            Some(custom) => custom.schema.as_deref().map_or(Shape::Unknown, Shape::Schema),
        }
    }

    /// The place of a field of this map. `metadata` is the same for all kinds.
    pub(crate) fn field(&self, name: &str, at_root: bool) -> Shape<'a> {
        if at_root && name == "metadata" {
            return Shape::Table {
                kind: "",
                path: "metadata".to_owned(),
            };
        }
        match self {
            Shape::Table {
                kind: "Deployment",
                path,
            } if path == "spec" && name == "template" => Shape::Table {
                kind: "Pod",
                path: String::new(),
            },
            Shape::Table { kind, path } => Shape::Table {
                kind,
                path: if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}.{name}")
                },
            },
            Shape::Schema(schema) => schema
                .get("properties")
                .and_then(|properties| properties.get(name))
                .or_else(|| {
                    schema
                        .get("additionalProperties")
                        .filter(|inner| inner.is_object())
                })
                .map_or(Shape::Unknown, Shape::Schema),
            Shape::Unknown => Shape::Unknown,
        }
    }

    /// The place of the items of this list.
    pub(crate) fn item(&self) -> Shape<'a> {
        match self {
            Shape::Schema(schema) => schema.get("items").map_or(Shape::Unknown, Shape::Schema),
            other => other.clone(),
        }
    }

    pub(crate) fn list(&self) -> List<'a> {
        match self {
            Shape::Table { .. } => match self.row() {
                Some(Row {
                    keys: [],
                    atomic: false,
                    ..
                }) => List::Set,
                Some(Row {
                    keys, atomic: false, ..
                }) => List::Map(keys.to_vec()),
                _ => List::Atomic,
            },
            Shape::Schema(schema) => match schema["x-kubernetes-list-type"].as_str() {
                Some("set") => List::Set,
                Some("map") => {
                    let keys = schema["x-kubernetes-list-map-keys"].as_array();
                    List::Map(
                        keys.map(|keys| keys.iter().filter_map(Value::as_str).collect())
                            .unwrap_or_default(),
                    )
                }
                _ => List::Atomic,
            },
            Shape::Unknown => List::Atomic,
        }
    }

    /// Whether this map is replaced whole.
    pub(crate) fn is_atomic_map(&self) -> bool {
        match self {
            Shape::Table { .. } => self.row().is_some_and(|row| row.atomic),
            Shape::Schema(schema) => schema["x-kubernetes-map-type"] == "atomic",
            Shape::Unknown => false,
        }
    }

    /// The merge key of strategic merge patches; empty for lists of plain values that are merged.
    pub(crate) fn merge_key(&self) -> Option<&'static str> {
        self.row().and_then(|row| row.merge_key)
    }

    fn row(&self) -> Option<&'static Row> {
        let Shape::Table { kind, path } = self else {
            return None;
        };
        ROWS.iter().find(|row| row.kind == *kind && row.path == path)
    }
}

/// What a key field that is left out stands for.
pub(crate) fn key_default(field: &str) -> Option<Value> {
    (field == "protocol").then(|| Value::from("TCP"))
}

#[derive(Debug)]
struct Row {
    kind: &'static str,
    path: &'static str,
    keys: &'static [&'static str],
    merge_key: Option<&'static str>,
    atomic: bool,
}

const fn keyed(kind: &'static str, path: &'static str, keys: &'static [&'static str]) -> Row {
    Row {
        kind,
        path,
        keys,
        merge_key: Some(keys[0]),
        atomic: false,
    }
}

const fn set(kind: &'static str, path: &'static str) -> Row {
    Row {
        kind,
        path,
        keys: &[],
        merge_key: Some(""),
        atomic: false,
    }
}

const fn atomic(kind: &'static str, path: &'static str) -> Row {
    Row {
        kind,
        path,
        keys: &[],
        merge_key: None,
        atomic: true,
    }
}

/// Atomic for server-side apply, merged by key in strategic merge patches.
const fn half(kind: &'static str, path: &'static str, key: &'static str) -> Row {
    Row {
        kind,
        path,
        keys: &[],
        merge_key: Some(key),
        atomic: true,
    }
}

const ROWS: &[Row] = &[
    keyed("", "metadata.ownerReferences", &["uid"]),
    set("", "metadata.finalizers"),
    keyed("Pod", "spec.containers", &["name"]),
    keyed("Pod", "spec.initContainers", &["name"]),
    keyed("Pod", "spec.containers.ports", &["containerPort", "protocol"]),
    keyed("Pod", "spec.containers.env", &["name"]),
    keyed("Pod", "spec.containers.volumeMounts", &["mountPath"]),
    keyed("Pod", "spec.initContainers.ports", &["containerPort", "protocol"]),
    keyed("Pod", "spec.initContainers.env", &["name"]),
    keyed("Pod", "spec.initContainers.volumeMounts", &["mountPath"]),
    keyed("Pod", "spec.volumes", &["name"]),
    keyed("Pod", "spec.imagePullSecrets", &["name"]),
    keyed("Pod", "spec.hostAliases", &["ip"]),
    keyed(
        "Pod",
        "spec.topologySpreadConstraints",
        &["topologyKey", "whenUnsatisfiable"],
    ),
    keyed("Pod", "spec.schedulingGates", &["name"]),
    atomic("Pod", "spec.nodeSelector"),
    keyed("Pod", "status.conditions", &["type"]),
    keyed("Pod", "status.podIPs", &["ip"]),
    half("Pod", "status.hostIPs", "ip"),
    keyed("Service", "spec.ports", &["port", "protocol"]),
    atomic("Service", "spec.selector"),
    keyed("Service", "status.conditions", &["type"]),
    keyed("Node", "status.conditions", &["type"]),
    keyed("Node", "status.addresses", &["type"]),
    set("Node", "spec.podCIDRs"),
    keyed("Namespace", "status.conditions", &["type"]),
    keyed("ServiceAccount", "secrets", &["name"]),
    half("ServiceAccount", "imagePullSecrets", "name"),
    keyed("Deployment", "status.conditions", &["type"]),
    atomic("Deployment", "spec.selector"),
    atomic("NetworkPolicy", "spec.podSelector"),
    atomic("EndpointSlice", "endpoints"),
    keyed("CustomResourceDefinition", "status.conditions", &["type"]),
];
