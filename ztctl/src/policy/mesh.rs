//! What is the same for the whole mesh: as said on the command line, else in the objects themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use compile::{MeshFlags, Settings};
use objects::enrolment::{self, Enrolment};
use objects::selector::Labels;
use objects::{DATAPLANE_MODE_LABEL, Kind, MeshConfig, Object, ObjectKey, Selector, Spec, is_of_revision};

use super::Failure;

/// The ConfigMap in the control plane's namespace that holds the mesh's settings, and the key of them, as in Istio.
pub(super) const CONFIG_MAP: &str = "istio";
const KEY: &str = "mesh";

/// Where the settings of the mesh are, and what of its objects the control plane reads.
#[derive(Args, Default)]
pub(crate) struct Reading {
    /// The namespace whose policies apply to the whole mesh. Without it that of the ConfigMap istio, else istio-system
    #[arg(long)]
    pub(super) root_namespace: Option<String>,
    /// The namespace of the control plane, where the ConfigMap istio with the mesh's settings is; by default the root
    /// namespace that is given, else istio-system
    #[arg(long)]
    control_plane_namespace: Option<String>,
    /// The revision of the control plane, which reads no policies and entries with another label istio.io/rev; without it
    /// all count
    #[arg(long, default_value = "")]
    revision: String,
}

impl Reading {
    /// The namespace of the control plane.
    pub(super) fn home(&self) -> String {
        let said = self
            .control_plane_namespace
            .as_ref()
            .or(self.root_namespace.as_ref());
        said.cloned()
            .unwrap_or_else(|| Settings::default().root_namespace)
    }

    /// What these objects say about the mesh.
    pub(super) fn config<'a>(
        &self,
        mut objects: impl Iterator<Item = &'a Object>,
    ) -> Result<MeshConfig, Failure> {
        let key = ObjectKey::new(Kind::ConfigMap, &self.home(), CONFIG_MAP);
        let text = match objects
            .find(|object| object.key() == key)
            .map(|object| &object.spec)
        {
            Some(Spec::ConfigMap(map)) => map.data.get(KEY).map_or("", String::as_str),
            _ => "",
        };
        MeshConfig::parse(text).map_err(|errors| Failure::Usage(format!("{key}: {errors}")))
    }

    /// The settings of a mesh with this configuration.
    pub(super) fn settings(&self, config: &MeshConfig, trust_domain: Option<&String>) -> Settings {
        let flags = MeshFlags {
            trust_domain: trust_domain.cloned(),
            root_namespace: self.root_namespace.clone(),
        };
        Settings::default().in_mesh(config, &flags)
    }

    /// Whether the control plane reads an object.
    pub(super) fn is_read(&self, object: &Object) -> bool {
        is_of_revision(object, &self.revision)
    }
}

/// What is the same for the whole mesh.
#[derive(Args, Default)]
pub(crate) struct Mesh {
    /// The trust domain of every identity. Without it that of the ConfigMap istio, else cluster.local
    #[arg(long)]
    trust_domain: Option<String>,
    #[command(flatten)]
    pub(super) reading: Reading,
}

impl Mesh {
    /// The settings of a mesh with these objects, and the objects that take part in it.
    pub(super) fn of(&self, mut objects: Vec<Arc<Object>>) -> Result<(Settings, Vec<Arc<Object>>), Failure> {
        let config = self.reading.config(objects.iter().map(Arc::as_ref))?;
        let settings = self.reading.settings(&config, self.trust_domain.as_ref());
        objects.retain(|object| self.reading.is_read(object));
        if !config.discovery_selectors.is_empty() {
            objects = participants(objects, &config.discovery_selectors, &settings.root_namespace);
        }
        Ok((settings, objects))
    }
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
