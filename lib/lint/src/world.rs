//! The manifests, found by what rules ask of them.

use std::collections::{BTreeMap, BTreeSet};

use compile::Compiler;
use objects::enrolment::{self, Enrolment, Reason};
use objects::selector::Labels;
use objects::{
    AuthorizationPolicy, DATAPLANE_MODE_AMBIENT, DATAPLANE_MODE_LABEL, DRY_RUN_ANNOTATION, Gateway, Kind,
    NetworkPolicy, Object, ObjectKey, PeerAuthentication, Pod, Protocol, ReadObject, Spec, pod_maker,
    pod_of_template,
};

use crate::input::{Input, Settings};
use crate::{modes, waypoints};

/// The manifests, found by what rules ask of them.
pub(crate) struct World<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) input: &'a Input,
    /// The objects in the order of their keys, each key once.
    pub(crate) objects: BTreeMap<ObjectKey, &'a ReadObject>,
    /// Everything that runs as pods, by namespace and name.
    pub(crate) workloads: Vec<Workload>,
    /// What says which PeerAuthentication counts where; see [`modes`].
    pub(crate) mtls: Compiler,
    /// What says which waypoint stands in front of what.
    pub(crate) waypoints: Compiler,
}

/// Something that runs as a pod: a Pod, or what makes pods.
pub(crate) struct Workload {
    /// As messages name it, such as `Deployment shop/web`.
    pub(crate) name: String,
    pub(crate) object: Object,
    pub(crate) enrolment: Enrolment,
}

/// What a namespace says about the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    InMesh,
    Outside,
    /// The manifests do not hold the namespace.
    Unknown,
}

impl<'a> World<'a> {
    pub(crate) fn new(input: &'a Input, settings: &'a Settings) -> World<'a> {
        let mut objects = BTreeMap::new();
        for read in &input.objects {
            objects.entry(read.object.key()).or_insert(read);
        }
        let mtls = modes::compiler(objects.values().copied(), settings);
        let waypoints = waypoints::compiler(objects.values().copied(), settings);
        let mut world = World {
            settings,
            input,
            objects,
            workloads: Vec::new(),
            mtls,
            waypoints,
        };
        world.workloads = workloads(&world);
        world
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<&'a ReadObject> {
        self.objects.get(&ObjectKey::new(kind, namespace, name)).copied()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &'a ReadObject> {
        let all = self.objects.iter();
        all.filter(move |(key, _)| key.kind == kind)
            .map(|(_, read)| *read)
    }

    pub(crate) fn authorization_policies(
        &self,
    ) -> impl Iterator<Item = (&'a ReadObject, &'a AuthorizationPolicy)> {
        self.of(Kind::AuthorizationPolicy)
            .filter_map(|read| match &read.object.spec {
                Spec::AuthorizationPolicy(policy) => Some((read, policy)),
                _ => None,
            })
    }

    /// Those that node proxies enforce.
    pub(crate) fn enforced(&self) -> impl Iterator<Item = (&'a ReadObject, &'a AuthorizationPolicy)> {
        self.authorization_policies().filter(|(read, policy)| {
            policy.target_refs.is_empty() && policy.action.is_supported() && !is_dry_run(&read.object)
        })
    }

    pub(crate) fn peer_authentications(
        &self,
    ) -> impl Iterator<Item = (&'a ReadObject, &'a PeerAuthentication)> {
        self.of(Kind::PeerAuthentication)
            .filter_map(|read| match &read.object.spec {
                Spec::PeerAuthentication(policy) => Some((read, policy)),
                _ => None,
            })
    }

    pub(crate) fn network_policies(&self) -> impl Iterator<Item = (&'a ReadObject, &'a NetworkPolicy)> {
        self.of(Kind::NetworkPolicy)
            .filter_map(|read| match &read.object.spec {
                Spec::NetworkPolicy(policy) => Some((read, policy)),
                _ => None,
            })
    }

    /// What waypoints stand in front of, Pods excepted.
    pub(crate) fn behind_waypoints(&self) -> impl Iterator<Item = &'a ReadObject> {
        let kinds = [Kind::Service, Kind::ServiceEntry, Kind::WorkloadEntry];
        kinds.into_iter().flat_map(|kind| self.of(kind))
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &'a ReadObject> {
        self.of(Kind::Namespace)
    }

    pub(crate) fn gateway(&self, namespace: &str, name: &str) -> Option<&'a Gateway> {
        match &self.get(Kind::Gateway, namespace, name)?.object.spec {
            Spec::Gateway(gateway) => Some(gateway),
            _ => None,
        }
    }

    /// The labels of a namespace, those that Kubernetes gives included.
    pub(crate) fn namespace_labels(&self, name: &str) -> Labels {
        let object = self.get(Kind::Namespace, "", name);
        let mut labels = object.map_or_else(Labels::new, |read| read.object.metadata.labels.clone());
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        labels
    }

    /// Whether pods of a namespace that the manifests do not hold would be in the mesh.
    pub(crate) fn mode(&self, namespace: &str) -> Mode {
        if enrolment::EXCLUDED_NAMESPACES.contains(&namespace) {
            return Mode::Outside;
        }
        match self.get(Kind::Namespace, "", namespace) {
            None => Mode::Unknown,
            Some(read) => {
                let label = read.object.metadata.labels.get(DATAPLANE_MODE_LABEL);
                if label.is_some_and(|mode| mode == DATAPLANE_MODE_AMBIENT) {
                    Mode::InMesh
                } else {
                    Mode::Outside
                }
            }
        }
    }

    /// Whether the manifests hold a workload in a namespace, or with `None` anywhere.
    pub(crate) fn has_workloads(&self, namespace: Option<&str>) -> bool {
        self.workloads
            .iter()
            .any(|workload| namespace.is_none_or(|namespace| workload.namespace() == namespace))
    }

    /// Whether the manifests know of a namespace.
    pub(crate) fn knows_namespace(&self, name: &str) -> bool {
        self.get(Kind::Namespace, "", name).is_some()
            || self.objects.keys().any(|key| key.namespace == name)
            || enrolment::EXCLUDED_NAMESPACES.contains(&name)
    }

    /// Whether the manifests know of a service account; `default` is in every namespace.
    pub(crate) fn knows_account(&self, namespace: &str, name: &str) -> bool {
        name == "default"
            || self.get(Kind::ServiceAccount, namespace, name).is_some()
            || self.workloads.iter().any(|workload| {
                workload.namespace() == namespace && workload.pod().spec.service_account_name == name
            })
    }
}

impl Workload {
    pub(crate) fn namespace(&self) -> &str {
        &self.object.metadata.namespace
    }

    pub(crate) fn labels(&self) -> &Labels {
        &self.object.metadata.labels
    }

    pub(crate) fn pod(&self) -> &Pod {
        static NONE: std::sync::LazyLock<Pod> = std::sync::LazyLock::new(Pod::default);
        self.object.as_pod().unwrap_or(&NONE)
    }

    pub(crate) fn in_mesh(&self) -> bool {
        self.enrolment == Enrolment::Enrolled
    }

    /// Why it is not in the mesh.
    pub(crate) fn outside(&self) -> Option<Reason> {
        match self.enrolment {
            Enrolment::Enrolled => None,
            Enrolment::No(reason) => Some(reason),
        }
    }

    /// Whether one of its container ports with this name is that port.
    pub(crate) fn names_port(&self, name: &str, protocol: Protocol, port: u16) -> bool {
        self.ports()
            .any(|known| known.name == name && known.protocol == protocol && known.port == port)
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = &objects::ContainerPort> {
        let containers = self.pod().spec.containers_and_sidecars();
        containers.flat_map(|container| container.ports.iter())
    }
}

/// A few names for a message, and how many more there are.
pub(crate) fn some<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 5;
    let names: BTreeSet<&str> = names.into_iter().collect();
    let shown: Vec<&str> = names.iter().copied().take(SHOWN).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

pub(crate) fn is_dry_run(object: &Object) -> bool {
    let annotation = object.metadata.annotations.get(DRY_RUN_ANNOTATION);
    annotation.is_some_and(|value| value == "true")
}

fn workloads(world: &World<'_>) -> Vec<Workload> {
    let mut found = Vec::new();
    for read in world.objects.values() {
        let object = &read.object;
        let pod = match &object.spec {
            Spec::Pod(_) if has_maker(world, object) => None,
            Spec::Pod(_) => Some(object.clone()),
            Spec::Deployment(_) => object.raw().pointer("/spec/template").and_then(|template| {
                pod_of_template(template, &object.metadata.namespace, &object.metadata.name).ok()
            }),
            _ => None,
        };
        found.extend(pod.map(|pod| (object.key().to_string(), pod)));
    }
    for unread in &world.input.unread {
        let Some(maker) = pod_maker(unread) else { continue };
        let name = format!("{} {}/{}", unread.kind, unread.namespace, maker.name());
        // What is wrong with others is a finding; see `unread`.
        found.extend(maker.pod().ok().map(|pod| (name, pod)));
    }
    let mut workloads: Vec<Workload> = found
        .into_iter()
        .map(|(name, object)| {
            let namespace = world.get(Kind::Namespace, "", &object.metadata.namespace);
            let enrolment = enrolment::wanted(&object, namespace.map(|read| &read.object));
            Workload {
                name,
                object,
                enrolment,
            }
        })
        .collect();
    workloads.sort_by(|one, other| (one.namespace(), &one.name).cmp(&(other.namespace(), &other.name)));
    workloads
}

/// Whether the Deployment that made a pod is there too and speaks for it.
fn has_maker(world: &World<'_>, pod: &Object) -> bool {
    let metadata = &pod.metadata;
    metadata.owner.is_some()
        && world.of(Kind::Deployment).any(|read| {
            read.object.metadata.namespace == metadata.namespace
                && read
                    .object
                    .as_deployment()
                    .is_some_and(|deployment| deployment.selector.matches(&metadata.labels))
        })
}
