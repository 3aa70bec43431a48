//! What is the same for the whole mesh: as said on the command line, else in the objects themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::Args;
use compile::Settings;
use objects::{Kind, MeshConfig, Object, ObjectKey, Spec};

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

    /// The settings of a mesh with these objects, and the objects that take part in it: those of namespaces that
    /// `discoverySelectors` leave out do not.
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
            let namespaces = objects.iter().filter(|object| object.kind() == Kind::Namespace);
            let selected = namespaces.filter(|namespace| {
                let mut selectors = config.discovery_selectors.iter();
                selectors.any(|selector| selector.matches(&namespace.metadata.labels))
            });
            let mut shown: BTreeSet<String> = selected
                .map(|namespace| namespace.metadata.name.clone())
                .collect();
            // Its policies hold for the whole mesh.
            shown.insert(self.root_namespace.clone());
            objects.retain(|object| match object.kind() {
                Kind::Namespace => shown.contains(&object.metadata.name),
                kind => !kind.is_namespaced() || shown.contains(&object.metadata.namespace),
            });
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
