//! What is the same for the whole mesh: as said on the command line, else in the objects themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use compile::Settings;
use objects::enrolment::{self, Enrolment};
use objects::selector::Labels;
use objects::{DATAPLANE_MODE_LABEL, Kind, MeshConfig, Object, ObjectKey, Selector, Spec};

use super::Failure;

/// The ConfigMap in the root namespace that holds the mesh's settings, and the key of them, as in Istio.
pub(super) const CONFIG_MAP: &str = "istio";
const KEY: &str = "mesh";

/// What is the same for the whole mesh.
#[derive(Args)]
pub(crate) struct Mesh {
    /// The trust domain of every identity. Without it that of the ConfigMap istio in the root namespace, else
    /// cluster.local
    #[arg(long)]
    trust_domain: Option<String>,
    /// The namespace whose policies apply to the whole mesh
    #[arg(long, default_value = "istio-system")]
    root_namespace: String,
}

impl Mesh {
    pub(super) fn root_namespace(&self) -> &str {
        &self.root_namespace
    }

    /// The settings of a mesh with these objects, and the objects that take part in it.
    pub(super) fn of(&self, mut objects: Vec<Arc<Object>>) -> Result<(Settings, Vec<Arc<Object>>), Failure> {
        let config = config(objects.iter().map(Arc::as_ref), &self.root_namespace)?;
        let defaults = Settings::default();
        let settings = Settings {
            trust_domain: self
                .trust_domain
                .clone()
                .or(config.trust_domain)
                .unwrap_or(defaults.trust_domain),
            root_namespace: self.root_namespace.clone(),
            ..Settings::default()
        };
        if !config.discovery_selectors.is_empty() {
            objects = participants(objects, &config.discovery_selectors, &self.root_namespace);
        }
        Ok((settings, objects))
    }
}

/// What the objects say about the mesh.
pub(super) fn config<'a>(
    mut objects: impl Iterator<Item = &'a Object>,
    root_namespace: &str,
) -> Result<MeshConfig, Failure> {
    let key = ObjectKey::new(Kind::ConfigMap, root_namespace, CONFIG_MAP);
    let text = match objects
        .find(|object| object.key() == key)
        .map(|object| &object.spec)
    {
        Some(Spec::ConfigMap(map)) => map.data.get(KEY).map_or("", String::as_str),
        _ => "",
    };
    MeshConfig::parse(text).map_err(|errors| Failure::Usage(format!("{key}: {errors}")))
}

/// What is left where namespaces take part by selectors: of the others their pods that are not in the mesh, which call
/// into it all the same. The root namespace takes part always, as its policies hold for the whole mesh.
fn participants(objects: Vec<Arc<Object>>, selectors: &[Selector], root_namespace: &str) -> Vec<Arc<Object>> {
    let namespaces: BTreeMap<String, Arc<Object>> = objects
        .iter()
        .filter(|object| object.kind() == Kind::Namespace)
        .map(|object| (object.metadata.name.clone(), Arc::clone(object)))
        .collect();
    let takes_part = |name: &str| {
        let none = Labels::new();
        let labels = namespaces
            .get(name)
            .map_or(&none, |object| &object.metadata.labels);
        name == root_namespace || selectors.iter().any(|selector| selector.matches(labels))
    };
    let is_caller = |object: &Object| {
        let namespace = namespaces.get(&object.metadata.namespace).map(Arc::as_ref);
        match object.kind() {
            Kind::Pod => enrolment::wanted(object, namespace) != Enrolment::Enrolled,
            // It stands for a pod, which has no labels but its template's.
            Kind::Deployment => {
                !namespace.is_some_and(|object| object.metadata.labels.contains_key(DATAPLANE_MODE_LABEL))
            }
            kind => !kind.is_namespaced(),
        }
    };
    let mut objects = objects;
    objects.retain(|object| takes_part(&object.metadata.namespace) || is_caller(object));
    objects
}
