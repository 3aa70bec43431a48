//! The kinds that are served: those that are always there, and those that a CustomResourceDefinition brings.

use std::sync::{Arc, OnceLock};

use kube_cel::CompiledSchema;

use serde_json::Value;

use crate::columns::Column;

/// One resource with all its versions.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    /// The first is the preferred one, and the one in which objects are kept.
    pub(crate) versions: Vec<String>,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) namespaced: bool,
    /// Whether there is a `status` subresource.
    pub(crate) status: bool,
    /// Whether `metadata.generation` counts the changes of the specification.
    pub(crate) generation: bool,
    /// Whether an update must name the version it is based on.
    pub(crate) update_needs_version: bool,
    /// What a definition brought, for those that are not built in.
    pub(crate) custom: Option<Custom>,
    pub(crate) columns: Vec<Column>,
    /// For a resource that shows the objects of another group under other names.
    pub(crate) view: Option<View>,
}

/// The names by which a resource shows what another one keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// The id of the resource that keeps the objects.
    of: &'static str,
    /// Fields of the object: the name here, and there.
    fields: &'static [(&'static str, &'static str)],
}

/// Events of `events.k8s.io` are those of the core group (API reference, "Event v1 events.k8s.io").
const EVENTS: View = View {
    of: "events",
    fields: &[
        ("regarding", "involvedObject"),
        ("note", "message"),
        ("reportingController", "reportingComponent"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
    ],
};

impl View {
    /// The name under which a field is kept.
    pub(crate) fn kept<'a>(&self, name: &'a str) -> &'a str {
        let found = self.fields.iter().find(|(here, _)| *here == name);
        found.map_or(name, |(_, there)| there)
    }

    fn rename(object: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) {
        let Some(fields) = object.as_object_mut() else {
            return;
        };
        for (from, to) in names {
            if let Some(value) = fields.remove(from) {
                fields.insert(to.to_owned(), value);
            }
        }
    }
}

/// What only resources by definition have.
#[derive(Clone, Debug)]
pub(crate) struct Custom {
    /// The OpenAPI schema of the preferred version.
    pub(crate) schema: Option<Arc<Value>>,
    /// The definition's uid: one that was deleted and made again is another one.
    pub(crate) uid: String,
    /// The rules of the schema, compiled when they are asked first.
    pub(crate) rules: OnceLock<Arc<CompiledSchema>>,
}

impl Custom {
    /// The rules of the schema.
    pub(crate) fn rules(&self) -> Option<&CompiledSchema> {
        let schema = self.schema.as_deref()?;
        let compile = || Arc::new(kube_cel::compile_schema(schema));
        Some(self.rules.get_or_init(compile))
    }
}

impl Resource {
    /// The name by which the store knows it: `pods`, `peerauthentications.security.istio.io`.
    pub(crate) fn id(&self) -> String {
        self.view
            .map_or_else(|| self.qualified(), |view| view.of.to_owned())
    }

    /// Gives the fields of an object that came in the names under which they are kept.
    pub(crate) fn keep(&self, object: &mut Value) {
        if let Some(view) = &self.view {
            View::rename(object, view.fields.iter().copied());
        }
    }

    /// An object as it is shown here, where that may be other than it is kept.
    pub(crate) fn shown(&self, object: &Value) -> Option<Value> {
        let fields = self.view?.fields.iter();
        let mut object = object.clone();
        View::rename(&mut object, fields.map(|(here, there)| (*there, *here)));
        Some(object)
    }

    /// `v1`, `security.istio.io/v1`.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }

    /// How messages and faults call it: `pods`, `peerauthentications.security.istio.io`.
    pub(crate) fn qualified(&self) -> String {
        resource_id(&self.group, &self.plural)
    }

    /// The version that the owners of fields are recorded with. Those of a view own the fields that are kept.
    pub(crate) fn owned_version(&self, version: &str) -> String {
        match self.view {
            Some(_) => version.to_owned(),
            None => self.api_version(version),
        }
    }
}

pub(crate) fn resource_id(group: &str, plural: &str) -> String {
    if group.is_empty() {
        plural.to_owned()
    } else {
        format!("{plural}.{group}")
    }
}

/// Id of the definitions themselves.
pub(crate) const DEFINITIONS: &str = "customresourcedefinitions.apiextensions.k8s.io";

/// A built-in resource, as a line of a table.
struct Line {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    namespaced: bool,
    status: bool,
    generation: bool,
}

const fn line(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    [namespaced, status, generation]: [bool; 3],
) -> Line {
    Line {
        group,
        version,
        plural,
        kind,
        short_names,
        namespaced,
        status,
        generation,
    }
}

const LINES: [Line; 14] = [
    line("", "v1", "namespaces", "Namespace", &["ns"], [false, true, false]),
    line("", "v1", "nodes", "Node", &["no"], [false, true, false]),
    line("", "v1", "pods", "Pod", &["po"], [true, true, false]),
    line("", "v1", "services", "Service", &["svc"], [true, true, false]),
    line(
        "",
        "v1",
        "serviceaccounts",
        "ServiceAccount",
        &["sa"],
        [true, false, false],
    ),
    line("", "v1", "configmaps", "ConfigMap", &["cm"], [true, false, false]),
    line("", "v1", "secrets", "Secret", &[], [true, false, false]),
    line("", "v1", "events", "Event", &["ev"], [true, false, false]),
    line(
        "events.k8s.io",
        "v1",
        "events",
        "Event",
        &["ev"],
        [true, false, false],
    ),
    line(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        &[],
        [true, false, true],
    ),
    line(
        "coordination.k8s.io",
        "v1",
        "leases",
        "Lease",
        &[],
        [true, false, false],
    ),
    line(
        "apps",
        "v1",
        "deployments",
        "Deployment",
        &["deploy"],
        [true, true, true],
    ),
    line(
        "networking.k8s.io",
        "v1",
        "networkpolicies",
        "NetworkPolicy",
        &["netpol"],
        [true, false, true],
    ),
    line(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &["crd", "crds"],
        [false, true, true],
    ),
];

/// What is served without any definition.
pub(crate) fn built_in() -> Vec<Arc<Resource>> {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    LINES
        .iter()
        .map(|line| {
            let categories: &[&str] = match line.plural {
                "pods" | "services" | "deployments" => &["all"],
                "customresourcedefinitions" => &["api-extensions"],
                _ => &[],
            };
            Arc::new(Resource {
                group: line.group.to_owned(),
                versions: vec![line.version.to_owned()],
                plural: line.plural.to_owned(),
                singular: line.kind.to_ascii_lowercase(),
                kind: line.kind.to_owned(),
                short_names: owned(line.short_names),
                categories: owned(categories),
                namespaced: line.namespaced,
                status: line.status,
                generation: line.generation,
                update_needs_version: matches!(line.plural, "leases" | "customresourcedefinitions"),
                custom: None,
                columns: crate::columns::of_built_in(line.plural),
                view: (line.group == "events.k8s.io").then_some(EVENTS),
            })
        })
        .collect()
}
